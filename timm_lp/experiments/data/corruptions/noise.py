"""Noise: in each, `images` are fractions of white, `(N, H, W, 3)`, and so is what is returned, not clipped yet."""

import numpy as np

from .draws import Draws


def gaussian_noise(images: np.ndarray, draws: Draws, scale: float) -> np.ndarray:
    """Add normal noise to each channel of each pixel.

    Args:
        images: The images.
        draws: Their generators.
        scale: Standard deviation, a fraction of white.
    """
    return images + scale * draws.normal(images.shape[1:])


def speckle_noise(images: np.ndarray, draws: Draws, scale: float) -> np.ndarray:
    """Add normal noise in proportion to the level.

    Args:
        images: The images.
        draws: Their generators.
        scale: Standard deviation, a fraction of the level.
    """
    return images + images * (scale * draws.normal(images.shape[1:]))


def shot_noise(images: np.ndarray, draws: Draws, photons: int) -> np.ndarray:
    """Count photons, in each channel of each pixel.

    Args:
        images: The images.
        draws: Their generators.
        photons: Mean number of photons of white.
    """
    return draws.poisson(images * photons) / photons


def impulse_noise(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """Set channels of pixels to black or white, each at even odds.

    Args:
        images: The images.
        draws: Their generators.
        amount: Share of the channels that are set.
    """
    shape = images.shape[1:]
    is_set, is_white = draws.uniform(0, 1, shape) <= amount, draws.uniform(0, 1, shape) <= 0.5
    return np.where(is_set, is_white, images)
