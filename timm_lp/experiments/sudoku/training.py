"""Train a Sudoku network: updates, epochs and checkpoints."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...models.sudoku import keep_exponents
from ..accelerator import keep_gradient_strides
from .board import Puzzles
from .evaluation import cell_losses
from .symmetries import Symmetries, draw_symmetries


def check_processes(batch_size: int, processes: int) -> None:
    """Refuse a batch that cannot be divided among the processes.

    Raises:
        ValueError: If it cannot.
    """
    if batch_size % processes:
        raise ValueError(f"`batch_size` must be a multiple of the {processes} processes, got {batch_size}.")


class TrainingBatches:
    """The batches of a training: what is in one follows from the seed and the step alone.

    Each epoch has its own order, and, with augmentation, a symmetry for each puzzle; both follow from the seed and the
    epoch. The puzzles that are left when the last whole batch of an epoch is full wait for the next epoch.

    Args:
        data: The puzzles.
        batch_size: Puzzles in a batch, over all processes.
        seed: Seed of the trial.
        augment: Whether symmetries turn the puzzles into others.
        transpose: Whether these swap rows and columns too; leave it where rows are compared with columns.

    Raises:
        ValueError: If `batch_size` is not positive, or larger than the number of puzzles.
    """

    def __init__(
        self, data: Puzzles, batch_size: int, seed: int, *, augment: bool = True, transpose: bool = False
    ) -> None:
        total = len(data.puzzles)
        if not 1 <= batch_size <= total:
            raise ValueError(
                f"`batch_size` must be from 1 to the {total} puzzles of the training, got {batch_size}. "
                "Use a smaller batch, or more puzzles."
            )
        self.batch_size, self.steps_per_epoch = batch_size, total // batch_size
        self._puzzles, self._solutions = (torch.from_numpy(part) for part in data)
        self._seed, self._augment, self._transpose = seed, augment, transpose
        self._epoch = -1
        self._order = torch.empty(0)
        self._symmetries: Symmetries | None = None

    def batch(self, step: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor]:
        """Return the puzzles and solutions of a step, digits in `int8`, `(N, 9, 9)` each.

        Args:
            step: Number of the step, from 0.
            part: Which part of the batch, for one of several processes.
            parts: How many parts there are.
        """
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start(epoch)
        chosen = self._order[number * self.batch_size : (number + 1) * self.batch_size][part::parts]
        boards = self._puzzles[chosen], self._solutions[chosen]
        if self._symmetries is None:
            return boards
        symmetries = self._symmetries.take(chosen)
        return symmetries.apply(boards[0]), symmetries.apply(boards[1])

    def _start(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0]))
        self._order = torch.randperm(len(self._puzzles), generator=generator)
        if self._augment:
            self._symmetries = draw_symmetries(len(self._puzzles), generator, transpose=self._transpose)
        self._epoch = epoch


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        steps: Optimizer steps that are done.
        losses: Mean loss of each stretch of steps.
        train_seconds: Time that they took, seconds.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    train_seconds: float = 0.0


class Training:
    """Trains a network with Adam, p kept at 2 or above.

    The defaults are the authors': a constant learning rate and no weight decay.

    Args:
        network: The network, on any device; it is moved.
        batches: What it is trained on.
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
        self._batches, self._accelerator = batches, accelerator
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
        boards = self._batches.batch(step, accelerator.process_index, accelerator.num_processes)
        puzzles, solutions = (part.to(accelerator.device) for part in boards)
        loss = cell_losses(self._model(puzzles), solutions).mean()
        accelerator.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad()
        keep_exponents(self.network)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on, besides its arguments."""
        return {
            "progress": asdict(self.progress),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another training of the same arguments was."""
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
