"""Blur: in each, `images` are fractions of white, `(N, H, W, 3)`, and so is what is returned."""

import numpy as np
from scipy.ndimage import correlate, correlate1d, gaussian_filter

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
    """Return the kernel of a softened disk, `(K, K)`: numbers of 32 bits, which add up to 1 but for their rounding."""
    reach = int(radius) + 1
    squared = np.arange(-reach, reach + 1) ** 2
    disk = (squared[:, None] + squared[None, :] <= radius**2).astype(np.float32)
    line = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * sigma**2))
    line = (line / line.sum()).astype(np.float32)
    soft = correlate1d(disk / disk.sum(), line, axis=1, mode="constant")
    return correlate1d(soft, line, axis=0, mode="constant")


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
    images = np.floor(gaussian_blur(images, None, sigma) * 255) / 255
    size = images.shape[1]
    number = np.arange(len(images))[:, None, None]
    index = np.arange(_FIRST_SHUFFLED, size)
    for _ in range(rounds):
        across, down = np.moveaxis(draws.integers(-1, 0, (len(index), len(index), 2)), -1, 0)
        taken = images[number, index[:, None] + down, index + across]
        images[:, _FIRST_SHUFFLED:, _FIRST_SHUFFLED:] = taken
    return gaussian_blur(images, None, sigma)


def motion_blur(images: np.ndarray, draws: Draws, radius: int, sigma: float) -> np.ndarray:
    """Blur along a line at up to 45 degrees to the horizontal.

    Args:
        images: The images.
        draws: Their generators.
        radius: Length of the line, pixels.
        sigma: Standard deviation of the weights along it, pixels.
    """
    return motion(images, draws.uniform(-45, 45), radius, sigma)


def zoom_blur(images: np.ndarray, draws: Draws, end: float) -> np.ndarray:
    """Average an image and its enlargements by 1, 1.01, 1.02 and so on, in numbers of 32 bits.

    Args:
        images: The images.
        draws: Not used.
        end: Where the enlargements end; as the steps are rounded, it may itself be the last.
    """
    images = images.astype(np.float32)
    factors = np.arange(1, end, 0.01)
    total = np.zeros_like(images)
    for factor in factors:
        total += zoom(images, factor).astype(np.float32)
    return (images + total) / (len(factors) + 1)
