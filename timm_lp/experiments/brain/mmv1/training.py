"""Train and test one network on one mouse."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import poisson_nll_loss
from torch.utils.data import DataLoader

from ...accelerator import keep_gradient_strides
from .data import Mouse, Windows
from .metrics import scores
from .network import CHANNELS, HIDDEN, build_network


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are the published ones.

    Attributes:
        frames: Bins that the network sees before the one it predicts.
        epochs: Passes over the data at most.
        patience: Epochs without a better validation after which training ends.
        batch_size: Windows of a batch, over all processes.
        lr: Learning rate of Adam.
        l1: Weight of the mean absolute weight of the behaviour's layer.
        channels: Of the three convolutions.
        hidden: Size of the GRU.
    """

    frames: int = 4
    epochs: int = 50
    patience: int = 5
    batch_size: int = 256
    lr: float = 2e-4
    l1: float = 1.0
    channels: tuple[int, int, int] = CHANNELS
    hidden: int = HIDDEN


def run_trial(mouse: Mouse, variant: str, seed: int, settings: Settings, accelerator: Accelerator) -> dict[str, Any]:
    """Train a variant on a mouse, and test the weights that were best in validation.

    Args:
        mouse: The mouse.
        variant: As `build_network` takes it.
        seed: Of the weights and the order of the windows.
        settings: How it is trained.
        accelerator: Distributes the work.

    Returns:
        `cc`, `mse` and `raw_cc` of the test, `losses` of training and validation by epoch, and `parameters`.

    Raises:
        ValueError: If there is nothing to train, validate or test on.
    """
    loaders = _loaders(mouse, seed, settings, accelerator)
    set_seed(seed)
    network = build_network(variant, mouse.neurons, mouse.frame_size, settings.channels, settings.hidden)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    if accelerator.num_processes > 1:
        keep_gradient_strides(network)
    network, optimizer, training, validation, test = accelerator.prepare(network, optimizer, *loaders)
    own = accelerator.unwrap_model(network)
    best, best_loss, best_epoch, losses = own.state_dict(), float("inf"), -1, []
    for epoch in range(settings.epochs):
        trained = _train(network, own.behaviour_weight, training, optimizer, settings.l1, accelerator)
        validated = _poisson_loss(*_predict(network, validation, accelerator))
        losses.append((trained, validated))
        if validated < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(own.state_dict()), validated, epoch
        elif epoch - best_epoch >= settings.patience:
            break
    own.load_state_dict(best)
    predicted, spikes = (values.double().cpu().numpy() for values in _predict(network, test, accelerator))
    accelerator.free_memory()
    return {**scores(predicted, spikes), "losses": losses, "parameters": parameters}


def _loaders(mouse: Mouse, seed: int, settings: Settings, accelerator: Accelerator) -> list[DataLoader]:
    windows = {
        "training": Windows(mouse.train, settings.frames, "training"),
        "validation": Windows(mouse.train, settings.frames, "validation"),
        "test": Windows(mouse.test, settings.frames),
    }
    empty = [part for part, of_part in windows.items() if len(of_part) < 2]
    if empty:
        raise ValueError(f"{mouse.name} must have windows of {settings.frames} bins, got none for {', '.join(empty)}.")
    size = max(1, settings.batch_size // accelerator.num_processes)
    generator = torch.Generator().manual_seed(seed)
    return [
        DataLoader(
            of_part, size, shuffle=part == "training", generator=generator, drop_last=_drops(of_part, size, part)
        )
        for part, of_part in windows.items()
    ]


def _drops(windows: Windows, size: int, part: str) -> bool:
    """Tell whether an incomplete batch is left out: a norm cannot train on one window."""
    return part == "training" and len(windows) > size


def _train(
    network: nn.Module,
    behaviour_weight: Tensor,
    loader: Iterable[tuple[Tensor, Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    l1: float,
    accelerator: Accelerator,
) -> float:
    """Return the mean loss of an epoch."""
    network.train()
    losses = []
    for video, features, spikes in loader:
        loss = poisson_nll_loss(network(video, features), spikes, log_input=False)
        optimizer.zero_grad()
        accelerator.backward(loss + l1 * behaviour_weight.abs().mean())
        optimizer.step()
        losses.append(loss.detach())
    return float(accelerator.reduce(torch.stack(losses).mean(), "mean"))


@torch.no_grad()
def _predict(
    network: nn.Module, loader: Iterable[tuple[Tensor, Tensor, Tensor]], accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Return predicted and measured counts of all windows in their order, each of shape `(windows, neurons)`."""
    network.eval()
    found = [
        accelerator.gather_for_metrics((network(video, features).float(), spikes)) for video, features, spikes in loader
    ]
    predicted, spikes = (torch.cat(values) for values in zip(*found, strict=True))
    return predicted, spikes


def _poisson_loss(predicted: Tensor, spikes: Tensor) -> float:
    loss = float(poisson_nll_loss(predicted, spikes, log_input=False))
    if not np.isfinite(loss):
        raise ValueError("The training must stay finite, got a loss of NaN or infinity. Lower --lr.")
    return loss
