"""The command as its user starts it: each failure is one sentence, and nothing comes behind it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOOR = Path(__file__).parents[3] / "finetune.py"
SHORT = ["--variants", "base", "lp2", "--seeds", "1", "--shots", "2", "--epochs", "1", "--cpu-threads", "1"]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(DOOR.parent), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *command], env=variables, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_launcher_adds_nothing_if_it_is_quiet() -> None:
    done = _run("-m", "accelerate.commands.launch", "-q", "--num_processes", "1", str(DOOR), "--lr", "nan")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "timm-lp finetune: `lr` must be at least 1e-12 and finite, got nan."


@pytest.mark.exhaustive
def test_nothing_is_printed_behind_a_run_and_its_failure(tmp_path: Path) -> None:
    """Libraries that count what is not freed at the exit find nothing."""
    run = (str(DOOR), *SHORT, "--output-dir", str(tmp_path))
    done = _run(*run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"The results are in {tmp_path}: ")
    assert done.stderr.splitlines()[-1].startswith("digits/resnet18/lp2-seed1: 100%")
    assert "leak" not in done.stderr
    (tmp_path / "results.partial").symlink_to("/dev/full")
    done = _run(*run)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "timm-lp finetune: [Errno 28] No space left on device; make room there or choose another folder, and run the "
        f"same command again: '{tmp_path / 'results.json'}'"
    )
    assert "Traceback" not in done.stderr
