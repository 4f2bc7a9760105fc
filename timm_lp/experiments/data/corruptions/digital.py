"""Processing: in each, `images` are levels from 0 to 255, `(N, H, W, 3)`, and so is what is returned."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from .draws import Draws
from .geometry import bilinear

_THIRD = 3  # the triangle that is moved reaches a third of an image from its centre


def contrast(images: np.ndarray, draws: Draws, factor: float) -> np.ndarray:
    """Bring each channel nearer to its mean over the image.

    Args:
        images: The images.
        draws: Not used.
        factor: Of the distance from the mean.
    """
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * factor + means


def brightness(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """Raise the value (V of HSV), at most to white's, and keep hue and saturation.

    Args:
        images: The images.
        draws: Not used.
        amount: By how much, a fraction of white.
    """
    value = images.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + 255 * amount, 255)
    return np.where(value > 0, images * brighter / np.maximum(value, 1), brighter)


def saturate(images: np.ndarray, draws: Draws, factor: float, amount: float) -> np.ndarray:
    """Scale and raise the saturation (S of HSV), at most to 1, and keep hue and value; grey has the hue of red.

    Args:
        images: The images.
        draws: Not used.
        factor: Of the saturation.
        amount: What is added to it.
    """
    value = images.max(axis=-1, keepdims=True)
    missing = value - images  # of each channel, to the strongest one
    saturation = missing.max(axis=-1, keepdims=True) / np.maximum(value, 1)
    stronger = np.clip(saturation * factor + amount, 0, 1)
    scaled = missing * np.divide(stronger, saturation, out=np.zeros_like(stronger), where=saturation > 0)
    reddened = value * stronger * np.array([0, 1, 1])
    return value - np.where(saturation > 0, scaled, reddened)


def elastic_transform(images: np.ndarray, draws: Draws, amount: float, sigma: float, shift: float) -> np.ndarray:
    """Move three points of an image and all others with them, then each pixel a little.

    Args:
        images: The images.
        draws: Their generators.
        amount: How far pixels are moved, pixels.
        sigma: Standard deviation of the Gaussian that lets neighbours move alike, pixels.
        shift: How far each of the three points is moved at most, in each direction, pixels.
    """
    size = images.shape[1]
    moved = draws.uniform(-shift, shift, (3, 2))
    fields = draws.uniform(-1, 1, (2, size, size))
    rows, columns = _affine(moved, size)
    images = bilinear(images, rows, columns, repeat_edge=False)
    right, down = (
        amount * gaussian_filter(fields[:, axis], (0, sigma, sigma), mode="reflect", truncate=3.0) for axis in (0, 1)
    )
    places = np.arange(size)
    return bilinear(images, places[:, None] + down, places + right, repeat_edge=True)


def _affine(moved: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns, each `(N, size, size)`, that an affine map which moves three points brings there.

    Args:
        moved: How far, across and down, `(N, 3, 2)`, pixels.
        size: Pixels of an image's side.
    """
    centre, reach = size // 2, size // _THIRD
    before = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    ones = np.ones((len(moved), 3, 1))
    back = np.linalg.solve(np.concatenate([before + moved, ones], axis=2), np.concatenate([before[None]] * len(moved)))
    down, across = np.mgrid[:size, :size]
    points = np.stack([across, down, np.ones_like(down)], axis=-1)
    source = np.einsum("hwk,nkd->nhwd", points, back)
    return source[..., 1], source[..., 0]


def pixelate(images: np.ndarray, draws: Draws, size: int) -> np.ndarray:
    """Average an image over fewer pixels.

    Args:
        images: The images.
        draws: Not used.
        size: How many on a side.
    """

    def shrink(image: Image.Image) -> Image.Image:
        return image.resize((size, size), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(images, shrink)


def jpeg_compression(images: np.ndarray, draws: Draws, quality: int) -> np.ndarray:
    """Save and load an image as JPEG.

    Args:
        images: The images.
        draws: Not used.
        quality: As libjpeg counts it, up to 100.
    """

    def save_and_load(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, save_and_load)


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images.astype(np.uint8)])
