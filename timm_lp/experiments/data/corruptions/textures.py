"""Random numbers, colours, clouds, and water on a lens.

Water takes Canny's edges and the distance from them, with OpenCV's choices: slopes are 3x3 Sobel's, the sum of both
directions, with edge pixels that go on beyond the edges; distances are lengths of ways of king's and knight's moves.
"""

import hashlib
from itertools import product

import numpy as np
from scipy.ndimage import correlate, correlate1d, label

_FLAT, _STEEP = np.tan(np.deg2rad([22.5, 67.5]))
_UNIT = 2**16  # of a pixel's length
_LENGTHS = {1: _UNIT, 2: round(1.4 * _UNIT), 5: round(2.1969 * _UNIT)}  # of moves, by the square of their true length
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_FARTHEST = 20  # pixels from an edge of water, beyond which all looks alike


class Generators:
    """A random generator for each of some images, which depends on the image's pixels and on `purpose` alone.

    So a corrupted image is the same at every position in a data set, and however many are made at once.

    Args:
        images: The images `(N, H, W, 3)` of `uint8`.
        purpose: Tells apart the random numbers of an image, a corruption and its severity for instance.
    """

    def __init__(self, images: np.ndarray, purpose: str) -> None:
        self._generators = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(purpose.encode() + image.tobytes()).digest(), "big"))
            for image in images
        ]

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return standard normal numbers, `(N, *shape)`."""
        return np.stack([generator.standard_normal(shape) for generator in self._generators])

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Return numbers between two, `(N, *shape)`."""
        return np.stack([np.asarray(generator.uniform(low, high, shape)) for generator in self._generators])

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return whole numbers from `low` to `high` inclusive, `(N, *shape)`."""
        return np.stack([generator.integers(low, high, shape, endpoint=True) for generator in self._generators])

    def poisson(self, means: np.ndarray) -> np.ndarray:
        """Return a number of events for each mean `(N, ...)`."""
        pairs = zip(self._generators, means, strict=True)
        return np.stack([generator.poisson(of_image) for generator, of_image in pairs])


def hsv(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue, in sixths of the circle, saturation and value, each `(N, H, W)`, in scikit-image's order of steps."""
    red, green, blue = np.moveaxis(images, -1, 0)
    value = images.max(axis=-1)
    spread = value - images.min(axis=-1)
    divisor = np.where(spread > 0, spread, 1)
    hue = np.select(
        [spread == 0, blue == value, green == value],
        [0.0, 4 + (red - green) / divisor, 2 + (blue - red) / divisor],
        (green - blue) / divisor,
    )
    return hue / 6 % 1 * 6, spread / np.where(value > 0, value, 1), value


def rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return images of a hue, in sixths of the circle, a saturation and a value."""
    sixth = np.floor(hue)
    part = hue - sixth
    least, falling = value * (1 - saturation), value * (1 - part * saturation)
    rising = value * (1 - (1 - part) * saturation)
    channels = (
        (value, falling, least, least, rising, value),
        (rising, value, value, falling, least, least),
        (least, least, rising, value, value, falling),
    )
    return np.stack([np.choose(sixth.astype(np.int64), of_sixths) for of_sixths in channels], axis=-1)


def clouds(generators: Generators, size: int, decay: float) -> np.ndarray:
    """Return clouds of the diamond-square algorithm on a torus, from 0 to 1, `(N, size, size)`.

    Args:
        generators: Of the images that they are for.
        size: A power of two, pixels.
        decay: By how much the noise falls from a step to the next, which is half as long.
    """
    noise = generators.uniform(-1, 1, (size * size - 1,))
    heights = np.zeros((len(noise), size, size))
    amplitude, used, step = 100.0**2, 0, size
    while step > 1:
        half, count = step // 2, (size // step) ** 2
        corners = heights[:, ::step, ::step]
        parts = noise[:, used : used + 3 * count].reshape(len(noise), 3, *corners.shape[1:])
        across, down = (np.roll(corners, -1, axis) for axis in (2, 1))
        centres = (corners + across + down + np.roll(across, -1, 1)) / 4 + amplitude * parts[:, 0]
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = (corners + across + centres + np.roll(centres, 1, 1)) / 4 + (
            amplitude * parts[:, 1]
        )
        heights[:, half::step, ::step] = (corners + down + centres + np.roll(centres, 1, 2)) / 4 + (
            amplitude * parts[:, 2]
        )
        amplitude, used, step = amplitude / decay**2, used + 3 * count, half
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return heights / heights.max(axis=(1, 2), keepdims=True)


def shine(heights: np.ndarray, threshold: float) -> np.ndarray:
    """Return how water shines, `(N, H, W)`, at most 1: its height times a relief of the distance from its edges.

    Args:
        heights: Heights of the water, `(N, H, W)`.
        threshold: Height from which there is a drop.
    """
    drops = np.floor(np.where(heights < threshold, 0, heights) * 255) % 256  # heights above 1 start again at 0
    relief = np.floor(_smoothed(distance(canny(drops, 50, 150), _FARTHEST)))
    relief = np.clip(correlate(equalize(relief), _EMBOSS[None], mode="mirror"), 0, 255)
    shine = (drops * np.rint(_smoothed(relief))).astype(np.float32)
    brightest = shine.max(axis=(1, 2), keepdims=True)
    return shine / np.maximum(brightest, 1)  # nothing shines in an image without drops


def _smoothed(images: np.ndarray) -> np.ndarray:
    """Return the mean of each pixel and its 8 neighbours; of whole levels it is exact."""
    return correlate(images, np.ones((1, 3, 3)), mode="mirror") / 9


def equalize(images: np.ndarray) -> np.ndarray:
    """Spread the levels of images `(N, H, W)` so that each range from 0 to 255 holds about as many pixels."""
    equal = np.empty_like(images)
    for image, out in zip(images, equal, strict=True):
        counts = np.bincount(image.astype(np.int64).ravel(), minlength=256)
        below = counts.cumsum() - counts[counts.nonzero()[0][0]]  # pixels above the darkest level, up to each
        table = np.rint(255 * below / below[-1]) if below[-1] else np.arange(256)
        out[:] = table[image.astype(np.int64)]
    return equal


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
    nearest = np.full((len(edges), height + 4, width + 4), farthest * _UNIT, dtype=np.int32)
    inner = nearest[:, 2:-2, 2:-2]
    inner[edges] = 0
    before = -1
    while before != (before := int(inner.sum(dtype=np.int64))):
        for down, right in product(range(-2, 3), repeat=2):
            if length := _LENGTHS.get(down**2 + right**2):
                beside = nearest[:, 2 + down : 2 + down + height, 2 + right : 2 + right + width]
                np.minimum(inner, beside + length, out=inner)
    return inner / _UNIT
