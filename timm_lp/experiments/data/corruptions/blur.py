"""Blur: in each, `images` are levels from 0 to 255, `(N, H, W, 3)`, and so is what is returned."""

import numpy as np
from scipy.ndimage import correlate, gaussian_filter

from .draws import Draws
from .geometry import motion, zoom

_FIRST_SHUFFLED = 2  # row and column


def gaussian_blur(images: np.ndarray, draws: Draws | None, sigma: float) -> np.ndarray:
    """Blur with a Gaussian, cut off at 4 standard deviations; beyond the edges, edge pixels go on.

    Args:
        images: The images.
        draws: Not used.
        sigma: Standard deviation, pixels.
    """
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)


def defocus_blur(images: np.ndarray, draws: Draws, radius: float, sigma: float) -> np.ndarray:
    """Blur with a disk, whose own edge is softened; images are mirrored on their edge pixels.

    Args:
        images: The images.
        draws: Not used.
        radius: Radius of the disk, pixels.
        sigma: Standard deviation of the 3x3 Gaussian that softens it, pixels.
    """
    return correlate(images, defocus_kernel(radius, sigma)[None, :, :, None], mode="mirror")


def defocus_kernel(radius: float, sigma: float) -> np.ndarray:
    """Return the kernel of a softened disk, `(K, K)`; it adds up to 1."""
    reach = int(radius) + 1
    squared = np.arange(-reach, reach + 1) ** 2
    disk = (squared[:, None] + squared[None, :] <= radius**2).astype(np.float64)
    line = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * sigma**2))
    soft = line[:, None] * line[None, :]
    return correlate(disk / disk.sum(), soft / soft.sum(), mode="constant")


def glass_blur(images: np.ndarray, draws: Draws, sigma: float, rounds: int) -> np.ndarray:
    """Blur, let pixels take the colour of a neighbour, and blur again.

    The neighbour is at random the pixel itself, the one above it, left of it, or above and left. In the published files
    too a neighbour's colour is taken and not exchanged, though that is said to be meant.

    Args:
        images: The images.
        draws: Their generators.
        sigma: Standard deviation of both blurs, pixels.
        rounds: How often colours are taken.
    """
    images = np.floor(gaussian_blur(images, None, sigma))
    size = images.shape[1]
    number = np.arange(len(images))[:, None, None]
    index = np.arange(_FIRST_SHUFFLED, size)
    for _ in range(rounds):
        across, down = np.moveaxis(draws.integers(-1, 0, (len(index), len(index), 2)), -1, 0)
        taken = images[number, index[:, None] + down, index + across]
        images[:, _FIRST_SHUFFLED:, _FIRST_SHUFFLED:] = taken
    return gaussian_blur(images, None, sigma)


def motion_blur(images: np.ndarray, draws: Draws, radius: int, sigma: float) -> np.ndarray:
    """Blur along a line at up to 45 degrees to the horizontal, and round to whole levels.

    Args:
        images: The images.
        draws: Their generators.
        radius: Length of the line, pixels.
        sigma: Standard deviation of the weights along it, pixels.
    """
    return np.rint(motion(images, draws.uniform(-45, 45), radius, sigma))


def zoom_blur(images: np.ndarray, draws: Draws, largest: float) -> np.ndarray:
    """Average an image and its enlargements by 1, 1.01, 1.02 and so on.

    Args:
        images: The images.
        draws: Not used.
        largest: The last enlargement.
    """
    steps = round(100 * largest) - 99
    factors = [1 + step / 100 for step in range(steps)]
    return (images + sum(zoom(images, factor) for factor in factors)) / (1 + steps)
