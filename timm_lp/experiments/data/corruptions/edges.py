"""Canny's edges, with OpenCV's choices: 3x3 Sobel, the sum of both slopes, mirrored nowhere."""

import numpy as np
from scipy.ndimage import correlate1d, label

_FLAT, _STEEP = np.tan(np.deg2rad([22.5, 67.5]))


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
