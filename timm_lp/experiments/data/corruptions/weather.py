"""Weather: in each, `images` are fractions of white, `(N, H, W, 3)`, and so is what is returned, not clipped yet."""

import numpy as np
from scipy.ndimage import correlate, gaussian_filter

from .draws import Draws
from .edges import canny, distance
from .geometry import motion, zoom

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of red, green and blue in brightness
_WATER = np.array([175, 238, 238], dtype=np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], dtype=np.float32) / 255  # brown
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_FARTHEST = 20  # pixels from an edge of water, beyond which all looks alike


def snow(
    images: np.ndarray,
    draws: Draws,
    mean: float,
    std: float,
    factor: float,
    threshold: float,
    radius: int,
    sigma: float,
    share: float,
) -> np.ndarray:
    """Bleach an image, and let it snow from two sides.

    Args:
        images: The images.
        draws: Their generators.
        mean: Mean of the flakes' brightness, a fraction of white.
        std: Its standard deviation.
        factor: How much the flakes are enlarged.
        threshold: Brightness below which there is no flake.
        radius: Length of a flake's way, pixels.
        sigma: Standard deviation of the weights along it, pixels.
        share: Of the image in the bleached one.
    """
    flakes = zoom((mean + std * draws.normal(images.shape[1:3]))[..., None], factor)
    flakes[flakes < threshold] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = motion(flakes, draws.uniform(-135, -45), radius, sigma)
    images = images.astype(np.float32)
    bleached = np.maximum(images, (images @ _GREY)[..., None] * 1.5 + 0.5)
    return share * images + (1 - share) * bleached + flakes + np.rot90(flakes, 2, axes=(1, 2))


def fog(images: np.ndarray, draws: Draws, amount: float, decay: float) -> np.ndarray:
    """Add a cloud, and darken the sum to the image's own brightest level.

    Args:
        images: The images.
        draws: Their generators.
        amount: Brightness of the cloud, a fraction of white.
        decay: How much smoother the cloud is than noise.
    """
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    foggy = images + amount * clouds(draws, images.shape[1], decay)[..., None]
    return foggy * brightest / (brightest + amount)


def clouds(draws: Draws, size: int, decay: float) -> np.ndarray:
    """Return clouds of the diamond-square algorithm on a torus, from 0 to 1, `(N, size, size)`.

    Args:
        draws: Their generators.
        size: A power of two, pixels.
        decay: By how much the noise falls from a step to the next, which is half as long.
    """
    noise = draws.uniform(-1, 1, (size * size - 1,))
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


def spatter(
    images: np.ndarray,
    draws: Draws,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    amount: float,
    liquid: str,
) -> np.ndarray:
    """Throw drops of water or mud on the lens.

    Args:
        images: The images.
        draws: Their generators.
        mean: Mean of the noise that drops are made of.
        std: Its standard deviation.
        sigma: Standard deviation of the Gaussian that smooths it, pixels.
        threshold: Height of the smoothed noise from which there is a drop.
        amount: Of the brightness that water adds, a fraction; for mud, standard deviation of the drops' blur, pixels.
        liquid: `"water"` or `"mud"`.
    """
    heights = gaussian_filter(mean + std * draws.normal(images.shape[1:3]), (0, sigma, sigma), mode="nearest")
    images = images.astype(np.float32)
    if liquid == "water":
        return images + amount * _shine(heights, threshold)[..., None] * _WATER
    cover = gaussian_filter((heights > threshold).astype(np.float32), (0, amount, amount), mode="nearest")
    cover[cover < 0.8] = 0
    return images * (1 - cover[..., None]) + cover[..., None] * _MUD


def _shine(heights: np.ndarray, threshold: float) -> np.ndarray:
    """Return how water shines, at most 1 in each image: its height times a relief of the distance from its edges."""
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
