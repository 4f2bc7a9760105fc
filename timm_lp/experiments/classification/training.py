"""Train a network: epochs of updates, checkpoints, and the moving average of its weights."""

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
from accelerate.utils import broadcast, broadcast_object_list
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3, random_seed
from torch import nn

from ...trials.checkpoint import CheckpointFile
from ...trials.record import DivergedError
from ..accelerator import keep_gradient_strides
from ..data.pixels import EpochSampler, Normalize, TrainPixels
from .batches import BatchAugmentation, create_criterion, train_loader
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
    """

    epochs: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    data_wait_seconds: float = 0.0


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
        self.progress = Progress()
        self._sampler = EpochSampler(len(images), seed)
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
        # A prepared scheduler would step once for each process; timm's is told the update instead.
        self._scheduler = create_scheduler(config, self._optimizer, len(loader))
        self._augment = BatchAugmentation(config, images.num_classes, accelerator.device)
        self._criterion = create_criterion(config)
        self._normalize = Normalize(data_config, config.channels_last)

    def run(
        self,
        checkpoint: CheckpointFile | None,
        on_epoch: Callable[[Progress], None],
        test: Callable[[nn.Module], float] | None = None,
        follow: Callable[[Progress, nn.Module], None] | None = None,
    ) -> nn.Module:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            checkpoint: Keeps the state between epochs; None to keep none.
            on_epoch: Called after each epoch.
            test: Returns a network's accuracy, percent; called after each epoch.
            follow: Called with the network to test, before the first epoch or where it goes on, and after each epoch.

        Returns:
            The network to test: the trained one, or its moving average.

        Raises:
            DivergedError: If the loss becomes infinite or not a number.
        """
        state = checkpoint.load() if checkpoint and self.accelerator.is_main_process else None
        (state,) = broadcast_object_list([state])
        if state:
            self._load(state)
            on_epoch(self.progress)
        if follow is not None:
            follow(self.progress, self._tested)
        while self.progress.epochs < self.config.epochs:
            self._run_epoch()
            loss = self.progress.losses[-1]
            if not math.isfinite(loss):
                raise DivergedError(f"the loss became {loss} in epoch {self.progress.epochs} of {self.config.epochs}")
            if test is not None:
                self.progress.top1.append(test(self._synchronized()))
            on_epoch(self.progress)
            if follow is not None:
                follow(self.progress, self._tested)
            if checkpoint and self.accelerator.is_main_process and checkpoint.is_due():
                checkpoint.save(self._state())
        return self._synchronized()

    @property
    def _tested(self) -> nn.Module:
        return self._ema.module if self._ema else self.network

    def _synchronized(self) -> nn.Module:
        """Return the network to test, with the first process's BatchNorm statistics in all processes."""
        for buffer in self._tested.buffers():
            buffer.copy_(broadcast(buffer))
        return self._tested

    def _run_epoch(self) -> None:
        epoch = self._sampler.epoch = self.progress.epochs
        sequence = np.random.SeedSequence([self.seed, epoch, self.accelerator.process_index])
        random_seed(int(sequence.generate_state(1)[0]))
        self._model.train()
        losses, waited = [], 0.0
        start = now = time.perf_counter()
        for number, (pixels, labels) in enumerate(self.loader, start=epoch * len(self.loader) + 1):
            waited += time.perf_counter() - now
            losses.append(self.update(pixels, labels, number))
            now = time.perf_counter()
        # One look at the loss an epoch: reading it waits for the device.
        loss = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        self.progress.epochs += 1
        self.progress.losses.append(loss)
        self.progress.rates.append(self._rate())
        self.progress.train_seconds += time.perf_counter() - start
        self.progress.data_wait_seconds += waited

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

    def _state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._stateful().items()}
        return {"progress": asdict(self.progress), "processes": self.accelerator.num_processes, **parts}

    def _load(self, state: dict[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        before, now = state.get("processes"), self.accelerator.num_processes
        if before not in (None, now) and self.accelerator.is_main_process:
            _logger.info(
                "Going on after epoch %d with the same batches in the same order; processes: %d, before: %d.",
                self.progress.epochs, now, before,
            )  # fmt: skip
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
