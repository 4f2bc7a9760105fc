"""Slow and obvious forms of the corruptions: one image, one pixel at a time."""

import colorsys
import math
from collections.abc import Callable

import numpy as np
from scipy.ndimage import zoom as scipy_zoom

Pixel = tuple[float, float, float]


def pictures(count: int = 3) -> np.ndarray:
    """Return images with smooth parts, edges, grey and black: `(count, 32, 32, 3)`, `uint8`."""
    down, across = np.mgrid[:32, :32]
    images = np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    images[:, :16] = np.stack([8 * down, 8 * across, 4 * (down + across)], axis=-1)[:16]
    images[:, 20:24, :8] = 0
    images[:, 20:24, 8:16] = 90
    images[:, 24:30, 4:20] = (250, 30, 60)
    return images


def hsv(image: np.ndarray, change: Callable[[float, float, float], Pixel]) -> np.ndarray:
    """Change hue, saturation and value of each pixel, levels 0 to 255."""
    changed = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        changed[place] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(image[place] / 255))))
    return 255 * changed


def convolve(image: np.ndarray, kernel: np.ndarray, beyond: Callable[[int, int], int]) -> np.ndarray:
    """Average each pixel's neighbours with weights; `beyond` says which pixel stands at an index outside."""
    height, width, _ = image.shape
    reach = len(kernel) // 2
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    pixel = image[beyond(row + down, height), beyond(column + right, width)].astype(float)
                    result[row, column] += kernel[reach + down, reach + right] * pixel
    return result


def at_the_edge(index: int, length: int) -> int:
    return min(max(index, 0), length - 1)


def mirrored(index: int, length: int) -> int:
    """Mirror on the edge pixel, which is not repeated."""
    return -index if index < 0 else 2 * (length - 1) - index if index >= length else index


def gaussian(sigma: float) -> np.ndarray:
    reach = int(4 * sigma + 0.5)
    line = [math.exp(-(place**2) / (2 * sigma**2)) for place in range(-reach, reach + 1)]
    return np.outer(line, line) / sum(line) ** 2


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """Crop the middle, enlarge it with scipy, and cut it to size."""
    kept = math.ceil(32 / factor)
    first = (32 - kept) // 2
    enlarged = scipy_zoom(image[first : first + kept, first : first + kept], (factor, factor, 1), order=1)
    trimmed = (len(enlarged) - 32) // 2
    return enlarged[trimmed : trimmed + 32, trimmed : trimmed + 32]


def box_line(line: list[int], size: int) -> list[int]:
    """Resize a line of levels with a box filter, as Pillow does: the mean of the pixels whose centres it meets."""
    scale = len(line) / size
    support = 0.5 * max(scale, 1)
    resized = []
    for place in range(size):
        centre = (place + 0.5) * scale
        met = [level for index, level in enumerate(line) if -support < index + 0.5 - centre <= support]
        resized.append(math.floor(sum(met) / len(met) + 0.5))
    return resized


def jpeg_block(block: np.ndarray, quality: int) -> np.ndarray | None:
    """Save and load an 8x8 block of grey levels as JPEG's annexes say: cosine transform, quantization, and back.

    None where a coefficient lies so that libjpeg's integers may round it otherwise.
    """
    table = np.array(_LUMINANCE).reshape(8, 8)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = np.clip((table * scale + 50) // 100, 1, 255)
    basis = np.array([[math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)]) / 2
    basis[0] /= math.sqrt(2)
    steps = basis @ (block - 128.0) @ basis.T / table
    if (np.abs(steps % 1 - 0.5) < 0.01).any():
        return None
    coefficients = np.rint(steps) * table
    return np.clip(np.rint(basis.T @ coefficients @ basis + 128), 0, 255)


_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
