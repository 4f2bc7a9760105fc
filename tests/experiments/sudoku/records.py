"""Records of trials that never ran."""

from dataclasses import replace

from timm_lp.trials.record import DataInfo, Machine, TrialRecord

MEASURES = ("row", "column", "box", "sudoku", "number", "blank", "exact")


def record(variant: str, seed: int, blank: float | None, *, model: str = "sudoku8x3-one-hot") -> TrialRecord:
    """Return what a trial would have left: its measures are multiples of `blank`, which failed if it is None."""
    trial = TrialRecord(
        folder=f"generated/{model}/{variant}-seed{seed}",
        dataset=DataInfo("generated", "generated"),
        dataset_argument="generated",
        data_sha256="digest",
        model=model,
        variant=variant,
        network=f"{variant}_{model}",
        seed=seed,
        shots=None,
        held_out=False,
        settings={"channels": 8, "depth": 3, "input": "one-hot", "stepwise_puzzles": 7, "lr": 0.1},
        command="python -m timm_lp.experiments.sudoku",
        machine=Machine("cpu", 1, 2),
        versions={"timm-lp": "1.0"},
        num_train=900,
        num_test=100,
    )
    if blank is None:
        return replace(trial, error="the loss became nan after 500 of 2,000 puzzles")
    metrics = {name: blank * place / 6 for place, name in enumerate(MEASURES, 1)}
    stepwise = {f"stepwise_{name}": value + 1 for name, value in metrics.items()}
    history = {name: [value / 2, value] for name, value in {"loss": 2.0, **metrics}.items()}
    course = {"puzzles": [1000.0, 2000.0], "seconds": [10.0 * seed, 20.0 * seed], "train_loss": [2.0, 1.5]}
    return replace(
        trial,
        metrics={"loss": 2.0, **metrics, **stepwise},
        parameters=1234,
        train_seconds=20.0 * seed,
        history={**course, **history},
        details={"puzzles_per_second": 100.0 / seed, "test_seconds": 1.0},
    )


RECORDS = [
    *(record("lp2", seed, blank) for seed, blank in ((1, 40.0), (2, 44.0))),
    *(record("base", seed, blank) for seed, blank in ((1, 30.0), (2, 32.0))),
    record("large", 1, None),
]
