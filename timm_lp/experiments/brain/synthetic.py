"""A cortex that is made up on the spot: textures, Gabor energies of them, and mice whose neurons answer with noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .responses import Area, Responses

# Cycles per image of the filters of each area: a fine one, one between, a coarse one.
AREAS = {"fine": (12.0, 18.0), "coarse": (2.0, 4.0)}

_ORIENTATIONS = 6
_GRID = 6  # places of the filters along each side
_SIGNAL_TO_NOISE = 1.0  # standard deviations, of one trial


@dataclass(frozen=True)
class SyntheticCortex:
    """Made-up responses, and the features that generate them.

    Attributes:
        responses: What a responses file would hold.
        features: What the neurons of each area answer without noise, shape `(n, units)`.
    """

    responses: Responses
    features: dict[str, NDArray[np.float64]]


def synthetic_cortex(
    seed: int = 0, *, images: int = 118, size: int = 64, mice: int = 3, trials: int = 10, neurons: int = 60
) -> SyntheticCortex:
    """Return a cortex whose neurons are Gabor energies of textures, drawn at random for each mouse.

    Args:
        seed: Of everything that is drawn.
        images: Number of the images, `n`.
        size: Their height and width, pixels.
        mice: Number of the mice.
        trials: Times that each image is shown.
        neurons: Number of each mouse's neurons in an area.
    """
    rng = np.random.default_rng(seed)
    textures = _textures(rng, images, size)
    areas, features = {}, {}
    for name, frequencies in AREAS.items():
        energies = _standardised(_gabor_energies(textures, frequencies))
        units = rng.integers(energies.shape[1], size=mice * neurons)
        noise = rng.normal(size=(images, trials, mice * neurons))
        answers = (_SIGNAL_TO_NOISE * energies[:, None, units] + noise).astype(np.float32)
        areas[name] = Area(answers, mice=np.repeat(np.arange(mice), neurons))
        features[name] = energies
    grey = np.round(255 * (textures - textures.min()) / np.ptp(textures)).astype(np.uint8)
    source = f"made up by timm-lp (seed {seed}): textures, Gabor energies and noise, no measurement"
    return SyntheticCortex(Responses(areas, source, centred=True, synthetic=True, images=grey), features)


def _textures(rng: np.random.Generator, images: int, size: int) -> NDArray[np.float64]:
    """Return images of oriented noise in patches, shape `(n, size, size)`, values within three deviations."""
    frequency = np.fft.fftfreq(size) * size
    radius = np.hypot(frequency[:, None], frequency[None]) + 1e-9
    direction = np.arctan2(frequency[:, None], frequency[None])
    drawn = np.zeros((images, size, size))
    for layer in range(3):  # three textures, each where a smooth field is high
        centre = np.exp(rng.uniform(np.log(2), np.log(18), (images, 1, 1)))
        angle = rng.uniform(0, np.pi, (images, 1, 1))
        band = np.exp(-(np.log(radius / centre) ** 2) / 0.3 + 2.0 * (np.cos(2 * (direction - angle)) - 1))
        texture = _filtered(rng, band)
        window = _filtered(rng, np.exp(-((radius / 2) ** 2)) * np.ones((images, 1, 1)))
        drawn += texture if layer == 0 else texture / (1 + np.exp(-4 * window))
    return np.clip(drawn / drawn.std((1, 2), keepdims=True), -3, 3)


def _filtered(rng: np.random.Generator, spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=spectrum.shape)) * spectrum).real
    return noise / noise.std((1, 2), keepdims=True)


def _gabor_energies(images: NDArray[np.float64], frequencies: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the amplitudes of Gabor filters, averaged in a grid of places, shape `(n, filters)`."""
    size = images.shape[1]
    axis = np.fft.fftfreq(size) * size
    spectrum = np.fft.fft2(images)
    energies = []
    for frequency in frequencies:
        for angle in np.arange(_ORIENTATIONS) * np.pi / _ORIENTATIONS:
            along = axis[None] * np.cos(angle) + axis[:, None] * np.sin(angle)
            across = axis[:, None] * np.cos(angle) - axis[None] * np.sin(angle)
            gabor = np.exp(-((along - frequency) ** 2 + across**2) / (2 * (0.4 * frequency) ** 2))
            amplitude = np.abs(np.fft.ifft2(spectrum * gabor))
            energies.append(_pooled(amplitude).reshape(len(images), -1))
    return np.concatenate(energies, axis=1)


def _pooled(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of maps over a grid, shape `(n, _GRID, _GRID)`."""
    edges = np.linspace(0, maps.shape[1], _GRID + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(maps, edges, axis=1), edges, axis=2)
    sizes = np.diff(np.append(edges, maps.shape[1]))
    return sums / np.outer(sizes, sizes)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean(0)) / values.std(0)
