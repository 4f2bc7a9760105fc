"""Mice that are made up: the quarters of the video flicker, and each neuron counts what it sees in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import BIN_S, VARIABLES, Mouse, mouse_of
from .training import Settings

# How small networks are trained on them, in seconds.
SETTINGS = Settings(epochs=8, batch_size=32, lr=3e-3, l1=0.01, channels=(8, 8, 8), hidden=32)
FRAME = (43, 51)  # pixels, the least height that three convolutions of 7 with stride 2 take

_RATE_HZ = 20.0  # mean of a neuron
_MEMORY = 0.8  # of the flicker, from one bin to the next


def synthetic_mouse(number: int, *, segments: int = 4, train: int = 300, test: int = 130, neurons: int = 12) -> Mouse:
    """Return a made-up mouse, whose neurons answer to light in the bin before, and a little to its speed.

    Args:
        number: Of the mouse; it is the seed.
        segments: Number of the segments of each kind.
        train: Bins of a training segment.
        test: Bins of a test segment.
        neurons: Number of the neurons.
    """
    rng = np.random.default_rng(number)
    to_light, to_speed = rng.normal(0, 0.4, (4, neurons)), rng.normal(0, 0.2, neurons)
    splits = [[_segment(rng, bins, to_light, to_speed) for _ in range(segments)] for bins in (train, test)]
    return mouse_of(f"synthetic-{number}", *splits)


def _segment(
    rng: np.random.Generator, bins: int, to_light: NDArray[np.float64], to_speed: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    light, behaviour = _flicker(rng, bins, 4), _flicker(rng, bins, len(VARIABLES))
    half = np.arange(FRAME[0]) * 2 // FRAME[0], np.arange(FRAME[1]) * 2 // FRAME[1]
    video = light[:, 2 * half[0][:, None] + half[1]]
    before = np.concatenate([np.zeros((1, 4)), light[:-1]])
    rates = _RATE_HZ * np.exp(before @ to_light + np.outer(behaviour[:, 0], to_speed))
    arrays = dict(zip(VARIABLES, behaviour.T, strict=True))
    return {"vid_mean": video, "nsp": rng.poisson(rates * BIN_S), **arrays}


def _flicker(rng: np.random.Generator, bins: int, count: int) -> NDArray[np.float64]:
    """Return series of variance 1 that remember a little, shape `(bins, count)`."""
    steps = rng.normal(size=(bins, count))
    for now in range(1, bins):
        steps[now] = _MEMORY * steps[now - 1] + (1 - _MEMORY**2) ** 0.5 * steps[now]
    return steps
