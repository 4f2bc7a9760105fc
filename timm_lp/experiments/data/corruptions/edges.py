"""Canny's edges and the distance from them, with OpenCV's choices.

Slopes are 3x3 Sobel's, the sum of both directions, mirrored nowhere; distances are lengths of ways of king's and
knight's moves.
"""

from itertools import product

import numpy as np
from scipy.ndimage import correlate1d, label

_FLAT, _STEEP = np.tan(np.deg2rad([22.5, 67.5]))
_UNIT = 2**16  # of a pixel's length
_LENGTHS = {1: _UNIT, 2: round(1.4 * _UNIT), 5: round(2.1969 * _UNIT)}  # of moves, by the square of their true length


def canny(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return where images have edges.

    A pixel is on an edge if its slope is a maximum across the edge, above `low`, and connected to one above `high`.

    Args:
        images: Grey levels, `(N, H, W)`.
        low: Least slope of an edge.
        high: Slope that every edge reaches.

    Returns:
        Booleans, `(N, H, W)`.
    """
    across, down = _slope(images, 2), _slope(images, 1)
    slope = np.abs(across) + np.abs(down)
    is_edge = (slope > low) & _is_crest(slope, across, down)
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = True
    labels, count = label(is_edge, within)
    is_strong = np.zeros(count + 1, dtype=bool)
    is_strong[labels[is_edge & (slope > high)]] = True
    return is_strong[labels] & is_edge


def _slope(images: np.ndarray, axis: int) -> np.ndarray:
    smooth = correlate1d(images, [1, 2, 1], 3 - axis, mode="nearest")
    return correlate1d(smooth, [-1, 0, 1], axis, mode="nearest")


def _is_crest(slope: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Tell where a slope is not below its two neighbours in its own direction; nothing slopes outside an image."""
    padded = np.pad(slope, ((0, 0), (1, 1), (1, 1)))
    height, width = slope.shape[1:]

    def neighbour(rows: int, columns: int) -> np.ndarray:
        return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    x, y = np.abs(across), np.abs(down)
    horizontal = (slope > neighbour(0, -1)) & (slope >= neighbour(0, 1))
    vertical = (slope > neighbour(-1, 0)) & (slope >= neighbour(1, 0))
    falling = (slope > neighbour(-1, -1)) & (slope > neighbour(1, 1))
    rising = (slope > neighbour(-1, 1)) & (slope > neighbour(1, -1))
    diagonal = np.where(across * down < 0, rising, falling)
    return np.where(y < _FLAT * x, horizontal, np.where(y > _STEEP * x, vertical, diagonal))


def distance(edges: np.ndarray, farthest: int) -> np.ndarray:
    """Return each pixel's distance from the nearest edge, pixels, at most `farthest`.

    Args:
        edges: Booleans, `(N, H, W)`.
        farthest: The largest distance that is told apart, pixels.
    """
    height, width = edges.shape[1:]
    found = np.full((len(edges), height + 4, width + 4), farthest * _UNIT, dtype=np.int32)
    inner = found[:, 2:-2, 2:-2]
    inner[edges] = 0
    before = -1
    while before != (before := int(inner.sum(dtype=np.int64))):
        for down, right in product(range(-2, 3), repeat=2):
            if length := _LENGTHS.get(down**2 + right**2):
                beside = found[:, 2 + down : 2 + down + height, 2 + right : 2 + right + width]
                np.minimum(inner, beside + length, out=inner)
    return inner / _UNIT
