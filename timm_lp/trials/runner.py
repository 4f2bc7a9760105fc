"""Run the trials of an experiment: take over those that are finished; train, record and write the others."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from tqdm.auto import tqdm

from ..command import first_line
from ..files import TRIAL_FILE, write_json
from ..models.loading import WEIGHTS_FILE
from .checkpoint import CHECKPOINT_FILE
from .folder import find_finished, is_unsaved
from .record import DivergedError, FailedError, TrialRecord, UnreadableDataError, as_json

# Takes how far a training is, in the bar's unit, and its loss, None before the first is known. A training that goes on
# from a checkpoint calls it with what that has before anything else.
OnProgress = Callable[[int, float | None], None]

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)


class Processes(Protocol):
    """The processes that run each trial together, as Accelerate's `Accelerator` shows them to one of them."""

    is_main_process: bool
    num_processes: int

    def free_memory(self) -> Any:
        """Free the memory that a trial took."""

    def wait_for_everyone(self) -> None:
        """Wait until all processes are here."""


@dataclass(frozen=True)
class Task(Generic[_T]):
    """A trial that is asked for.

    Attributes:
        record: Its record without results.
        length: How far its training goes, in the bar's unit.
        train: Trains and tests the network, and returns its outcome; it keeps its checkpoint in the folder.
        figures: Returns the fields of the record that an outcome fills.
        save: Writes the outcome's network into the folder; None to save none.
    """

    record: TrialRecord
    length: int
    train: Callable[[Path, OnProgress], _T]
    figures: Callable[[_T], dict[str, Any]]
    save: Callable[[Path, _T], None] | None = None


@dataclass(frozen=True)
class Runner:
    """Runs trials, one after the other.

    Attributes:
        output_dir: Has a folder for each trial.
        processes: They run each trial together; the main process reads and writes the records.
        share: Returns, in each process, the value that the main process gives.
    """

    output_dir: Path
    processes: Processes
    share: Callable[[TrialRecord | None], TrialRecord | None]

    def run(self, task: Task[_T], bar: tqdm) -> TrialRecord:
        """Return a trial's record: the one in its folder, or else that of running it now.

        Args:
            task: The trial.
            bar: Shows how far the training is; at the end it is `task.length` further.

        Raises:
            ValueError: If the folder holds a trial with other settings.
        """
        start = bar.n
        found = self.share(self._find(task) if self.processes.is_main_process else None)
        record = self._run(task, bar) if found is None else found
        _pass_over(bar, start + task.length - bar.n)
        return record

    def _find(self, task: Task[_T]) -> TrialRecord | None:
        folder = self.output_dir / task.record.folder
        record = find_finished(folder, task.record.decisive())
        if record is None or (task.save and is_unsaved(record, folder / WEIGHTS_FILE)):
            return None
        return replace(record, dataset_argument=task.record.dataset_argument)  # a data set may have moved

    def _run(self, task: Task[_T], bar: tqdm) -> TrialRecord:
        folder, start = self.output_dir / task.record.folder, bar.n
        bar.set_description(task.record.folder)
        goes_on = (folder / CHECKPOINT_FILE).exists()

        def on_progress(done: int, loss: float | None) -> None:
            nonlocal goes_on
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            advance = _pass_over if goes_on else tqdm.update
            advance(bar, start + done - bar.n)
            goes_on = False

        outcome, error, final = None, None, True
        try:
            outcome = task.train(folder, on_progress)
        except DivergedError as failure:
            error = str(failure)
        except UnreadableDataError as failure:
            error, final = f"{task.record.dataset.name}: {failure}", False
            if self.processes.num_processes > 1 and not failure.is_known:  # the others are in the middle of the trial
                where = f"{task.record.folder}: {error.rstrip('.')}"
                raise FailedError(f"{where}. Mend it, and the same command goes on") from failure
        except torch.OutOfMemoryError as failure:
            if self.processes.num_processes > 1:
                raise  # the other processes are in the middle of the trial
            error, final = f"the device's memory is full: {first_line(failure)}", False
        figures = {"error": error, "final": final} if outcome is None else task.figures(outcome)
        record = replace(task.record, **figures)
        if self.processes.is_main_process:
            record = self._write(task, outcome, record, folder)
        record = self.share(record) or record
        self.processes.free_memory()
        self.processes.wait_for_everyone()
        return record

    def _write(self, task: Task[_T], outcome: _T | None, record: TrialRecord, folder: Path) -> TrialRecord:
        """Write the network and the record; if the disk does not take them, the trial has failed."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if task.save and outcome is not None:
                task.save(folder, outcome)
            write_json(folder / TRIAL_FILE, as_json(record))
            if record.final:
                (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        except OSError as failure:
            error = f"its result could not be written: {failure}"
            record = replace(record, metrics=None, error=error, final=False)
        if record.error:
            _logger.warning("%s failed: %s.", record.folder, record.error.rstrip("."))
        return record


def _pass_over(bar: tqdm, count: float) -> None:
    """Advance a bar by what took no time, so that its time left is reckoned from the rest."""
    if not bar.disable:
        bar.initial += count
        bar.last_print_n += count
        bar.n += count
        bar.refresh()
