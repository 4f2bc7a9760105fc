"""What every command asks of its trials, asked once: of a trial that trains nothing."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from tqdm.auto import tqdm

from timm_lp.files import TRIAL_FILE
from timm_lp.models.loading import WEIGHTS_FILE
from timm_lp.trials.checkpoint import CHECKPOINT_FILE, CheckpointFile
from timm_lp.trials.record import DivergedError, FailedError, TrialRecord, UnreadableDataError
from timm_lp.trials.runner import OnProgress, Runner, Task

from .records import changed, record

LENGTH = 3  # steps of a training
FIGURES = {"metrics": {"top1": 50.0}, "parameters": 7, "train_seconds": 1.5, "history": {"loss": [3.0, 2.0, 1.0]}}


@dataclass
class Processes:
    """This process, as one of several."""

    is_main_process: bool = True
    num_processes: int = 1
    from_main: TrialRecord | None = None
    calls: list[Any] = field(default_factory=list)

    def share(self, value: TrialRecord | None) -> TrialRecord | None:
        self.calls.append(value if self.is_main_process else self.from_main)
        return self.calls[-1]

    def free_memory(self) -> None:
        self.calls.append("free")

    def wait_for_everyone(self) -> None:
        self.calls.append("wait")


@dataclass
class Toy:
    """A trial whose training counts to three; it fails, or is killed, where it is told to."""

    record: TrialRecord = field(default_factory=lambda: record("base", 1, None))
    saves: bool = True
    stop: Callable[[int], None] = lambda step: None
    steps: list[int] = field(default_factory=list)

    def train(self, folder: Path, on_progress: OnProgress) -> list[int]:
        checkpoint = CheckpointFile(folder / CHECKPOINT_FILE, self.record.decisive(), 0)
        done = (checkpoint.load() or {"done": 0})["done"]
        if done:
            on_progress(done, None)
        while done < LENGTH:
            self.stop(done)
            done += 1
            self.steps.append(done)
            on_progress(done, 1.0 / done)
            checkpoint.save({"done": done})
        self.stop(done)
        return self.steps

    def task(self) -> Task[list[int]]:
        def save(folder: Path, outcome: list[int]) -> None:
            (folder / WEIGHTS_FILE).write_bytes(bytes(outcome))

        figures = {**FIGURES, "details": {}}
        return Task(self.record, LENGTH, self.train, lambda _: figures, save if self.saves else None)


def run(folder: Path, toy: Toy, processes: Processes | None = None) -> TrialRecord:
    processes = processes or Processes()
    with tqdm(total=LENGTH, file=StringIO()) as bar:
        found = Runner(folder, processes, processes.share).run(toy.task(), bar)
        assert bar.n == LENGTH
    return found


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dtd" / "resnet18" / "base-seed1" / TRIAL_FILE).read_text())


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder with a finished trial."""
    run(tmp_path, Toy())
    return tmp_path


def test_a_trial_leaves_its_record_and_its_network(tmp_path: Path) -> None:
    processes = Processes()
    done = run(tmp_path, Toy(), processes)
    assert (done.metrics, done.parameters, done.error, done.final) == ({"top1": 50.0}, 7, None, True)
    folder = tmp_path / done.folder
    assert sorted(path.name for path in folder.iterdir()) == [WEIGHTS_FILE, TRIAL_FILE]
    assert read(tmp_path)["metrics"] == done.metrics
    assert processes.calls == [None, done, "free", "wait"]


def test_a_finished_trial_is_taken_over(finished: Path) -> None:
    before = (finished / "dtd/resnet18/base-seed1" / TRIAL_FILE).stat().st_mtime_ns
    toy = Toy()
    toy.record = replace(toy.record, dataset_argument="moved/dtd")
    found = run(finished, toy)
    assert (found.metrics, found.dataset_argument, toy.steps) == ({"top1": 50.0}, "moved/dtd", [])
    assert (finished / found.folder / TRIAL_FILE).stat().st_mtime_ns == before


def test_only_the_main_process_reads_and_writes(tmp_path: Path) -> None:
    theirs = replace(Toy().record, metrics={"top1": 60.0})
    toy = Toy()
    assert run(tmp_path, toy, Processes(is_main_process=False, num_processes=2, from_main=theirs)) == theirs
    assert (toy.steps, [*tmp_path.iterdir()]) == ([], [])
    (tmp_path / theirs.folder).mkdir(parents=True)
    (tmp_path / theirs.folder / TRIAL_FILE).write_text("another program's")
    run(tmp_path, toy, Processes(is_main_process=False, num_processes=2))
    assert toy.steps == [1, 2, 3]
    assert (tmp_path / theirs.folder / TRIAL_FILE).read_text() == "another program's"


def test_the_bar_shows_the_trial_its_loss_and_its_steps(tmp_path: Path) -> None:
    seen: list[int] = []
    runner = Runner(tmp_path, Processes(), lambda value: value)
    with tqdm(total=2 * LENGTH, file=StringIO()) as bar:
        for variant in ("base", "lp2"):
            runner.run(Toy(record(variant, 1, None), stop=lambda step: seen.append(bar.n)).task(), bar)
        assert (bar.desc, bar.postfix) == ("dtd/resnet18/lp2-seed1: ", "loss=0.333")
    assert seen == [0, 1, 2, 3, 3, 4, 5, 6]


def test_the_time_left_is_reckoned_from_what_was_done_now(tmp_path: Path) -> None:
    """Neither a trial that was finished before nor what a checkpoint has counts as fast work."""

    def kill(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Toy(record("lp2", 1, None), stop=kill))
    run(tmp_path, Toy())
    runner = Runner(tmp_path, Processes(), lambda value: value)
    with tqdm(total=2 * LENGTH, file=StringIO()) as bar:
        runner.run(Toy().task(), bar)
        assert (bar.n, bar.initial) == (LENGTH, LENGTH)
        runner.run(Toy(record("lp2", 1, None)).task(), bar)
        assert (bar.n, bar.initial) == (2 * LENGTH, LENGTH + 2)


def test_a_damaged_record_is_said_and_made_again(finished: Path, caplog: pytest.LogCaptureFixture) -> None:
    (finished / "dtd/resnet18/base-seed1" / TRIAL_FILE).write_bytes(b"")  # as a power cut may leave it
    toy = Toy()
    run(finished, toy)
    assert "trial.json cannot be read, and its trial runs again" in caplog.text
    assert (toy.steps, read(finished)["metrics"]) == ([1, 2, 3], {"top1": 50.0})


def test_the_record_of_another_trial_is_refused_and_kept(finished: Path) -> None:
    path = finished / "dtd/resnet18/base-seed1" / TRIAL_FILE
    before = path.read_text()
    other = Toy(changed(Toy().record, epochs=6, lr=0.2))
    with pytest.raises(ValueError, match=r"other settings, got .*: epochs 5 instead of 6, lr 0\.1 instead of 0\.2\."):
        run(finished, other)
    assert (other.steps, path.read_text()) == ([], before)


@pytest.mark.parametrize("after", range(LENGTH + 1))
def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path: Path, after: int) -> None:
    def kill(step: int) -> None:
        if step == after:
            raise KeyboardInterrupt

    killed, resumed = Toy(stop=kill), Toy()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, killed)
    assert not [*tmp_path.rglob(TRIAL_FILE)]
    if after:
        path = tmp_path / "dtd/resnet18/base-seed1" / CHECKPOINT_FILE
        path.with_suffix(".partial").write_bytes(b"as far as it came")
    assert run(tmp_path, resumed).metrics == {"top1": 50.0}
    assert killed.steps + resumed.steps == [1, 2, 3]
    assert not [*tmp_path.rglob(CHECKPOINT_FILE)]


FAILURES = {
    "diverged": (DivergedError("the loss became nan"), "the loss became nan", True),
    "unreadable": (UnreadableDataError("image 7 cannot be read."), "DTD: image 7 cannot be read.", False),
    "memory": (torch.OutOfMemoryError("16 GiB\nTraceback"), "the device's memory is full: 16 GiB", False),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_recorded_and_tried_again_unless_it_is_final(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    failure, error, final = FAILURES[kind]

    def fail(step: int) -> None:
        if step == 1:
            raise failure

    failed = run(tmp_path, Toy(stop=fail))
    assert (failed.metrics, failed.error, failed.final, failed.parameters) == (None, error, final, None)
    assert f"dtd/resnet18/base-seed1 failed: {error.rstrip('.')}." in caplog.text
    left = [TRIAL_FILE] if final else [CHECKPOINT_FILE, TRIAL_FILE]
    assert sorted(path.name for path in (tmp_path / failed.folder).iterdir()) == left
    again = Toy()
    assert run(tmp_path, again).metrics == (None if final else {"top1": 50.0})
    assert again.steps == ([] if final else [2, 3]), "it goes on"


@pytest.mark.parametrize(
    ("kind", "ends", "message"),
    [
        ("memory", torch.OutOfMemoryError, "16 GiB"),
        ("unreadable", FailedError, r"lp2-seed1: DTD: image 7 cannot be read\. Mend it, and the same command goes on"),
    ],
)
def test_what_one_of_several_processes_meets_ends_the_run(
    tmp_path: Path, kind: str, ends: type[Exception], message: str
) -> None:
    """The others would wait for it for ever."""

    def fail(step: int) -> None:
        raise FAILURES[kind][0]

    with pytest.raises(ends, match=message):
        run(tmp_path, Toy(record("lp2", 1, None), stop=fail), Processes(num_processes=2))


@pytest.mark.parametrize("name", [TRIAL_FILE, WEIGHTS_FILE])
def test_a_full_disk_is_the_trials_failure_and_is_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "dtd/resnet18/base-seed1"
    folder.mkdir(parents=True)
    full = folder / ("trial.partial" if name == TRIAL_FILE else name)
    full.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        failed = run(tmp_path, Toy())
    assert (failed.metrics, failed.final) == (None, False)
    assert re.match(r"its result could not be written: \[Errno 28\] No space left on device", failed.error or "")
    assert "failed: its result could not be written" in caplog.text
    assert not (folder / TRIAL_FILE).exists()
    full.unlink()
    assert run(tmp_path, Toy()).metrics == {"top1": 50.0}


def test_a_trial_without_its_network_runs_again_to_save_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unsaved = replace(Toy().record, command="timm-lp finetune --lr 0.1 --no-save-models")
    run(tmp_path, Toy(record=unsaved, saves=False))
    again = Toy(record=unsaved, saves=False)
    run(tmp_path, again)
    assert (again.steps, "runs again" in caplog.text) == ([], False)
    run(tmp_path, saving := Toy())
    assert saving.steps == [1, 2, 3]
    assert "base-seed1 was run with --no-save-models, and runs again to save its network." in caplog.text
    caplog.clear()
    (tmp_path / "dtd/resnet18/base-seed1" / WEIGHTS_FILE).unlink()
    run(tmp_path, again := Toy())
    assert (again.steps, "runs again" in caplog.text) == ([], False), "its user removed it"


def test_a_trial_that_failed_has_no_network_to_save(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        raise DivergedError("the loss became inf")

    run(tmp_path, Toy(replace(Toy().record, command="x --no-save-models"), saves=False, stop=fail))
    again = Toy()
    assert run(tmp_path, again).error == "the loss became inf"
    assert again.steps == []
