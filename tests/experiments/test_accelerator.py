"""Several processes as their user starts them are one job, or one sentence; their threads, memory and norms."""

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from timm_lp.experiments.accelerator import (
    SharedBatchNorm2d,
    check_one_job,
    create_accelerator,
    keep_freed_memory,
    keep_gradient_strides,
    share_norms,
)
from timm_lp.models.sudoku import create_network

from ..distributed import one_process
from ..processes import ROOT

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CORES = min(psutil.cpu_count(logical=False) or ALLOWED, ALLOWED)

SCRIPT = """
import sys
from timm_lp.command import failures_in_one_line
from timm_lp.experiments.accelerator import create_accelerator, machine_of

with failures_in_one_line("script"):
    accelerator = create_accelerator(mixed_precision=None, cpu_threads=None)
    machine = machine_of(accelerator)
    threads = f"{machine.cpu_threads} threads"
    sys.stderr.write(f"process {accelerator.process_index} of {machine.num_processes}, {threads}\\n")
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
# Page faults of the last of 16 equal allocations of 40 MiB, before and after: what alignment cuts off blocks is joined
# after seven.
ALLOCATIONS = """
import resource
import sys
from timm_lp.experiments.accelerator import keep_freed_memory
import torch

def faults():
    for _ in range(16):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(10 * 2**20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

left = faults()
assert keep_freed_memory()
sys.stdout.write(f"{faults()} {left}")
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


@pytest.mark.parametrize(
    "launcher",
    [
        (*TORCHRUN, "2", "--standalone"),
        pytest.param((*ACCELERATE, "2", "--multi_gpu"), marks=pytest.mark.exhaustive),
    ],
)
def test_several_processes_on_cpus_are_one_job(script: Path, launcher: tuple[str, ...]) -> None:
    started = _start(*launcher, script)
    errors = started.communicate(timeout=300)[1]
    assert started.returncode == 0, errors
    threads = max(1, CORES // 2)
    assert _processes(errors) == [f"process {number} of 2, {threads} threads" for number in range(2)]


@pytest.mark.exhaustive
def test_two_nodes_are_one_job(script: Path) -> None:
    place = ("--nnodes", "2", "--master_addr", "127.0.0.1", "--master_port", str(_free_port()), "--node_rank")
    nodes = [_start(*TORCHRUN, "1", *place, node, script) for node in ("0", "1")]
    errors = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert [_processes(said) for said in errors] == [[f"process {n} of 2, {CORES} threads"] for n in range(2)]


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("2",), id="plain"),
        pytest.param(("2", "--cpu"), id="cpu", marks=pytest.mark.exhaustive),
        pytest.param(("2", "--config_file"), id="file", marks=pytest.mark.exhaustive),
    ],
)
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


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process have three threads, and no launcher."""
    for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID", "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no"}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("variables", "cpu_threads", "threads"),
    [
        ({}, None, 3),
        (LAUNCHED, None, 3),
        (ONE_THREAD, None, 3),
        (LAUNCHED | ONE_THREAD, None, CORES),
        (LAUNCHED | ONE_THREAD | {"LOCAL_WORLD_SIZE": "1000"}, None, 1),
        ({"TORCHELASTIC_RUN_ID": "none"} | ONE_THREAD, None, CORES),
        (LAUNCHED | ONE_THREAD, 4, 4),
    ],
)
def test_a_launched_process_has_its_share_of_the_cores_unless_told(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cpu_threads: int | None, threads: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    create_accelerator(mixed_precision=None, cpu_threads=cpu_threads)
    assert torch.get_num_threads() == threads


def test_fp16_is_refused_on_cpus() -> None:
    """Accelerate would compute in float32, and say fp16."""
    with pytest.raises(ValueError, match="`mixed_precision` must be no or bf16 on CPUs, got 'fp16'"):
        create_accelerator(mixed_precision="fp16", cpu_threads=None)


def test_the_other_processes_wait_for_a_long_download() -> None:
    accelerator = create_accelerator(mixed_precision=None, cpu_threads=1)
    assert accelerator.init_handler.timeout >= timedelta(hours=12)


def test_the_launchers_accumulation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    with pytest.raises(
        ValueError, match=r"of `accelerate launch` must be 1, got 2\. Set the batches with the command's own flags\."
    ):
        create_accelerator(mixed_precision=None, cpu_threads=None)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_not_handed_back() -> None:
    done = subprocess.run([sys.executable, "-c", ALLOCATIONS], check=True, capture_output=True, text=True)
    kept, left = map(int, done.stdout.split())
    assert kept < 10
    assert left > 10 * max(kept, 1)


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory()


def test_shared_norms_are_batch_norms_in_evaluation() -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    plain = nn.BatchNorm2d(4)
    plain(x)  # moves its statistics
    shared = SharedBatchNorm2d(4)
    shared.load_state_dict(plain.state_dict())
    assert torch.equal(shared.eval()(x), plain.eval()(x))


def test_one_process_shares_its_norms_with_itself() -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    plain, shared = nn.BatchNorm2d(4), SharedBatchNorm2d(4)
    with one_process():
        torch.testing.assert_close(shared(x), plain(x))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, msg=name)


def test_all_norms_of_a_network_are_shared_and_its_state_stays() -> None:
    network = create_network("lp2", channels=3, depth=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    share_norms(network)
    assert [type(block.norm) for block in network.blocks] == [SharedBatchNorm2d] * 2
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
