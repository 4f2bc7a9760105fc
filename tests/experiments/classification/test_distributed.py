"""The whole benchmark from a Hub on this machine: one process, and two that are killed and started again."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import psutil
import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from tests.distributed import run_on_two_processes, start_two_processes
from tests.hub_server import environment, serve
from tests.processes import WarmPython
from timm_lp.experiments.data.loading import load_data

from ..images import make_folder, make_parquet, make_shards
from ..networks import accuracy

MODULE = "timm_lp.experiments.classification"
RECIPE = """
model: convnext_tiny
model_kwargs: {depths: [1, 1, 1, 1], dims: [8, 8, 16, 16]}
dataset: us/bugs
pretrained: false
variants: [base, lp16-paper]
shots: 4
seeds: [1, 2]
epochs: 2
batch_size: 6
lr: 0.01
warmup_epochs: 1
img_size: 32
checkpoint_seconds: 0
cpu_threads: 1
mixed_precision: "no"
"""
# Each process reads a data set twice, as two runs do, loads its share of an epoch of three kinds of data sets, measures
# speeds with the other, and runs the benchmark with it.
SCRIPT = """
import sys
from pathlib import Path
from tests.experiments.networks import config
from timm_lp.experiments.classification import speed
from timm_lp.experiments.classification.batches import train_loader
from timm_lp.experiments.classification.benchmark import load_all
from timm_lp.experiments.classification.cli import create_accelerator, main
from timm_lp.experiments.data import digests
from timm_lp.experiments.data.pixels import EpochSampler, TrainPixels

digests._SETTLED_NS = 0
read, content = [], digests._content
digests._content = lambda source: read.append(source) or content(source)
settings = config(dataset=[sys.argv[1]], shots=2, cpu_threads=1)
accelerator = create_accelerator(settings)
for turn in (1, 2):
    (data,) = load_all(settings, accelerator)
    sys.stdout.write(f"process {accelerator.process_index}, run {turn}: {len(read)} read of {data.contents.sha256}\\n")
    read.clear()

opened, rows, row_of = [], [], digests.StoredColumn.__getitem__
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
digests.StoredColumn.__getitem__ = lambda column, row: rows.append(row) or row_of(column, row)
for name in ("bugs", "table", "shards"):
    folder = Path(sys.argv[1]).with_name(name)
    settings = config(dataset=[str(folder)], shots=0, batch_size=2, cpu_threads=1, check_images=False)
    (data,) = load_all(settings, accelerator)
    pixels = TrainPixels(data.train, lambda image: image.width, 1, 0)
    opened.clear(), rows.clear()
    for _ in accelerator.prepare(train_loader(settings, pixels, EpochSampler(len(pixels), 1), accelerator)):
        pass
    seen = rows or [data.train.sources.index(path) for path in opened if path in data.train.sources]
    sys.stdout.write(f"share of {len(pixels)} in {name}: {seen}\\n")

speed._SECONDS = 0.05
settings = config(shots=4, batch_size=20, cpu_threads=1, variants=["base"])
rows = [speed.measure_speed(settings, accelerator) for _ in range(3)]
if accelerator.is_main_process:
    print(accelerator.num_processes, "processes", all(row["both"] > 0 for (row,) in rows))
main(sys.argv[2:])
"""


def _on_two(python: WarmPython, *arguments: str | Path, cwd: Path, **variables: str) -> str:
    done = run_on_two_processes(python, *arguments, cwd=cwd, **variables)
    assert "Grad strides" not in done.stderr
    return done.stdout


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it started, without a word to them."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)
    process.communicate()


def _wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> Path:
    while process.poll() is None:
        found = next(folder.glob(pattern), None)
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def _trials(output_dir: Path) -> dict[str, dict]:
    return {
        str(path.parent.relative_to(output_dir)): json.loads(path.read_text())
        for path in output_dir.rglob("trial.json")
    }


def test_one_process_and_two_that_were_killed_give_the_same_table(tmp_path: Path, python: WarmPython) -> None:
    make_parquet(tmp_path / "hub" / "datasets" / "us" / "bugs", {"train": 6, "test": 7})
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run = ("-m", MODULE, "--config", str(tmp_path / "recipe.yaml"), "--output-dir")
    with serve(tmp_path / "hub") as hub:
        variables = environment(hub, tmp_path / "home")
        table = python(*run, tmp_path / "one", CUDA_VISIBLE_DEVICES="", **variables).stdout
        pair = start_two_processes(*run, tmp_path / "two", cwd=tmp_path, **variables)
        _wait_for("us--bugs/convnext_tiny/base-seed1/trial.json", tmp_path / "two", pair)
        torn = _wait_for("us--bugs/*/*/checkpoint.pt", tmp_path / "two", pair)
        _kill(pair)
        finished = {name: trial["train_seconds"] for name, trial in _trials(tmp_path / "two").items()}
        torn.with_suffix(".partial").write_bytes(b"as far as it came")
        again = _on_two(python, *run, tmp_path / "two", cwd=tmp_path, **variables)
        commit = hub.commit("us/bugs", "datasets")

    one, two = _trials(tmp_path / "one"), _trials(tmp_path / "two")
    assert one.keys() == two.keys()
    assert 1 <= len(finished) < len(one) == 4
    for name in one:
        an_image = 100 / one[name]["num_test"]  # rounding, which differs between one process and two, may decide it
        assert two[name]["metrics"]["top1"] == pytest.approx(one[name]["metrics"]["top1"], abs=1.01 * an_image), name
        assert two[name]["history"]["loss"] == pytest.approx(one[name]["history"]["loss"], rel=1e-3), name
        assert two[name]["details"]["indices"] == one[name]["details"]["indices"], name
        assert two[name]["data_sha256"] == one[name]["data_sha256"], name
        assert [trials[name]["machine"]["num_processes"] for trials in (one, two)] == [1, 2]
        assert (one[name]["num_test"], one[name]["dataset"]["revision"]) == (21, commit)
    assert {name: two[name]["train_seconds"] for name in finished} == finished, "finished trials are not run again"
    for report, trials in ((table, one), (again, two)):
        for variant in ("base", "lp16-paper"):
            assert _first_cell(report, variant) == _mean_and_std(trials, f"us--bugs/convnext_tiny/{variant}")


class Script(NamedTuple):
    """What the script says on two processes, and the folder of the trials that it runs."""

    lines: list[str]
    trials: Path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> Script:
    folder = tmp_path_factory.mktemp("script")
    for split in ("train", "test"):
        make_folder(folder / "bugs", split, ("ant", "bee"), 3)
    make_parquet(folder / "table", {"train": 2, "test": 1})
    make_shards(folder / "shards")
    (folder / "script.py").write_text(SCRIPT)
    network = ["--model", "resnet18", "--model-kwargs", "layers=[1,1,1,1]", "channels=[8,8,8,16]", "--no-pretrained"]
    trials = ["--dataset", "digits", "--variants", "base", "--seeds", "1", "--shots", "8", "--epochs", "2"]
    settings = ["--img-size", "32", "--batch-size", "20", "--lr", "0.01", "--warmup-epochs", "0", "--cpu-threads", "1"]
    run = [*network, *trials, *settings, "--track-accuracy", "--output-dir", folder / "trials"]
    said = _on_two(python, folder / "script.py", folder / "bugs", *run, cwd=folder, HF_HOME=str(folder / "home"))
    return Script(said.splitlines(), folder / "trials")


def test_one_of_two_processes_reads_the_images(script: Script) -> None:
    lines = sorted(line.split(" read of ") for line in script.lines if line.startswith("process "))
    assert [line for line, _ in lines] == [
        *("process 0, run 1: 12", "process 0, run 2: 0"),
        *("process 1, run 1: 0", "process 1, run 2: 0"),
    ]
    assert len({sha256 for _, sha256 in lines}) == 1


def test_each_process_opens_its_own_images_alone(script: Script) -> None:
    for kind, count in (("bugs", 6), ("table", 6), ("shards", 12)):
        lines = [line for line in script.lines if line.startswith(f"share of {count} in {kind}: ")]
        one, two = (json.loads(line.split(": ")[1]) for line in lines)
        assert len(one) == len(two), kind
        assert sorted([*one, *two]) == [*range(count)], f"{kind}: each image once, in one of them"


@pytest.mark.exhaustive
def test_two_processes_end_together_with_a_sentence_each(tmp_path: Path, python: WarmPython) -> None:
    """Though the second waits for the first's download, and may wait long."""
    run = ["--dataset", "nowhere", "--model", "resnet18", "--no-pretrained", "--output-dir", str(tmp_path)]
    done = run_on_two_processes(python, "-m", MODULE, *run, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "timm-lp finetune: `dataset` must be one of" in done.stderr
    assert sum(line.startswith("timm-lp finetune: ") for line in done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_two_processes_measure_together(script: Script) -> None:
    assert "2 processes True" in script.lines


@pytest.mark.exhaustive
def test_the_machine_that_is_left_goes_on(tmp_path: Path) -> None:
    """torchrun joins two machines, one of which dies within a training."""
    for split in ("train", "test"):
        make_folder(tmp_path / "bugs", split, ("ant", "bee"), 20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = f"--rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{port} --rdzv-conf last_call_timeout=5"
    torchrun = f"-m torch.distributed.run --nnodes 1:2 --nproc_per_node 1 --max-restarts 2 {meeting}".split()
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("us/bugs", "bugs").replace("epochs: 2", "epochs: 20"))
    command = [sys.executable, *torchrun, "-m", MODULE, "--config", "recipe.yaml", "--output-dir", "out"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path / "home")}
    machines = []
    for number in range(2):
        with (tmp_path / f"{number}.txt").open("w") as said:
            machines.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=said, text=True))
        while not number:  # the first one keeps the list of all
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
    _wait_for("out/bugs/*/*/checkpoint.pt", tmp_path, machines[0])
    _kill(machines[1])
    assert machines[0].wait(timeout=600) == 0
    assert "same batches in the same order; processes: 1, before: 2" in (tmp_path / "0.txt").read_text()
    assert {trial["machine"]["num_processes"] for trial in _trials(tmp_path / "out").values()} == {1}


def _first_cell(report: str, variant: str) -> str:
    """Return a variant's first number in the first table, without the marks of the best."""
    line = next(line for line in report.splitlines() if line.startswith(f"| {variant} "))
    return line.split("|")[2].strip(" *")


def _mean_and_std(trials: dict[str, dict], prefix: str) -> str:
    values = [trial["metrics"]["top1"] for name, trial in trials.items() if name.startswith(f"{prefix}-seed")]
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"


def test_two_processes_test_the_model_that_they_save(script: Script) -> None:
    """Though each normalizes by its own share of a batch."""
    test, trials = load_data("digits").test, _trials(script.trials)
    assert len(trials) == 1
    for name, trial in trials.items():
        model = timm.create_model(f"local-dir:{script.trials / name}", pretrained=True).eval()
        transform = create_transform(**resolve_model_data_config(model))
        images = torch.stack([transform(test.image(i)) for i in range(len(test))])
        assert trial["metrics"]["top1"] == accuracy(model, images, test.own_labels()), name
        assert trial["history"]["top1"][-1] == trial["metrics"]["top1"], name
