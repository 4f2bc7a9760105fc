"""The experiment: every variant with every seed, each trial in a folder of its own."""

import logging
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from ...files import TRIAL_FILE, write_json
from ...models.sudoku import WEIGHTS_FILE, save_network
from ...start import Start
from ...trials.folder import check_writable, find_finished, is_unsaved
from ...trials.record import DivergedError, TrialRecord, as_json, versions_of
from ..accelerator import machine_of
from .config import SudokuConfig
from .data import load_boards
from .flags import command_line
from .training import TrainingBatches, check_processes
from .trial import CHECKPOINT_FILE, Outcome, Trial, run_trial

_logger = logging.getLogger(__name__)


class Experiment:
    """Runs trials, one after the other.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Raises:
        OSError: If the file of puzzles cannot be read.
        ValueError: If it is not such a file, the settings do not fit the puzzles or the processes, or
            `config.output_dir` holds other trials or cannot be written to.
    """

    def __init__(self, config: SudokuConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.output_dir = Path(config.output_dir)
        check_processes(config.batch_size, accelerator.num_processes)
        with accelerator.main_process_first():  # one process generates, the others find it in the cache
            boards = load_boards(config.data, config.puzzles, config.test_puzzles, config.data_seed)
        batches = TrainingBatches(boards.training, config.batch_size, seed=0)
        self._puzzles = config.batch_size * config.num_steps(batches.steps_per_epoch)
        self._sha256 = boards.sha256()
        self.trials = [Trial(config, boards, variant, seed) for seed in config.seeds for variant in config.variants]
        for trial in self.trials:
            self._find_finished(trial)
        if accelerator.is_main_process:
            check_writable(self.output_dir)
            left = len(boards.training.puzzles), len(boards.test.puzzles)
            _logger.info("%d puzzles for the training, %d for the test.", *left)

    def run(self) -> list[TrialRecord]:
        """Run every trial that has no record yet, and return the records of all.

        Each trial's folder under `config.output_dir` gets `trial.json` and the network as `load_sudoku` loads it.
        """
        total = self._puzzles * len(self.trials)
        disable = not self.accelerator.is_main_process
        with tqdm(total=total, unit="puzzle", unit_scale=True, disable=disable, dynamic_ncols=True) as bar:
            return [self._run(trial, bar) for trial in self.trials]

    def _find_finished(self, trial: Trial) -> TrialRecord | None:
        return find_finished(self.output_dir / trial.folder, trial.decisive(self._sha256))

    def _run(self, trial: Trial, bar: tqdm) -> TrialRecord:
        """Return a trial's record: the one that it has, or else that of running it."""
        main = self.accelerator.is_main_process
        record = self._find_finished(trial) if main else None
        weights = self.output_dir / trial.folder / WEIGHTS_FILE
        if record and self.config.save_networks and is_unsaved(record, weights, "--no-save-networks"):
            record = None
        (record,) = broadcast_object_list([record])
        start = bar.n
        if record is None:
            record = self._run_anew(trial, bar)
        bar.update(start + self._puzzles - bar.n)
        return record

    def _run_anew(self, trial: Trial, bar: tqdm) -> TrialRecord:
        folder, start = self.output_dir / trial.folder, bar.n
        bar.set_description(trial.folder.name)

        def on_progress(puzzles: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(start + puzzles - bar.n)

        outcome, error = None, None
        try:
            outcome = run_trial(trial, self.accelerator, on_progress, folder)
        except DivergedError as failure:
            error = str(failure)
        record = self._record(trial, outcome, error)
        if self.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            if outcome and self.config.save_networks:
                save_network(folder, outcome.network, trial.arguments)
            write_json(folder / TRIAL_FILE, as_json(record))
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            if error:
                _logger.warning("%s failed: %s.", record.folder, error)
        (record,) = broadcast_object_list([record])
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()
        return record

    def _record(self, trial: Trial, outcome: Outcome | None, error: str | None) -> TrialRecord:
        """Return all that is needed to repeat a trial, and what it gave."""
        config, boards, variant = trial.config, trial.boards, trial.variant
        figures: dict[str, Any] = {}
        if outcome is not None:
            seconds = outcome.history["seconds"][-1]
            figures = {
                "metrics": outcome.metrics,
                "parameters": sum(parameter.numel() for parameter in outcome.network.parameters()),
                "train_seconds": seconds,
                "history": outcome.history,
                "details": {"puzzles_per_second": self._puzzles / seconds, "test_seconds": outcome.test_seconds},
            }
        return TrialRecord(
            folder=trial.folder.as_posix(),
            dataset=boards.info,
            dataset_argument=boards.path or boards.name,
            data_sha256=self._sha256,
            model=trial.model,
            variant=variant,
            network=trial.model if variant == "base" else f"{variant}_{trial.model}",
            seed=trial.seed,
            shots=None,
            held_out=False,
            settings=config.trial_settings(),
            command=command_line(config, variants=[variant], seeds=[trial.seed]),
            machine=machine_of(self.accelerator),
            versions=versions_of("torch", "accelerate", "numpy"),
            start=Start("random"),
            error=error,
            num_train=len(boards.training.puzzles),
            num_test=len(boards.test.puzzles),
            **figures,
        )
