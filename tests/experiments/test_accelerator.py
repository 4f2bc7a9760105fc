"""Several processes as their user starts them: one job, or one sentence."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from timm_lp.experiments.accelerator import check_one_job, keep_gradient_strides

from ..distributed import ROOT

SCRIPT = """
import sys
from timm_lp.command import failures_in_one_line
from timm_lp.experiments.accelerator import create_accelerator, machine_of

with failures_in_one_line("script"):
    accelerator = create_accelerator(mixed_precision=None, cpu_threads=1)
    sys.stderr.write(f"process {accelerator.process_index} of {machine_of(accelerator).num_processes}\\n")
    accelerator.end_training()
"""
TORCHRUN = ("torch.distributed.run", "--nproc_per_node")
ACCELERATE = ("accelerate.commands.launch", "-q", "--num_processes")
REFUSAL = (
    "script: `accelerate launch` must start as many processes as it is asked for, got one: on CPUs it starts no more. "
    "Use `torchrun --nproc_per_node NUMBER` in its place; for one process, --num_processes 1 and no MASTER_ADDR."
)
MULTI_CPU = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
num_processes: 2
num_machines: 1
machine_rank: 0
mixed_precision: 'no'
use_cpu: true
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return path


def _start(*command: str | Path) -> subprocess.Popen[str]:
    """Start a command on a machine without a GPU."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], env=variables, stderr=subprocess.PIPE, text=True
    )


def _processes(errors: str) -> list[str]:
    return sorted(line for line in errors.splitlines() if line.startswith("process "))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("launcher", [(*TORCHRUN, "2", "--standalone"), (*ACCELERATE, "2", "--multi_gpu")])
def test_several_processes_on_cpus_are_one_job(script: Path, launcher: tuple[str, ...]) -> None:
    started = _start(*launcher, script)
    errors = started.communicate(timeout=300)[1]
    assert started.returncode == 0, errors
    assert _processes(errors) == ["process 0 of 2", "process 1 of 2"]


def test_two_nodes_are_one_job(script: Path) -> None:
    place = ("--nnodes", "2", "--master_addr", "127.0.0.1", "--master_port", str(_free_port()), "--node_rank")
    nodes = [_start(*TORCHRUN, "1", *place, node, script) for node in ("0", "1")]
    errors = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert [_processes(said) for said in errors] == [["process 0 of 2"], ["process 1 of 2"]]


@pytest.mark.parametrize("flags", [("2", "--cpu"), ("2",), ("2", "--config_file")], ids=["cpu", "plain", "file"])
def test_one_process_that_should_be_several_is_refused(script: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "config.yaml").write_text(MULTI_CPU)
    files = [tmp_path / "config.yaml"] if "--config_file" in flags else []
    started = _start(*ACCELERATE, *flags, *files, script)
    errors = started.communicate(timeout=300)[1]
    assert started.returncode == 1
    assert errors.splitlines()[-1] == REFUSAL


def test_processes_that_are_not_joined_are_refused() -> None:
    accelerator = Accelerator(cpu=True)
    check_one_job(accelerator, launched=1)
    with pytest.raises(ValueError, match=r"launcher's 2 processes must be one job, got 1 in it: .* on cpu\. Start one"):
        check_one_job(accelerator, launched=2)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_have_the_strides_of_their_parameters(masked: bool) -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    network[1].requires_grad_(masked)
    images = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last)
    network(images).square().sum().backward()
    depthwise, expected = network[0].weight, network[0].weight.grad
    assert expected.stride() != depthwise.stride(), "what DistributedDataParallel warns of"
    network.zero_grad()
    keep_gradient_strides(network)
    network(images).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.stride() == parameter.stride()
    torch.testing.assert_close(depthwise.grad, expected, rtol=0, atol=0)
