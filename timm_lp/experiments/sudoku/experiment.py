"""The experiment: every variant with every seed, each trial in a folder of its own."""

import logging
import math
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm

from ...models.sudoku import save_network
from ...start import Start
from ...trials.checkpoint import CHECKPOINT_FILE, CheckpointFile
from ...trials.folder import check_writable, find_finished
from ...trials.record import TrialRecord, trial_folder, versions_of
from ...trials.runner import OnProgress, Runner, Task
from ...variants import BASE
from ..accelerator import machine_of, share
from ..tracking import TrackedTrial
from .config import SudokuConfig
from .data import TrainingBatches, load_boards
from .flags import command_line
from .training import Outcome, check_processes, run_trial

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
        steps = config.num_steps(batches.steps_per_epoch)
        self._puzzles, self._epochs = config.batch_size * steps, math.ceil(steps / batches.steps_per_epoch)
        self._sha256 = boards.sha256()
        self._boards = boards
        self._tasks = [self._task(variant, seed) for seed in config.seeds for variant in config.variants]
        for task in self._tasks:
            find_finished(self.output_dir / task.record.folder, task.record.decisive())
        if accelerator.is_main_process:
            check_writable(self.output_dir)
            left = len(boards.training.puzzles), len(boards.test.puzzles)
            _logger.info("%d puzzles for the training, %d for the test.", *left)

    def run(self) -> list[TrialRecord]:
        """Run every trial that has no record yet, and return the records of all.

        Each trial's folder under `config.output_dir` gets `trial.json` and a network that `load_sudoku` loads.
        """
        runner = Runner(self.output_dir, self.accelerator, share)
        total = self._puzzles * len(self._tasks)
        disable = not self.accelerator.is_main_process
        with tqdm(total=total, unit="puzzle", unit_scale=True, disable=disable, dynamic_ncols=True) as bar:
            return [runner.run(task, bar) for task in self._tasks]

    def _task(self, variant: str, seed: int) -> Task[Outcome]:
        config, boards = self.config, self._boards
        record = TrialRecord(
            folder=trial_folder(boards.folder, config.model, variant, seed),
            dataset=boards.info,
            dataset_argument=boards.path or boards.name,
            data_sha256=self._sha256,
            model=config.model,
            variant=variant,
            network=config.model if variant == BASE else f"{variant}_{config.model}",
            seed=seed,
            shots=None,
            held_out=False,
            settings=config.trial_settings(),
            command=command_line(config, variants=[variant], seeds=[seed]),
            machine=machine_of(self.accelerator),
            versions=versions_of("torch", "accelerate", "numpy"),
            start=Start("random"),
            num_train=len(boards.training.puzzles),
            num_test=len(boards.test.puzzles),
        )

        def train(folder: Path, on_progress: OnProgress) -> Outcome:
            checkpoint = CheckpointFile(folder / CHECKPOINT_FILE, record.decisive(), config.checkpoint_seconds)
            with TrackedTrial(
                self.accelerator,
                record,
                self._epochs,
                project="timm-lp-sudoku",
                masks_to=folder if config.track_masks else None,
            ) as tracked:
                outcome = run_trial(config, boards, variant, seed, self.accelerator, on_progress, checkpoint, tracked)
                tracked.conclude(outcome.metrics)
            return outcome

        def save(folder: Path, outcome: Outcome) -> None:
            save_network(folder, outcome.network, config.network_arguments(variant))

        return Task(record, self._puzzles, train, self._figures, save if config.save_networks else None)

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        """Return the fields of a record that an outcome fills."""
        seconds = outcome.history["seconds"][-1]
        return {
            "metrics": outcome.metrics,
            "parameters": sum(parameter.numel() for parameter in outcome.network.parameters()),
            "train_seconds": seconds,
            "history": outcome.history,
            "details": {"puzzles_per_second": self._puzzles / seconds, "test_seconds": outcome.test_seconds},
        }
