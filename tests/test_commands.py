"""Every module is imported and each command run on something small: what CONTRIBUTING runs on the lowest versions."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from timm_lp.cli import COMMANDS

from .experiments.brain.allen import WINDOW, record
from .experiments.images import make_parquet
from .processes import WarmPython

TRIAL = "run/pictures/resnet18/lp2-seed1"
SUDOKU = "sudoku --puzzles 30 --test-puzzles 3 --channels 4 --depth 2 --variants lp2 --seeds 1 --batch-size 9"
# Each command line, which reads what those above it wrote, and where its results lie.
RUNS = {
    "finetune --dataset pictures --model resnet18 --model-kwargs layers=[1,1,1,1] channels=[8,8,8,8] "
    "--no-pretrained --variants base lp2 --seeds 1 --epochs 1 --shots 2 --batch-size 6 --img-size 32 "
    "--output-dir run": "run",
    "finetune --report --output-dir run": "run",
    "robustness run --compute --severities 1 --output-dir robustness": "robustness",
    f"masks {TRIAL} --output-dir masks": "masks",
    f"receptive-fields {TRIAL} --inputs noise --num-images 1 --output-dir fields": "fields",
    f"brain prepare --nwb nwb --events events --window {WINDOW} --output-dir cortex": "cortex",
    f"brain rsa --responses cortex/responses.npz --models {TRIAL} --image-size 32 --resamples 8 --splits 2 "
    "--permutations 4 --output-dir rsa": "rsa",
    "brain mmv1 --synthetic --variants base --epochs 1 --frames 1 --batch-size 1024 --output-dir mmv1": "mmv1",
    f"{SUDOKU} --epochs 1 --stepwise-puzzles 1 --output-dir sudoku": "sudoku",
    f"{SUDOKU} --report --output-dir sudoku": "sudoku",
    f"{SUDOKU} --masks --output-dir sudoku": "sudoku/masks",
    f"{SUDOKU} --ablate --ablate-puzzles 2 --ablate-draws 1 --output-dir sudoku": "sudoku",
    "bench layers --only '3x3 dense, 512 channels, 2x2' --runs 1 --no-memory --threads 1 --output bench": "bench",
    f"hub stage {TRIAL} network": "network",
    "hub verify network": "network",
}
# Imports all modules, then runs each command in a copy of this process. Prints what failed, and how, and what each
# command printed last.
SCRIPT = """
import gc, importlib, json, os, pkgutil, runpy, shlex, sys

failures, last = {}, {}
for root in ("timm_lp", "hub_export", "model_cards"):
    for module in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
        if not module.name.endswith(".__main__"):
            try:
                importlib.import_module(module.name)
            except Exception as error:
                failures[module.name] = repr(error)
gc.freeze()  # or a collection in each copy would copy the memory that they share
for line in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(f"log.{stream}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        sys.argv[1:] = shlex.split(line)
        runpy.run_module("timm_lp", run_name="__main__", alter_sys=True)
        sys.exit()
    if os.waitpid(child, 0)[1]:
        with open("log.2") as file:
            failures[line] = file.read()
    with open("log.1") as file:
        last[line] = file.read().splitlines()[-1:]
print(json.dumps([failures, last]))
"""


class Ended(NamedTuple):
    """Where all was run, what failed and how, and the last line that each command printed."""

    folder: Path
    failures: dict[str, str]
    last: dict[str, list[str]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> Ended:
    folder = tmp_path_factory.mktemp("commands")
    make_parquet(folder / "pictures", {"train": 2, "test": 2})
    record(folder, 1)
    done = python("-c", SCRIPT, json.dumps([*RUNS]), cwd=folder)
    return Ended(folder, *json.loads(done.stdout))


def test_every_module_is_imported(ended: Ended) -> None:
    assert {name: error for name, error in ended.failures.items() if name not in RUNS} == {}


@pytest.mark.parametrize("line", RUNS, ids=lambda line: " ".join(line.split()[:2]))
def test_a_small_run_ends_well_and_says_last_where_its_results_lie(line: str, ended: Ended) -> None:
    assert line not in ended.failures, ended.failures[line]
    (last,) = ended.last[line]
    if line.startswith("hub"):
        assert last.startswith(RUNS[line])
        return
    results, _, names = last.partition(": ")
    assert results == f"The results are in {RUNS[line]}"
    files = [name for name in names.split(", ") if "<" not in name]  # the others are the trials' folders
    assert files
    assert [name for name in files if not (ended.folder / RUNS[line] / name).is_file()] == []


def test_every_command_is_run() -> None:
    assert {line.split()[0] for line in RUNS} == {*COMMANDS}
