"""Train a Sudoku network: a trial with its tests and checkpoints, and the optimizer's steps."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from ...models.sudoku import SudokuNet, create_network, keep_exponents
from ...trials.checkpoint import CheckpointFile
from ...trials.record import DivergedError
from ...trials.runner import OnProgress
from ..accelerator import keep_gradient_strides, share_norms
from ..tracking import TrackedTrial
from .config import SudokuConfig
from .data import Boards, TrainingBatches
from .evaluation import STEPWISE, TEST_BATCH, cell_losses, evaluate, evaluate_one_at_a_time, in_percent

_STRETCH = 20  # steps between two looks at the loss
_NO_METRICS = ("puzzles", "seconds", "train_loss")  # of the history

History = dict[str, list[float]]


def check_processes(batch_size: int, processes: int) -> None:
    """Raise a `ValueError` if a batch cannot be divided among the processes."""
    if batch_size % processes:
        raise ValueError(f"`batch_size` must be a multiple of the {processes} processes, got {batch_size}.")


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        network: The trained network, without Accelerate's wrappers.
        metrics: At the end, the `loss` on the test puzzles and the measures of `score`, percent; those of puzzles
            filled one cell at a time begin with `stepwise_`.
        history: The same after each epoch, with the `puzzles` seen, the `seconds` of training and the mean
            `train_loss` since the last epoch.
        test_seconds: Time of all tests since the training was last resumed, seconds.
    """

    network: SudokuNet
    metrics: dict[str, float]
    history: History
    test_seconds: float


def run_trial(
    config: SudokuConfig,
    boards: Boards,
    variant: str,
    seed: int,
    accelerator: Accelerator,
    on_progress: OnProgress,
    checkpoint: CheckpointFile | None = None,
    tracked: TrackedTrial | None = None,
) -> Outcome:
    """Train a variant and test it after each epoch; nothing is chosen by the tests.

    Args:
        config: Settings.
        boards: The puzzles.
        variant: Name of the variant.
        seed: Settles the initial weights and the order of the puzzles.
        accelerator: Distributes the work.
        on_progress: Called now and then with the number of puzzles seen and the loss.
        checkpoint: Keeps the trial's state; None to keep none.
        tracked: Follows the trial; None for nothing.

    Raises:
        DivergedError: If a loss becomes infinite or not a number.
    """
    torch.manual_seed(seed)
    network = create_network(**config.network_arguments(variant))
    if accelerator.num_processes > 1:
        share_norms(network)
    batches = TrainingBatches(
        boards.training, config.batch_size, seed, augment=config.augment, transpose=config.transpose
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
    course = _Course(config, boards, training, accelerator, tracked)
    course.run(checkpoint, on_progress)
    stepwise = course.test_stepwise()
    metrics = {name: values[-1] for name, values in course.history.items() if name not in _NO_METRICS}
    return Outcome(network, {**metrics, **stepwise}, course.history, course.test_seconds)


class _Course:
    """Takes a training to its end, and tests it after each epoch."""

    def __init__(
        self,
        config: SudokuConfig,
        boards: Boards,
        training: "Training",
        accelerator: Accelerator,
        tracked: TrackedTrial | None,
    ) -> None:
        self.history: History = {}
        self.test_seconds = 0.0
        self._config, self._test_puzzles = config, boards.test
        self._training, self._accelerator, self._tracked = training, accelerator, tracked
        self._steps_per_epoch = training.batches.steps_per_epoch
        self._losses: list[float] = []  # of each step since the last test, the mean of its stretch

    def run(self, checkpoint: CheckpointFile | None, on_progress: OnProgress) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        progress, batch_size = self._training.progress, self._config.batch_size
        state = checkpoint.load() if checkpoint and self._accelerator.is_main_process else None
        (state,) = broadcast_object_list([state])
        if state:
            self._load(state)
            progress = self._training.progress
            on_progress(progress.steps * batch_size, progress.losses[-1])
        self._follow(None if state else self._training.network)
        while progress.steps < self._training.steps:
            before = progress.steps
            loss = self._training.advance(self._stretch())
            self._losses += [loss] * (progress.steps - before)
            self._refuse_infinity(loss, "loss")
            on_progress(progress.steps * batch_size, loss)
            if progress.steps in (self._training.steps, self._next_test(before)):
                self._test()
                self._follow(self._training.network)
            if checkpoint and self._accelerator.is_main_process and checkpoint.is_due():
                checkpoint.save(self._state())

    def test_stepwise(self) -> dict[str, float]:
        """Return the measures of test puzzles that are filled one cell at a time; none if the settings ask for none."""
        number = min(self._config.stepwise_puzzles, len(self._test_puzzles.puzzles))
        if not number:
            return {}
        some = self._test_puzzles.take(np.arange(number))
        start = time.perf_counter()
        measures = evaluate_one_at_a_time(
            self._training.network, some, batch_size=TEST_BATCH, accelerator=self._accelerator
        )
        self.test_seconds += time.perf_counter() - start
        return {STEPWISE + name: value for name, value in in_percent(measures).items()}

    def _follow(self, network: nn.Module | None) -> None:
        if self._tracked is not None:
            self._tracked.follow(self.history, network)

    def _next_test(self, step: int) -> int:
        return (step // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _stretch(self) -> int:
        """Return how many steps there are to the next look at the loss, which does not depend on where it resumed."""
        step = self._training.progress.steps
        into_epoch = step % self._steps_per_epoch
        return min(_STRETCH - into_epoch % _STRETCH, self._steps_per_epoch - into_epoch)

    def _test(self) -> None:
        start = time.perf_counter()
        measures = evaluate(
            self._training.network, self._test_puzzles, batch_size=TEST_BATCH, accelerator=self._accelerator
        )
        self.test_seconds += time.perf_counter() - start
        self._refuse_infinity(measures["loss"], "loss on the test puzzles")
        progress = self._training.progress
        course = {
            "puzzles": float(progress.steps * self._config.batch_size),
            "seconds": progress.train_seconds,
            "train_loss": sum(self._losses) / len(self._losses),
        }
        self._losses = []
        for name, value in {**course, **in_percent(measures)}.items():
            self.history.setdefault(name, []).append(value)

    def _refuse_infinity(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            seen, all_of_them = (
                steps * self._config.batch_size for steps in (self._training.progress.steps, self._training.steps)
            )
            raise DivergedError(f"the {what} became {loss} after {seen:,} of {all_of_them:,} puzzles")

    def _state(self) -> dict[str, Any]:
        return {"training": self._training.state_dict(), "history": self.history, "losses": self._losses}

    def _load(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state["training"])
        self.history, self._losses = state["history"], state["losses"]


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        steps: Optimizer steps so far.
        losses: Mean loss of each stretch of steps.
        train_seconds: Time that the steps took, seconds.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    train_seconds: float = 0.0


class Training:
    """Trains a network with Adam, p kept at 2 or above.

    The defaults are the authors': a constant learning rate and no weight decay.

    Args:
        network: The network, on any device; it is moved.
        batches: Its training puzzles.
        steps: Optimizer steps of the whole training.
        lr: Learning rate.
        cosine: Whether the rate falls to 0 along half a cosine until the last step.
        channels_last: Whether to put the channels last in memory.
        compile: Whether to compile the network with `torch.compile`.
        accelerator: Distributes the work, and sets the format of numbers.

    Raises:
        ValueError: If a batch cannot be divided among the processes.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: TrainingBatches,
        *,
        steps: int,
        lr: float = 1e-4,
        cosine: bool = False,
        channels_last: bool = True,
        compile: bool = False,
        accelerator: Accelerator,
    ) -> None:
        check_processes(batches.batch_size, accelerator.num_processes)
        self.progress = Progress()
        self.steps, self.lr, self.cosine = steps, lr, cosine
        self.batches, self._accelerator = batches, accelerator
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.network = network.to(accelerator.device)
        if compile:
            torch.compiler.reset()  # or the networks of other trials count, and torch stops compiling after a few
            network.compile()
        if accelerator.num_processes > 1:
            keep_gradient_strides(network)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._model, self._optimizer = accelerator.prepare(network, torch.optim.Adam(trained, lr=lr))

    def advance(self, steps: int) -> float:
        """Take some steps, no more than are left, and return their mean loss, which may be infinite or not a number.

        Raises:
            ValueError: If none is left, or none is asked for.
        """
        last = min(self.progress.steps + steps, self.steps)
        if last <= self.progress.steps:
            raise ValueError(
                f"`steps` must be positive and the training not at its end, got {steps} after {self.progress.steps} "
                f"of {self.steps} steps."
            )
        self._model.train()
        start = time.perf_counter()
        # One look at the losses in the end: reading one waits for the device.
        losses = torch.stack([self._step(step) for step in range(self.progress.steps, last)])
        loss = self._accelerator.reduce(losses.mean(), "mean").item()
        self.progress.train_seconds += time.perf_counter() - start
        self.progress.steps = last
        self.progress.losses.append(loss)
        return loss

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.lr * (0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.cosine else 1)

    def _step(self, step: int) -> Tensor:
        accelerator = self._accelerator
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        boards = self.batches.batch(step, accelerator.process_index, accelerator.num_processes)
        puzzles, solutions = (part.to(accelerator.device) for part in boards)
        loss = cell_losses(self._model(puzzles), solutions).mean()
        accelerator.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad()
        keep_exponents(self.network)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return everything besides its arguments on which the rest of the training depends."""
        return {
            "progress": asdict(self.progress),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another training with the same arguments."""
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
