"""Processing: in each, `images` are fractions of white, `(N, H, W, 3)`, and so is what is returned."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from .draws import Draws
from .geometry import bilinear

_FINE, _COARSE = 1024, 32  # parts of a pixel, and how many of them are one of the coarser parts
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
    hue, saturation, value = _hsv(images)
    return _rgb(hue, saturation, np.clip(value + amount, 0, 1))


def saturate(images: np.ndarray, draws: Draws, factor: float, amount: float) -> np.ndarray:
    """Scale and raise the saturation (S of HSV), at most to 1, and keep hue and value; grey has the hue of red.

    Args:
        images: The images.
        draws: Not used.
        factor: Of the saturation.
        amount: What is added to it.
    """
    hue, saturation, value = _hsv(images)
    return _rgb(hue, np.clip(saturation * factor + amount, 0, 1), value)


def _hsv(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
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
    images = bilinear(images.astype(np.float32), rows, columns, repeat_edge=False)
    right, down = (
        (gaussian_filter(fields[:, axis], (0, sigma, sigma), mode="reflect", truncate=3.0) * amount).astype(np.float32)
        for axis in (0, 1)
    )
    places = np.arange(size)
    images = bilinear(images.astype(np.float64), places[:, None] + down, places + right, repeat_edge=True)
    return images.astype(np.float32)


def _affine(moved: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns, each `(N, size, size)`, that an affine map which moves three points brings there.

    They are rounded to parts of a pixel as OpenCV does up to version 4: to 1 / 1024 each summand, to 1 / 32 the sum.

    Args:
        moved: How far, across and down, `(N, 3, 2)`, pixels.
        size: Pixels of an image's side.
    """
    centre, reach = size // 2, size // _THIRD
    before = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    after = before + moved.astype(np.float32)
    ones = np.ones((len(moved), 3, 1))
    back = np.linalg.solve(np.concatenate([after, ones], axis=2), np.concatenate([before[None]] * len(moved)))
    places = np.arange(size)[:, None]
    across = np.rint(_FINE * back[:, None, 0] * places)
    down = np.rint(_FINE * (back[:, None, 1] * places + back[:, 2:]))
    source = np.floor((across[:, None] + down[:, :, None] + _COARSE / 2) / _COARSE) * _COARSE / _FINE
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
    levels = np.rint(images * 255).astype(np.uint8)
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in levels]) / 255
