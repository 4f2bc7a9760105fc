"""Train and test one network on one mouse, and the metrics of predicted spike counts."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import poisson_nll_loss
from torch.utils.data import DataLoader

from ....trials.record import DivergedError
from ...accelerator import keep_gradient_strides
from .data import Mouse, Windows
from .network import CHANNELS, HIDDEN, build_network

SMOOTHING = 41  # bins, 2 seconds

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        metrics: `cc`, `mse` and `raw_cc` on the test, as `scores` returns them.
        losses: The losses of training and validation, by epoch.
        parameters: Number of parameters of the network.
        train_seconds: Time of the training with its validations, seconds.
    """

    metrics: dict[str, float]
    losses: list[tuple[float, float]]
    parameters: int
    train_seconds: float = field(compare=False)


def run_trial(
    mouse: Mouse,
    variant: str,
    seed: int,
    settings: Settings,
    accelerator: Accelerator,
    on_epoch: Callable[[float], None] = lambda loss: None,
) -> Outcome:
    """Train a variant on a mouse, and test the weights with the best validation.

    Args:
        mouse: The mouse.
        variant: The variant, as `build_network` takes it.
        seed: Seed of the weights and the order of the windows.
        settings: How it is trained.
        accelerator: Distributes the work.
        on_epoch: Called after each epoch with the loss of its training.

    Raises:
        DivergedError: If the validation's loss becomes infinite or not a number.
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
    unwrapped = accelerator.unwrap_model(network)
    best, best_loss, best_epoch, losses = unwrapped.state_dict(), float("inf"), -1, []
    start = time.perf_counter()
    for epoch in range(settings.epochs):
        trained = _train(network, unwrapped.behaviour_weight, training, optimizer, settings.l1, accelerator)
        validated = float(poisson_nll_loss(*_predict(network, validation, accelerator), log_input=False))
        if not math.isfinite(validated):
            raise DivergedError(
                f"the loss of the validation became {validated} in epoch {epoch + 1} of {settings.epochs}; lower --lr"
            )
        losses.append((trained, validated))
        on_epoch(trained)
        if validated < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(unwrapped.state_dict()), validated, epoch
        elif epoch - best_epoch >= settings.patience:
            break
    seconds = time.perf_counter() - start
    unwrapped.load_state_dict(best)
    predicted, spikes = (values.double().cpu().numpy() for values in _predict(network, test, accelerator))
    return Outcome(scores(predicted, spikes), losses, parameters, seconds)


def scores(predicted: Array, spikes: Array) -> dict[str, float]:
    """Return the correlations of predictions with spike counts, means over the neurons, and the squared error.

    Args:
        predicted: Expected counts, shape `(T, neurons)`.
        spikes: Counts, shape `(T, neurons)`.

    Returns:
        `cc` and `mse` of averages over 2 seconds, as in Table 5, and `raw_cc` of single bins.
    """
    smooth = smoothed(predicted), smoothed(spikes)
    return {
        "cc": mean_correlation(*smooth),
        "mse": float(np.mean((smooth[0] - smooth[1]) ** 2)),
        "raw_cc": mean_correlation(predicted, spikes),
    }


def smoothed(values: Array) -> Array:
    """Return the means over 41 bins; bins beyond the ends count as 0."""
    box = np.full(SMOOTHING, 1 / SMOOTHING)
    return np.stack([np.convolve(column, box, mode="same") for column in values.T], axis=1)


def mean_correlation(predicted: Array, spikes: Array) -> float:
    """Return the mean over the neurons of Pearson's correlation, which is 0 for a neuron that does not vary."""
    one, other = predicted - predicted.mean(0), spikes - spikes.mean(0)
    norms = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    return float(np.mean((one * other).sum(0) / np.where(norms > 0, norms, np.inf)))


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
    batches = [
        accelerator.gather_for_metrics((network(video, features).float(), spikes)) for video, features, spikes in loader
    ]
    predicted, spikes = (torch.cat(values) for values in zip(*batches, strict=True))
    return predicted, spikes
