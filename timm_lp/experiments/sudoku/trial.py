"""One trial: train one network on puzzles, and test it on others."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ...models.sudoku import SudokuNet, create_network
from ...trials.checkpoint import CheckpointFile
from ...trials.record import DivergedError, decisive, trial_folder
from .config import SudokuConfig
from .data import Boards
from .evaluation import evaluate, evaluate_one_at_a_time
from .norms import share_norms
from .training import Training, TrainingBatches

CHECKPOINT_FILE = "checkpoint.pt"
STEPWISE = "stepwise_"  # in front of the measures of puzzles that are filled one cell at a time
TEST_BATCH = 500  # puzzles of the test that a process looks at together

_STRETCH = 20  # steps between two looks at the loss

History = dict[str, list[float]]


@dataclass(frozen=True)
class Trial:
    """A variant of a network and a seed, which settles the initial weights and the order of the puzzles.

    Attributes:
        config: Settings.
        boards: The puzzles.
        variant: Name of the variant.
        seed: Seed of the trial.
    """

    config: SudokuConfig
    boards: Boards
    variant: str
    seed: int

    @property
    def model(self) -> str:
        """Name of the base network."""
        return f"sudoku{self.config.channels}x{self.config.depth}-{self.config.input}"

    @property
    def folder(self) -> Path:
        """The trial's folder below the output folder."""
        return Path(trial_folder(self.boards.folder, self.model, self.variant, self.seed))

    @property
    def arguments(self) -> dict[str, Any]:
        """What `create_network` makes its network of."""
        own = self.config
        return {"variant": self.variant, "channels": own.channels, "depth": own.depth, "inputs": own.input}

    def decisive(self, sha256: str) -> dict[str, Any]:
        """Return all on which its result depends.

        Args:
            sha256: Digest of the puzzles.
        """
        return decisive(
            self.config.trial_settings(),
            model=self.model,
            variant=self.variant,
            seed=self.seed,
            shots=None,
            data_sha256=sha256,
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        network: The trained network, without Accelerate's wrappers.
        metrics: Of the last state: the `loss` on the test puzzles, and the measures of `score`, percent; those of
            puzzles that were filled one cell at a time begin with `stepwise_`.
        history: The same at the end of each epoch, with the `puzzles` seen, the `seconds` of training and the mean
            `train_loss` since the last epoch.
        test_seconds: Time of all tests, seconds, since the training was last resumed.
    """

    network: SudokuNet
    metrics: dict[str, float]
    history: History
    test_seconds: float


def run_trial(
    trial: Trial,
    accelerator: Accelerator,
    on_progress: Callable[[int, float], None],
    folder: Path | None = None,
) -> Outcome:
    """Train a variant and test it after each epoch; nothing is chosen by the tests.

    Args:
        trial: What to train on what.
        accelerator: Distributes the work.
        on_progress: Called now and then with the number of puzzles seen and the loss.
        folder: Where the trial's state is kept on the way; None to keep none.

    Raises:
        DivergedError: If a loss becomes infinite or not a number.
    """
    config = trial.config
    torch.manual_seed(trial.seed)
    network = create_network(**trial.arguments)
    if accelerator.num_processes > 1:
        share_norms(network)
    batches = TrainingBatches(
        trial.boards.training, config.batch_size, trial.seed, augment=config.augment, transpose=config.transpose
    )
    training = Training(
        network,
        batches,
        steps=config.num_steps(batches.steps_per_epoch),
        lr=config.lr,
        cosine=config.schedule == "cosine",
        channels_last=config.channels_last,
        compile=config.compile,
        accelerator=accelerator,
    )
    checkpoint = None
    if folder is not None:
        settings = trial.decisive(trial.boards.sha256())
        checkpoint = CheckpointFile(folder / CHECKPOINT_FILE, settings, config.checkpoint_seconds)
    course = _Course(trial, training, batches.steps_per_epoch, accelerator)
    course.run(checkpoint, on_progress)
    stepwise = course.test_stepwise()
    metrics = {name: values[-1] for name, values in course.history.items() if name not in _NO_METRICS}
    return Outcome(network, {**metrics, **stepwise}, course.history, course.test_seconds)


class _Course:
    """Takes a training to its end, and tests it after each epoch."""

    def __init__(self, trial: Trial, training: Training, steps_per_epoch: int, accelerator: Accelerator) -> None:
        self.history: History = {}
        self.test_seconds = 0.0
        self._trial, self._training, self._accelerator = trial, training, accelerator
        self._steps_per_epoch = steps_per_epoch
        self._losses: list[float] = []  # of each step since the last test, the mean of its stretch

    def run(self, checkpoint: CheckpointFile | None, on_progress: Callable[[int, float], None]) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        progress, batch_size = self._training.progress, self._trial.config.batch_size
        state = checkpoint.load() if checkpoint and self._accelerator.is_main_process else None
        (state,) = broadcast_object_list([state])
        if state:
            self._load(state)
            progress = self._training.progress
            on_progress(progress.steps * batch_size, progress.losses[-1])
        while progress.steps < self._training.steps:
            before = progress.steps
            loss = self._training.advance(self._stretch())
            self._losses += [loss] * (progress.steps - before)
            self._refuse_infinity(loss, "loss")
            on_progress(progress.steps * batch_size, loss)
            if progress.steps in (self._training.steps, self._next_test(before)):
                self._test()
            if checkpoint and self._accelerator.is_main_process and checkpoint.is_due():
                checkpoint.save(self._state())

    def test_stepwise(self) -> dict[str, float]:
        """Return the measures of test puzzles that are filled one cell at a time; none where none is asked for."""
        number = min(self._trial.config.stepwise_puzzles, len(self._trial.boards.test.puzzles))
        if not number:
            return {}
        some = self._trial.boards.test.take(np.arange(number))
        start = time.perf_counter()
        found = evaluate_one_at_a_time(
            self._training.network, some, batch_size=TEST_BATCH, accelerator=self._accelerator
        )
        self.test_seconds += time.perf_counter() - start
        return {STEPWISE + name: value for name, value in in_percent(found).items()}

    def _next_test(self, step: int) -> int:
        return (step // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _stretch(self) -> int:
        """Return how many steps there are to the next look at the loss, wherever the training was resumed."""
        step = self._training.progress.steps
        into_epoch = step % self._steps_per_epoch
        return min(_STRETCH - into_epoch % _STRETCH, self._steps_per_epoch - into_epoch)

    def _test(self) -> None:
        start = time.perf_counter()
        data = self._trial.boards.test
        found = evaluate(self._training.network, data, batch_size=TEST_BATCH, accelerator=self._accelerator)
        self.test_seconds += time.perf_counter() - start
        self._refuse_infinity(found["loss"], "loss on the test puzzles")
        progress = self._training.progress
        course = {
            "puzzles": float(progress.steps * self._trial.config.batch_size),
            "seconds": progress.train_seconds,
            "train_loss": sum(self._losses) / len(self._losses),
        }
        self._losses = []
        for name, value in {**course, **in_percent(found)}.items():
            self.history.setdefault(name, []).append(value)

    def _refuse_infinity(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            seen, all_of_them = (
                steps * self._trial.config.batch_size for steps in (self._training.progress.steps, self._training.steps)
            )
            raise DivergedError(f"the {what} became {loss} after {seen:,} of {all_of_them:,} puzzles")

    def _state(self) -> dict[str, Any]:
        return {"training": self._training.state_dict(), "history": self.history, "losses": self._losses}

    def _load(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state["training"])
        self.history, self._losses = state["history"], state["losses"]


_NO_METRICS = ("puzzles", "seconds", "train_loss")


def in_percent(found: dict[str, float]) -> dict[str, float]:
    """Return measures with fractions as percentages, the loss as it is."""
    return {name: value if name == "loss" else 100 * value for name, value in found.items()}
