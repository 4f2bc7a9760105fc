from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from timm_lp.experiments.sudoku.config import SudokuConfig
from timm_lp.experiments.sudoku.data import Boards, TrainingBatches, load_boards
from timm_lp.experiments.sudoku.evaluation import evaluate, evaluate_one_at_a_time, in_percent
from timm_lp.experiments.sudoku.training import Outcome, Training, run_trial
from timm_lp.models.sudoku import create_network
from timm_lp.trials.checkpoint import CheckpointFile
from timm_lp.trials.record import DivergedError
from timm_lp.trials.runner import OnProgress

BOARDS = {"path": None, "puzzles": 30, "test_puzzles": 5, "seed": 0}  # 6 batches of 4 an epoch, and a puzzle is left


class Trial(NamedTuple):
    """The first arguments of `run_trial`."""

    config: SudokuConfig
    boards: Boards
    variant: str
    seed: int


def _trial(variant: str = "lp2", seed: int = 1, **settings: object) -> Trial:
    usual = {"channels": 4, "depth": 2, "input": "one-hot", "batch_size": 4, "epochs": 3, "lr": 0.01}
    return Trial(SudokuConfig(**{**usual, "stepwise_puzzles": 2, **settings}), load_boards(**BOARDS), variant, seed)


def _run(trial: Trial, checkpoint: Path | None = None, on_progress: OnProgress = lambda *_: None) -> Outcome:
    file = None if checkpoint is None else CheckpointFile(checkpoint, {}, 0)
    return run_trial(*trial, Accelerator(cpu=True), on_progress, file)


def _seen(trial: Trial, checkpoint: Path | None = None) -> tuple[Outcome, list[int]]:
    """Run a trial, and return the puzzles seen at each look at the loss too."""
    seen: list[int] = []
    return _run(trial, checkpoint, lambda puzzles, loss: seen.append(puzzles)), seen


def test_the_last_state_is_tested_and_each_epoch_is_kept() -> None:
    trial = _trial()
    outcome, seen = _seen(trial)
    assert outcome.history["puzzles"] == [24, 48, 72]
    assert seen[-1] == 72
    assert outcome.history["seconds"] == sorted(outcome.history["seconds"])
    accelerator = Accelerator(cpu=True)
    whole = in_percent(evaluate(outcome.network, trial.boards.test, batch_size=9, accelerator=accelerator))
    some = trial.boards.test.take(np.arange(2))
    filled = in_percent(evaluate_one_at_a_time(outcome.network, some, batch_size=9, accelerator=accelerator))
    assert outcome.metrics == pytest.approx({**whole, **{f"stepwise_{name}": value for name, value in filled.items()}})
    for name, value in whole.items():
        assert outcome.history[name][-1] == pytest.approx(value)
    assert {len(values) for values in outcome.history.values()} == {3}


def test_trains_as_the_training_does_step_by_step() -> None:
    trial = _trial(puzzles_seen=30)  # 8 steps, of which 2 in the second epoch
    outcome = _run(trial)
    assert outcome.history["puzzles"] == [24, 32]
    torch.manual_seed(trial.seed)
    network = create_network("lp2", channels=4, depth=2, inputs="one-hot")
    batches = TrainingBatches(trial.boards.training, 4, trial.seed)
    training = Training(network, batches, steps=8, lr=0.01, accelerator=Accelerator(cpu=True))
    losses = [training.advance(1) for _ in range(8)]
    assert outcome.history["train_loss"] == pytest.approx([np.mean(losses[:6]), np.mean(losses[6:])])
    for name, value in network.state_dict().items():
        torch.testing.assert_close(outcome.network.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("after", [24, 48, 72])
def test_goes_on_from_the_checkpoint_to_the_same_numbers(tmp_path: Path, after: int) -> None:
    trial = _trial(schedule="cosine")
    whole = _run(trial)

    def stop(puzzles: int, loss: float) -> None:
        if puzzles == after:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        _run(trial, path, stop)
    assert path.exists() == (after > 24)
    resumed, seen = _seen(trial, path)
    assert seen[0] == max(24, after - 24)
    assert resumed.metrics == whole.metrics
    same = [name for name in whole.history if name != "seconds"]
    assert [resumed.history[name] for name in same] == [whole.history[name] for name in same]


def test_a_loss_that_is_no_number_ends_the_trial() -> None:
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) after 24 of 72 puzzles"):
        _run(_trial("base", lr=1e30))


def test_a_test_that_is_no_number_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Training.advance

    def advance(self: Training, steps: int) -> float:
        loss = original(self, steps)
        self.network.head.bias.data[0] = float("inf")
        return loss

    monkeypatch.setattr(Training, "advance", advance)
    with pytest.raises(DivergedError, match=r"the loss on the test puzzles became (nan|inf) after 24 of 72 puzzles"):
        _run(_trial("base"))


def test_no_puzzle_is_filled_cell_by_cell_where_none_is_asked_for() -> None:
    outcome = _run(_trial("base", stepwise_puzzles=0, epochs=1))
    assert not [name for name in outcome.metrics if name.startswith("stepwise_")]


def test_the_variants_of_a_seed_see_the_same_puzzles_and_start_as_one_function() -> None:
    runs = [_run(_trial(variant, epochs=1, lr=1e-12)) for variant in ("base", "large", "lp2", "lp256f")]
    for outcome in runs[1:]:
        assert outcome.history["train_loss"] == pytest.approx(runs[0].history["train_loss"], rel=1e-5)
