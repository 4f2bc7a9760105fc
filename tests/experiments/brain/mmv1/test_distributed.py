import json
from pathlib import Path

import pytest

from tests.distributed import run_on_two_processes
from tests.processes import WarmPython

pytestmark = pytest.mark.exhaustive  # two processes of other experiments go through the same runner

# Lets a network predict that returns its input, and runs the command on small mice.
SCRIPT = """
import json
import sys
from dataclasses import replace
import torch
from torch import nn
from torch.utils.data import DataLoader
from timm_lp.experiments.accelerator import create_accelerator
from timm_lp.experiments.brain import cli
from timm_lp.experiments.brain.mmv1 import synthetic, training

class Echo(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, video, behaviour):
        return video * self.scale

accelerator = create_accelerator(mixed_precision=None, cpu_threads=None)
numbers = torch.arange(23.0)[:, None]
loader = DataLoader(torch.utils.data.TensorDataset(numbers, numbers, -numbers), 4)
network, loader = accelerator.prepare(Echo(), loader)
predicted, spikes = training._predict(network, loader, accelerator)
if accelerator.is_main_process:
    print(json.dumps([accelerator.num_processes, predicted[:, 0].tolist(), spikes[:, 0].tolist()]))

whole = synthetic.synthetic_mouse
synthetic.synthetic_mouse = lambda number: whole(number, segments=2, train=40, test=60, neurons=3)
synthetic.SETTINGS = replace(synthetic.SETTINGS, epochs=1, channels=(2, 2, 2), hidden=4)
cli.main(["mmv1", "--synthetic", "--variants", "lp2", "--output-dir", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> tuple[str, Path]:
    """Return what the script prints on two processes, and the folder of the command's results."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    done = run_on_two_processes(python, folder / "script.py", folder / "out", cwd=folder)
    assert "Grad strides" not in done.stderr
    return done.stdout, folder / "out"


def test_predictions_keep_their_order_on_two_processes(printed: tuple[str, Path]) -> None:
    processes, predicted, spikes = json.loads(printed[0].splitlines()[0])
    assert processes == 2
    assert predicted == list(range(23))
    assert spikes == [-number for number in range(23)]


def test_two_processes_print_one_table(printed: tuple[str, Path]) -> None:
    output, folder = printed
    assert output.count("# V1 activity prediction") == 1
    rows = json.loads((folder / "results.json").read_text())
    assert [row["variant"] for row in rows] == ["behaviour", "lp2"] * 2
