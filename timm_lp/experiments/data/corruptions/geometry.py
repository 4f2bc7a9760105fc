"""Images between their pixels, and lines of pixels across them."""

import math

import numpy as np


def bilinear(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, repeat_edge: bool) -> np.ndarray:
    """Return images as they are between their pixels, mirrored at their edges.

    Args:
        images: `(N, H, W, channels)`.
        rows: Where to look, `(N, H', W')`, pixels from the first row's centre.
        columns: Likewise.
        repeat_edge: Whether the mirror is beside the edge pixels, and repeats them, or on them.

    Returns:
        `(N, H', W', channels)`.
    """
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    height, width = images.shape[1:3]
    above, below = (_mirrored(index, height, repeat_edge) for index in (top, top + 1))
    before, behind = (_mirrored(index, width, repeat_edge) for index in (left, left + 1))
    number = np.arange(len(images))[:, None, None]
    upper = images[number, above, before] * (1 - right) + images[number, above, behind] * right
    lower = images[number, below, before] * (1 - right) + images[number, below, behind] * right
    return upper * (1 - down) + lower * down


def _mirrored(index: np.ndarray, length: int, repeat_edge: bool) -> np.ndarray:
    period = 2 * length if repeat_edge else 2 * (length - 1)
    index = np.mod(index, period)
    return np.where(index < length, index, period - index - (1 if repeat_edge else 0))


def zoom(images: np.ndarray, factor: float) -> np.ndarray:
    """Return the middle of square images, enlarged to their size with linear interpolation.

    Args:
        images: `(N, H, H, channels)`.
        factor: How much larger, at least 1.
    """
    matrix = _zoom_matrix(images.shape[1], factor)
    channels_first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return np.moveaxis(matrix @ channels_first @ matrix.T, 1, -1)


def _zoom_matrix(size: int, factor: float) -> np.ndarray:
    """Return the share of each pixel of a line in each of the enlarged one, `(size, size)`."""
    kept = math.ceil(size / factor)
    first = (size - kept) // 2
    enlarged = round(kept * factor)
    trimmed = (enlarged - size) // 2
    places = (trimmed + np.arange(size)) * (kept - 1) / (enlarged - 1)
    left = np.minimum(places.astype(np.int64), kept - 2)
    matrix = np.zeros((size, size))
    matrix[np.arange(size), first + left] = 1 - (places - left)
    matrix[np.arange(size), first + left + 1] = places - left
    return matrix


def motion(images: np.ndarray, angles: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Blur images along a line that starts at each pixel, as ImageMagick's motion blur does.

    The weights are those of half a normal distribution, taken at `2 radius + 1` whole pixels from 0 on; the pixels are
    those nearest the line. Beyond the edges, edge pixels go on.

    Args:
        images: `(N, H, W, channels)`.
        angles: Direction of each image's line, degrees, `(N,)`; 0 to the right, 90 down.
        radius: Length of the line, pixels.
        sigma: Standard deviation of the distribution, pixels.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    radians = np.deg2rad(angles)
    height, width = images.shape[1:3]
    number = np.arange(len(images))[:, None, None]
    blurred = np.zeros(images.shape)
    for step, weight in zip(steps, weights, strict=True):
        down, right = (np.ceil(step * part(radians) - 0.5).astype(np.int64) for part in (np.sin, np.cos))
        rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
        blurred += weight * images[number, rows[:, :, None], columns[:, None, :]]
    return blurred
