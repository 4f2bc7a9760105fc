"""Which masks are oriented, and what a network loses without them (Figures 5c and 10).

Conventions: the angle theta of a mask counts from the width axis, counter-clockwise as displayed, in [0, 180) degrees.
At 90 degrees a mask is long along the height, and sees a column; at 0 degrees it sees a row. An ablated channel has a
masked kernel of zeros: it sees nothing of the layer's input, and keeps its bias and its norm.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ...layers import LpConv2d
from ...masks import conformation
from ...models.sudoku import SudokuNet

COLUMNS, ROWS = 90.0, 0.0  # theta of the masks that see them, degrees
MIN_GAMMA = 3.0
HALF_WIDTHS = tuple(range(0, 50, 5))
DRAWS = 5
_LARGEST_SHARE = 0.05

Channels = list[np.ndarray]  # which channels of each layer, booleans of shape `(O,)` each


class Ablation(NamedTuple):
    """Channels to ablate, and why.

    Attributes:
        layers: First and last layer, counted from 1.
        kind: `"near 90"`, `"near 0"` or `"random"`.
        half_width: Largest distance of theta from the angle, degrees; for random channels, the half width of the
            window around 90 degrees with as many channels in each layer.
        draw: Number of the random sample, from 0; None for oriented channels.
        channels: The channels, for each of the network's layers.
    """

    layers: tuple[int, int]
    kind: str
    half_width: float
    draw: int | None
    channels: Channels


@contextmanager
def ablated(convs: Sequence[nn.Conv2d], channels: Channels) -> Iterator[None]:
    """Set the kernels of output channels to zero for a while.

    Args:
        convs: The layers.
        channels: Their channels, booleans of shape `(O,)` each.

    Raises:
        ValueError: If the channels do not fit the layers.
    """
    given, needed = [len(chosen) for chosen in channels], [conv.out_channels for conv in convs]
    if given != needed:
        raise ValueError(f"`channels` must fit the layers' {needed} channels, got {given}.")
    indices = [torch.from_numpy(np.flatnonzero(chosen)).to(convs[0].weight.device) for chosen in channels]
    kept = [conv.weight.detach()[index] for conv, index in zip(convs, indices, strict=True)]
    _write(convs, indices, [torch.zeros_like(kernels) for kernels in kept])
    try:
        yield
    finally:
        _write(convs, indices, kept)


@torch.no_grad()
def _write(convs: Sequence[nn.Conv2d], indices: list[torch.Tensor], kernels: list[torch.Tensor]) -> None:
    for conv, index, kernel in zip(convs, indices, kernels, strict=True):
        conv.weight[index] = kernel


def gamma_threshold(gammas: Sequence[np.ndarray], min_gamma: float = MIN_GAMMA) -> float:
    """Return the distortion above which masks count as oriented.

    Args:
        gammas: Distortion of the masks of each layer, shape `(O,)` each.
        min_gamma: The threshold to use if any mask is above it.

    Returns:
        `min_gamma`, or a smaller number that the 5% largest of all masks exceed.
    """
    largest = np.sort(np.concatenate(gammas))[::-1]
    if largest[0] > min_gamma:
        return min_gamma
    return float(largest[min(math.ceil(_LARGEST_SHARE * len(largest)), len(largest) - 1)])


class Oriented(NamedTuple):
    """The masks of a network.

    Attributes:
        name: The trial's folder.
        gammas: Distortion of the masks of each layer, shape `(O,)` each.
        thetas: Their theta, degrees; NaN where there is none.
        threshold: Distortion above which a mask counts as oriented.
    """

    name: str
    gammas: list[np.ndarray]
    thetas: list[np.ndarray]
    threshold: float

    @classmethod
    def of(cls, name: str, network: SudokuNet, min_gamma: float) -> "Oriented":
        """Return the masks of a network with Lp-convolutions."""
        shapes = [conformation(conv.C) for conv in network.convs if isinstance(conv, LpConv2d)]
        gammas, thetas = ([shape[part].numpy() for shape in shapes] for part in (1, 2))
        return cls(name, gammas, thetas, gamma_threshold(gammas, min_gamma))


def oriented(
    gammas: Sequence[np.ndarray], thetas: Sequence[np.ndarray], threshold: float, angle: float, half_width: float
) -> Channels:
    """Return the channels with a distortion above a threshold and a theta in a window around an angle.

    Args:
        gammas: Distortion of the masks of each layer, shape `(O,)` each.
        thetas: Their theta, degrees; NaN where there is none.
        threshold: See `gamma_threshold`.
        angle: Centre of the window, degrees.
        half_width: Largest distance from it, degrees.
    """
    distances = [np.abs((theta - angle + 90) % 180 - 90) for theta in thetas]
    return [(gamma > threshold) & (distance <= half_width) for gamma, distance in zip(gammas, distances, strict=True)]


def layer_ranges(depth: int) -> list[tuple[int, int]]:
    """Return the layers that the paper ablates: all, the first half and the second half, counted from 1."""
    middle = depth // 2
    return [(1, depth), *([(1, middle), (middle + 1, depth)] if middle else [])]


def ablations(
    gammas: Sequence[np.ndarray],
    thetas: Sequence[np.ndarray],
    *,
    threshold: float,
    half_widths: Sequence[float] = HALF_WIDTHS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[Ablation]:
    """Yield the ablations of Figure 10: oriented masks in growing windows around 90 degrees, and two controls.

    The controls are the windows around 0 degrees, and random channels, as many in each layer as the window around
    90 degrees has. The random channels of a wider window contain those of a narrower one.

    Args:
        gammas: Distortion of the masks of each layer, shape `(O,)` each.
        thetas: Their theta, degrees; NaN where there is none.
        threshold: See `gamma_threshold`.
        half_widths: Half the width of each window, degrees.
        draws: Number of samples of random channels.
        seed: Seed of the samples.
    """
    rng = np.random.default_rng(seed)
    ranks = [[rng.permutation(len(gamma)) for gamma in gammas] for _ in range(draws)]
    for first, last in layer_ranges(len(gammas)):
        for half_width in half_widths:
            windows = {}
            for kind, angle in (("near 90", COLUMNS), ("near 0", ROWS)):
                everywhere = oriented(gammas, thetas, threshold, angle, half_width)
                windows[kind] = [chosen & (first <= layer <= last) for layer, chosen in enumerate(everywhere, start=1)]
                yield Ablation((first, last), kind, half_width, None, windows[kind])
            for draw, ranks_of_draw in enumerate(ranks):
                as_many = [rank < chosen.sum() for rank, chosen in zip(ranks_of_draw, windows["near 90"], strict=True)]
                yield Ablation((first, last), "random", half_width, draw, as_many)


def measure_ablations(
    convs: Sequence[nn.Conv2d], chosen: Sequence[Ablation], evaluate: Callable[[], dict[str, float]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each ablation: what it is, the number of its channels, and the network's score without them.

    Args:
        convs: The network's layers.
        chosen: The ablations; those of the same channels are measured once.
        evaluate: Returns the score of the network in its present state.
    """
    measured: dict[bytes, dict[str, float]] = {}
    for ablation in chosen:
        channels = np.concatenate(ablation.channels)
        if channels.tobytes() not in measured:
            with ablated(convs, ablation.channels):
                measured[channels.tobytes()] = evaluate()
        first, last = ablation.layers
        yield {
            "layers": f"{first}-{last}",
            "ablated": ablation.kind,
            "half_width": ablation.half_width,
            "draw": ablation.draw,
            "channels": int(channels.sum()),
            **measured[channels.tobytes()],
        }
