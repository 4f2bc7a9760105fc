import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tests.distributed import run_on_two_processes
from tests.processes import WarmPython
from timm_lp.experiments.accelerator import create_accelerator, share_norms
from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.ablation_report import ablate
from timm_lp.experiments.sudoku.data import TrainingBatches
from timm_lp.experiments.sudoku.evaluation import evaluate, evaluate_one_at_a_time
from timm_lp.experiments.sudoku.experiment import Experiment
from timm_lp.experiments.sudoku.flags import parse_arguments
from timm_lp.experiments.sudoku.training import Training
from timm_lp.masks.history import read_masks
from timm_lp.models.sudoku import create_network

from ..tracked import logged

FLAGS = (
    *("--puzzles", "45", "--test-puzzles", "5", "--channels", "4", "--depth", "2", "--input", "one-hot"),
    *("--epochs", "2", "--batch-size", "10", "--lr", "0.001", "--stepwise-puzzles", "3", "--ablate-draws", "1"),
    *("--variants", "base", "lp2", "--seeds", "1", "--tracker", "tensorboard", "--track-masks"),
)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return create_network("lp2", channels=4, depth=2, inputs="one-hot").double()


def _scores(accelerator: Accelerator) -> list[dict[str, float]]:
    data = generate_puzzles(5, seed=0)
    return [
        measure(_network(), data, batch_size=2, accelerator=accelerator)
        for measure in (evaluate, evaluate_one_at_a_time)
    ]


def _train(accelerator: Accelerator, batch_size: int) -> tuple[dict[str, Tensor], float]:
    """Return the state of a network after some steps, and their mean loss."""
    network = _network()
    if accelerator.num_processes > 1:
        share_norms(network)
    batches = TrainingBatches(generate_puzzles(6, seed=1), batch_size, seed=0)
    training = Training(network, batches, steps=3, lr=0.01, channels_last=False, accelerator=accelerator)
    loss = training.advance(3)
    # Norms take the convolutions' biases out of the outputs; their gradients are rounding, which Adam enlarges.
    return {name: value for name, value in network.state_dict().items() if not name.endswith("conv.bias")}, loss


def _in_each_process() -> None:
    accelerator = create_accelerator(mixed_precision=None, cpu_threads=1, tracker="tensorboard", output_dir="two")
    scores = _scores(accelerator)
    state, loss = _train(accelerator, batch_size=4)
    try:
        _train(accelerator, batch_size=3)
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    found = {"scores": scores, "loss": loss, "refusal": refusal}
    Path(f"{accelerator.process_index}.json").write_text(json.dumps(found), encoding="utf-8")
    torch.save(state, f"{accelerator.process_index}.pt")
    _experiment("two", accelerator)


def _experiment(folder: str, accelerator: Accelerator) -> None:
    """Run the experiment, and ablate what it trained."""
    config, _ = parse_arguments([*FLAGS, "--output-dir", folder])
    Experiment(config, accelerator).run()
    accelerator.wait_for_everyone()
    ablate(config, accelerator)


def _loss_curves(folder: Path) -> dict[str, list[float]]:
    records = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("trial.json")}
    return {name: [record["metrics"]["loss"], *record["history"]["train_loss"]] for name, record in records.items()}


def test_two_processes_do_what_one_does(tmp_path: Path, python: WarmPython) -> None:
    done = run_on_two_processes(python, "-m", __name__, cwd=tmp_path)
    assert "Grad strides" not in done.stderr
    accelerator = Accelerator(cpu=True)
    state, loss = _train(accelerator, batch_size=4)
    for process in range(2):
        found = json.loads((tmp_path / f"{process}.json").read_text(encoding="utf-8"))
        for scores, expected in zip(found["scores"], _scores(accelerator), strict=True):
            assert scores == pytest.approx(expected)
        assert found["loss"] == pytest.approx(loss)
        torch.testing.assert_close(torch.load(tmp_path / f"{process}.pt"), state, rtol=1e-6, atol=1e-9)
        assert "`batch_size` must be a multiple of the 2 processes, got 3" in found["refusal"]
    _experiment(str(tmp_path / "one"), accelerator)
    curves = [_loss_curves(tmp_path / folder) for folder in ("one", "two")]
    assert curves[0].keys() == curves[1].keys() == {"base-seed1", "lp2-seed1"}
    for name, expected in curves[0].items():
        assert curves[1][name] == pytest.approx(expected, rel=1e-3)
    rows = [json.loads((tmp_path / folder / "ablation.json").read_text())["rows"] for folder in ("one", "two")]
    assert len(rows[0]) == len(rows[1])
    for row, expected in zip(rows[1], rows[0], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    one, two = (read_masks(next((tmp_path / folder).rglob("lp2-seed1"))) for folder in ("one", "two"))
    assert [*one] == [*two] == [0, 1, 2]
    for layer, expected in zip(two[2], one[2], strict=True):
        torch.testing.assert_close(layer.C, expected.C, rtol=1e-3, atol=1e-5)
    runs = logged(tmp_path / "two" / "timm-lp-sudoku")
    assert [[step for step, _ in curves["loss"]] for curves in runs.values()] == [[0, 1]] * 2
    machines = [json.loads(path.read_text())["machine"] for path in (tmp_path / "two").rglob("trial.json")]
    assert {machine["num_processes"] for machine in machines} == {2}


if __name__ == "__main__":
    _in_each_process()
