"""Images between their pixels, lines of pixels across them, and a disk."""

import math

import numpy as np
from scipy.ndimage import correlate1d

_FINE, _COARSE = 1024, 32  # parts of a pixel, and how many of them are one of the coarser parts
_WHITE, _STEP = 65535, 257  # of 16 bits, in which ImageMagick computes: white, and a step of 8 bits


def bilinear(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, repeat_edge: bool) -> np.ndarray:
    """Return images as they are between their pixels, mirrored at their edges.

    Args:
        images: `(N, H, W, channels)`.
        rows: Where to look, `(N, H', W')`, pixels from the first row's centre.
        columns: Likewise.
        repeat_edge: Whether the mirror is beside the edge pixels, and repeats them, or on them.

    Returns:
        `(N, H', W', channels)`, computed in the type of `images`.
    """
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (part[..., None].astype(images.dtype) for part in (rows - top, columns - left))
    height, width = images.shape[1:3]
    above, below = (_mirrored(index, height, repeat_edge) for index in (top, top + 1))
    before, behind = (_mirrored(index, width, repeat_edge) for index in (left, left + 1))
    number = np.arange(len(images))[:, None, None]
    between = np.zeros_like(images, shape=(*rows.shape, images.shape[3]))
    for row, of_row in ((above, 1 - down), (below, down)):
        for column, of_column in ((before, 1 - right), (behind, right)):
            between += images[number, row, column] * (of_row * of_column)
    return between


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
    source = (trimmed + np.arange(size)) * (kept - 1) / (enlarged - 1)
    left = np.minimum(source.astype(np.int64), kept - 2)
    matrix = np.zeros((size, size))
    matrix[np.arange(size), first + left] = 1 - (source - left)
    matrix[np.arange(size), first + left + 1] = source - left
    return matrix


def motion(images: np.ndarray, angles: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Blur images along a line that starts at each pixel, as ImageMagick's motion blur does.

    The weights are those of half a normal distribution, taken at `2 radius + 1` whole pixels from 0 on; the pixels are
    those nearest the line. Beyond the edges, edge pixels go on. Levels are rounded to the nearest, as it did when the
    published images were made; its versions of 16 bits since October 2019 round down.

    Args:
        images: Fractions of white in 256 levels, `(N, H, W, channels)`, and so is what is returned.
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
    return np.rint(np.rint(blurred * _WHITE) / _STEP) / 255


def affine(moved: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns, each `(N, size, size)`, that an affine map of three points brings to a grid.

    They are rounded to parts of a pixel as OpenCV does up to version 4: to 1 / 1024 each summand, to 1 / 32 the sum.

    Args:
        moved: How far, across and down, `(N, 3, 2)`, pixels.
        size: Pixels of an image's side.
    """
    centre, reach = size // 2, size // 3
    before = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    after = before + moved.astype(np.float32)
    ones = np.ones((len(moved), 3, 1))
    back = np.linalg.solve(np.concatenate([after, ones], axis=2), np.concatenate([before[None]] * len(moved)))
    index = np.arange(size)[:, None]
    across = np.rint(_FINE * back[:, None, 0] * index)
    down = np.rint(_FINE * (back[:, None, 1] * index + back[:, 2:]))
    source = np.floor((across[:, None] + down[:, :, None] + _COARSE / 2) / _COARSE) * _COARSE / _FINE
    return source[..., 1], source[..., 0]


def disk(radius: float, sigma: float) -> np.ndarray:
    """Return the kernel of a disk that a Gaussian softens, 3x3 up to a radius of 8 and 5x5 beyond, `(K, K)`.

    As published the kernel reaches 8 pixels, or the radius where that is larger; what is softened beyond is mirrored.

    Args:
        radius: Radius of the disk, pixels.
        sigma: Standard deviation of the Gaussian, pixels.

    Returns:
        Numbers of 32 bits; their sum is 1 up to rounding.
    """
    reach, soft = (min(int(radius) + 1, 8), 1) if radius <= 8 else (int(radius), 2)
    squared = np.arange(-reach, reach + 1) ** 2
    inside = (squared[:, None] + squared[None, :] <= radius**2).astype(np.float32)
    beyond = "constant" if reach > radius else "mirror"
    line = np.exp(-(np.arange(-soft, soft + 1.0) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).astype(np.float32)
    softened = correlate1d(inside / inside.sum(), line, axis=1, mode=beyond)
    return correlate1d(softened, line, axis=0, mode=beyond)
