"""Train a network: epochs of updates, checkpoints after and within them, and the moving average of its weights."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3, random_seed
from torch import nn

from ...trials.checkpoint import CheckpointFile
from ...trials.record import DivergedError
from ..accelerator import generator_states, keep_gradient_strides, set_generator_states, share
from ..data.pixels import EpochSampler, Normalize, TrainPixels
from .batches import BatchAugmentation, create_criterion, train_loader, whole_batch_size
from .config import FinetuneConfig
from .optimizer import create_optimizer, create_scheduler

_logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epochs: Finished epochs.
        losses: Mean loss of each epoch.
        rates: Learning rate at the end of each epoch.
        top1: Accuracy on the test images after each epoch, percent; empty if it is not followed.
        train_seconds: Time of the training so far, seconds.
        data_wait_seconds: Part of that time spent waiting for images, seconds.
        updates: Finished updates of the epoch under way.
        updates_per_epoch: Updates of a whole one.
        update_losses: Losses of the updates up to the last checkpoint of the epoch under way.
    """

    epochs: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    data_wait_seconds: float = 0.0
    updates: int = 0
    updates_per_epoch: int = 1
    update_losses: list[float] = field(default_factory=list)

    @property
    def done(self) -> float:
        """How many epochs are done, with the part of the one under way."""
        return self.epochs + self.updates / self.updates_per_epoch


class Training:
    """Trains a network; everything random in an epoch follows from the seed, the epoch and the process.

    Args:
        config: Settings.
        network: The network, on any device; it is moved.
        images: Training images.
        data_config: The network's preprocessing.
        seed: Seed of the trial.
        accelerator: Distributes the work.

    Raises:
        ValueError: If a batch cannot be divided among the processes and their accumulation steps.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        network: nn.Module,
        images: TrainPixels,
        data_config: dict[str, Any],
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.seed, self.accelerator = config, seed, accelerator
        self._sampler = EpochSampler(len(images), seed)
        self._batch_size = whole_batch_size(config, len(images), accelerator)
        self._generators: dict[str, Any] | None = None  # of this process, within the epoch where it goes on
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = convert_sync_batchnorm(network)
        if config.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.network = network.to(accelerator.device)
        decay = config.model_ema_decay
        self._ema = None if decay is None else ModelEmaV3(network, decay=decay, use_warmup=True)
        if config.compile:
            torch.compiler.reset()  # or the networks of other trials count, and torch stops compiling after a few
            network.compile()
        if accelerator.scaler:
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)  # or the last trial's goes on
        if accelerator.num_processes > 1:
            keep_gradient_strides(network)
        loader = train_loader(config, images, self._sampler, accelerator)
        self._model, self._optimizer, self.loader = accelerator.prepare(
            network, create_optimizer(config, network), loader
        )
        self.progress = Progress(updates_per_epoch=len(loader))
        # A prepared scheduler would step once for each process; timm's is told the update instead.
        self._scheduler = create_scheduler(config, self._optimizer, len(loader))
        self._augment = BatchAugmentation(config, images.num_classes, accelerator.device)
        self._criterion = create_criterion(config)
        self._normalize = Normalize(data_config, config.channels_last)

    def run(
        self,
        checkpoint: CheckpointFile | None,
        on_progress: Callable[[Progress], None],
        test: Callable[[nn.Module], float] | None = None,
        follow: Callable[[Progress, nn.Module], None] | None = None,
    ) -> nn.Module:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            checkpoint: Keeps the state after epochs and within them; None to keep none.
            on_progress: Called after each update and each epoch, and first with what the checkpoint has.
            test: Returns a network's accuracy, percent; called after each epoch.
            follow: Called with the network to test, before the first epoch or where it goes on, and after each epoch.

        Returns:
            The network to test: the trained one, or its moving average.

        Raises:
            DivergedError: If the loss becomes infinite or not a number.
        """
        state = share(checkpoint.load() if checkpoint and self.accelerator.is_main_process else None)
        if state:
            self._load(state)
            on_progress(self.progress)
        if follow is not None:
            follow(self.progress, self._tested)
        while self.progress.epochs < self.config.epochs:
            self._run_epoch(checkpoint, on_progress)
            if test is not None:
                self.progress.top1.append(test(self._synchronized()))
            on_progress(self.progress)
            if follow is not None:
                follow(self.progress, self._tested)
            if checkpoint and checkpoint.is_due():
                self._save(checkpoint, {})
        return self._synchronized()

    @property
    def _tested(self) -> nn.Module:
        return self._ema.module if self._ema else self.network

    def _synchronized(self) -> nn.Module:
        """Return the network to test, with the first process's BatchNorm statistics in all processes."""
        for buffer in self._tested.buffers():
            buffer.copy_(broadcast(buffer))
        return self._tested

    def _run_epoch(self, checkpoint: CheckpointFile | None, on_progress: Callable[[Progress], None]) -> None:
        progress, epoch = self.progress, self.progress.epochs
        self._sampler.epoch, self._sampler.start = epoch, progress.updates * self._batch_size
        self._set_generators()
        self._model.train()
        losses: list[torch.Tensor] = []  # since the last checkpoint; reading them waits for the device
        now = time.perf_counter()
        for pixels, labels in self.loader:
            progress.data_wait_seconds += time.perf_counter() - now
            progress.updates += 1
            losses.append(self.update(pixels, labels, epoch * progress.updates_per_epoch + progress.updates))
            due = checkpoint if checkpoint and self._is_due(checkpoint, len(losses)) else None
            if due:
                self._read(losses)
            progress.train_seconds += time.perf_counter() - now
            if due:
                generators = gather_object([generator_states(self.accelerator.device)])
                self._save(due, {"generators": generators})
            on_progress(progress)
            now = time.perf_counter()
        self._read(losses)
        progress.losses.append(torch.tensor(progress.update_losses).mean().item())
        progress.rates.append(self._rate())
        progress.epochs, progress.updates, progress.update_losses = epoch + 1, 0, []
        progress.train_seconds += time.perf_counter() - now

    def _set_generators(self) -> None:
        """Seed this process's generators for an epoch, or go on with them within one."""
        progress = self.progress
        within = [progress.updates] if progress.updates else []  # where this process was not there before
        sequence = np.random.SeedSequence([self.seed, progress.epochs, self.accelerator.process_index, *within])
        random_seed(int(sequence.generate_state(1)[0]))
        if self._generators:
            set_generator_states(self._generators, self.accelerator.device)
        self._generators = None

    def _is_due(self, checkpoint: CheckpointFile, since: int) -> bool:
        """Tell whether to keep the state within an epoch, so many updates after the last time.

        Several processes ask the main process after 1, 2, 4, 8 and so on, since they wait for its answer.
        """
        if self.progress.updates == self.progress.updates_per_epoch:
            return False
        if self.accelerator.num_processes > 1 and since & (since - 1):
            return False
        return share(checkpoint.is_due())

    def _read(self, losses: list[torch.Tensor]) -> None:
        """Move losses of updates, means over the processes, to the progress.

        Raises:
            DivergedError: If one is infinite or not a number.
        """
        values = self.accelerator.reduce(torch.stack(losses), "mean").tolist() if losses else []
        for value in values:
            if not math.isfinite(value):
                epoch = self.progress.epochs + 1
                raise DivergedError(f"the loss became {value} in epoch {epoch} of {self.config.epochs}")
        self.progress.update_losses += values
        losses.clear()

    def update(self, pixels: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
        """Take an optimizer step, and return the loss on this process's share of the batch.

        Args:
            pixels: Images, `uint8`, `(N, 3, H, W)`.
            labels: Their classes, `(N,)`.
            number: Of the step, counted from 1.
        """
        steps = self.config.grad_accum_steps
        total = torch.zeros((), device=pixels.device)
        images, targets = self._augment(self._normalize(pixels), labels)
        for step, (part, part_targets) in enumerate(zip(images.chunk(steps), targets.chunk(steps), strict=True), 1):
            with nullcontext() if step == steps else self.accelerator.no_sync(self._model):
                loss = self._criterion(self._model(part), part_targets) / steps
                self.accelerator.backward(loss)
            total += loss.detach()
        if self.config.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self._model.parameters(), self.config.clip_grad)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._scheduler.step_update(number)
        if self._ema:
            self._ema.update(self.network, step=number)
        return total

    def _rate(self) -> float:
        """Return the learning rate of layers that are not scaled down."""
        group = self._optimizer.param_groups[0]
        return group["lr"] / group.get("lr_scale", 1.0)

    def _stateful(self) -> dict[str, Any]:
        parts = {"network": self.network, "optimizer": self._optimizer}
        parts |= {"ema": self._ema} if self._ema else {}
        return parts | ({"scaler": self.accelerator.scaler} if self.accelerator.scaler else {})

    def _save(self, checkpoint: CheckpointFile, further: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            parts = {name: part.state_dict() for name, part in self._stateful().items()}
            progress = {"progress": asdict(self.progress), "processes": self.accelerator.num_processes}
            checkpoint.save({**progress, **parts, **further})

    def _load(self, state: dict[str, Any]) -> None:
        updates_per_epoch = self.progress.updates_per_epoch
        self.progress = Progress(**{**state["progress"], "updates_per_epoch": updates_per_epoch})
        before, now = state.get("processes"), self.accelerator.num_processes
        if self.accelerator.is_main_process:
            _logger.info(
                "Going on after epoch %d and %d of %d updates of the next, with the same batches in the same order%s.",
                self.progress.epochs, self.progress.updates, updates_per_epoch,
                f"; processes: {now}, before: {before}" if before not in (None, now) else "",
            )  # fmt: skip
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        generators = dict(enumerate(state.get("generators", [])))
        self._generators = generators.get(self.accelerator.process_index)
