import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from timm_lp.experiments.classification.accelerator import create_accelerator
from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.training import num_workers

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CORES = min(psutil.cpu_count(logical=False) or ALLOWED, ALLOWED)
LAUNCHED = "ACCELERATE_MIXED_PRECISION", "no"
ELASTIC = "TORCHELASTIC_RUN_ID", "none"
SCRIPT = """
import torch
from timm_lp.experiments.classification.accelerator import create_accelerator
from timm_lp.experiments.classification.config import FinetuneConfig
create_accelerator(FinetuneConfig())
print("threads", torch.get_num_threads())
"""


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (LAUNCHED[0], ELASTIC[0], "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("launcher", [LAUNCHED, ELASTIC])
@pytest.mark.parametrize("processes", [1, 2, 1000])
def test_a_launched_process_has_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, launcher: tuple[str, str], processes: int
) -> None:
    monkeypatch.setenv(*launcher)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    create_accelerator(FinetuneConfig())
    assert torch.get_num_threads() == max(1, CORES // processes)


@pytest.mark.parametrize("variables", [{}, {"OMP_NUM_THREADS": "1"}, dict([LAUNCHED]), {"OMP_NUM_THREADS": "3"}])
def test_what_else_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    create_accelerator(FinetuneConfig())
    assert torch.get_num_threads() == 3


def test_the_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*LAUNCHED)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    create_accelerator(FinetuneConfig(cpu_threads=4))
    assert torch.get_num_threads() == 4


def test_fp16_is_refused_on_cpus() -> None:
    """Accelerate would compute in float32, and say fp16."""
    with pytest.raises(ValueError, match="`mixed_precision` must be no or bf16 on CPUs, got 'fp16'"):
        create_accelerator(FinetuneConfig(mixed_precision="fp16"))


def test_the_other_processes_wait_for_a_long_download() -> None:
    assert create_accelerator(FinetuneConfig()).init_handler.timeout >= timedelta(hours=12)


def test_loading_processes_share_the_machines_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two machines with 8 GPUs and 64 cores each, a GPU has 8 of the cores, not 4."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    on_gpus = SimpleNamespace(device=torch.device("cuda"), num_processes=16)
    assert num_workers(FinetuneConfig(), on_gpus) == 8
    assert num_workers(FinetuneConfig(workers=3), on_gpus) == 3


def test_the_launchers_accumulation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    with pytest.raises(
        ValueError, match=r"of `accelerate launch` must be 1, got 2\. Set the batches with the command's own flags\."
    ):
        create_accelerator(FinetuneConfig())


def test_accelerate_launch_leaves_no_core_idle(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", str(script)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"threads {CORES}" in run.stdout
