"""The command as its user starts it: each failure is one sentence, and nothing comes behind it."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from timm_lp.experiments.classification.__main__ import PACKAGES

DOOR = Path(__file__).parents[3] / "finetune.py"
# Asks the door once for each package, without it.
WITHOUT = """
import runpy, sys
door, *packages = sys.argv[1:]
for package in packages:
    sys.modules[package] = None
    try:
        runpy.run_path(door, run_name="__main__")
    except SystemExit as ended:
        sys.stderr.write(f"{ended.code}\\n")
    del sys.modules[package]
    assert "torch" not in sys.modules
"""
INTERRUPTED = """
import runpy, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "timm_lp.experiments.classification.cli":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
runpy.run_module("timm_lp.experiments.classification", run_name="__main__")
"""
OPTIONAL = {"datasets", "matplotlib", "pyarrow"}  # what needs them says so, and datasets brings pyarrow
SHORT = ["--variants", "base", "lp2", "--seeds", "1", "--shots", "2", "--epochs", "1", "--cpu-threads", "1"]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(DOOR.parent), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *command], env=variables, capture_output=True, text=True, check=False, timeout=600
    )


def test_a_missing_package_is_one_line_before_anything_is_imported() -> None:
    done = _run("-c", WITHOUT, str(DOOR), *PACKAGES)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f'finetune.py: {package} must be installed. `pip install "timm-lp[experiments]"` brings what is missing, in a '
        'clone `pip install -e ".[experiments]"`.'
        for package in PACKAGES
    ]


def test_every_package_of_the_extra_is_asked_for() -> None:
    lines = [line for line in requires("timm-lp") or () if 'extra == "experiments"' in line]
    wanted = {line.split(";")[0].split(">")[0].strip() for line in lines}
    asked = {distribution.lower() for package in PACKAGES for distribution in packages_distributions()[package]}
    assert wanted - asked == OPTIONAL


def test_a_wrong_flag_is_one_line() -> None:
    done = _run(str(DOOR), "--learning-rate", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "finetune.py: error: unrecognized arguments: --learning-rate 1. --help lists the flags.\n"


def test_the_launcher_adds_nothing_if_it_is_quiet() -> None:
    done = _run("-m", "accelerate.commands.launch", "-q", "--num_processes", "1", str(DOOR), "--lr", "nan")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "finetune.py: `lr` must be at least 1e-12 and finite, got nan."


def test_an_interruption_of_the_imports_is_one_line() -> None:
    done = _run("-c", INTERRUPTED)
    assert (done.returncode, done.stderr) == (1, "finetune.py: interrupted.\n")


def test_nothing_is_printed_behind_a_run_and_its_failure(tmp_path: Path) -> None:
    """Libraries that count what is not freed at the exit find nothing."""
    run = (str(DOOR), *SHORT, "--output-dir", str(tmp_path))
    done = _run(*run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Trials and models: ")
    assert done.stderr.splitlines()[-1].startswith("digits/resnet18/lp2-seed1: 100%")
    assert "leak" not in done.stderr
    (tmp_path / "results.partial").symlink_to("/dev/full")
    done = _run(*run)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "finetune.py: [Errno 28] No space left on device; make room there or choose another folder, and run the same "
        f"command again: '{tmp_path / 'results.json'}'"
    )
    assert "Traceback" not in done.stderr
