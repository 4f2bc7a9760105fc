import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.evaluation import evaluate, evaluate_one_at_a_time
from timm_lp.experiments.sudoku.networks import create_network
from timm_lp.experiments.sudoku.training import Training, TrainingBatches

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _network() -> nn.Module:
    torch.manual_seed(0)
    return create_network("lp2", channels=4, depth=2, inputs="one-hot").double()


def _scores(accelerator: Accelerator) -> list[dict[str, float]]:
    data = generate_puzzles(5, seed=0)
    return [
        measure(_network(), data, batch_size=2, accelerator=accelerator)
        for measure in (evaluate, evaluate_one_at_a_time)
    ]


def _train(accelerator: Accelerator, batch_size: int) -> tuple[Tensor, float]:
    """Return the weights of the last layer after a step without norms, and the step's loss.

    Each process has norms of its own, over its share of a batch.
    """
    network = _network()
    for block in network.blocks:
        block.norm = nn.Identity()
    batches = TrainingBatches(generate_puzzles(6, seed=1), batch_size, seed=0)
    training = Training(network, batches, steps=1, lr=0.01, channels_last=False, accelerator=accelerator)
    loss = training.advance(1)
    return network.head.weight.detach(), loss


def _in_each_process() -> None:
    accelerator = Accelerator(cpu=True)
    scores = _scores(accelerator)
    weight, loss = _train(accelerator, batch_size=4)
    try:
        _train(accelerator, batch_size=3)
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    found = {"scores": scores, "weight": weight.tolist(), "loss": loss, "refusal": refusal}
    Path(f"{accelerator.process_index}.json").write_text(json.dumps(found), encoding="utf-8")
    accelerator.end_training()


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": path}
    command = [sys.executable, "-m", *TORCHRUN, "-m", __name__]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    accelerator = Accelerator(cpu=True)
    weight, loss = _train(accelerator, batch_size=4)
    for process in range(2):
        found = json.loads((tmp_path / f"{process}.json").read_text(encoding="utf-8"))
        for scores, expected in zip(found["scores"], _scores(accelerator), strict=True):
            assert scores == pytest.approx(expected)
        assert found["loss"] == pytest.approx(loss)
        torch.testing.assert_close(torch.tensor(found["weight"], dtype=torch.float64), weight)
        assert "`batch_size` must be a multiple of the 2 processes, got 3" in found["refusal"]


if __name__ == "__main__":
    _in_each_process()
