"""Each corruption: its five severities, and the function that makes it.

`images` are fractions of white, `(N, H, W, 3)`, and `generators` what is random for each of them. A function returns
fractions of white too, which `corrupt` clips. Lengths are in pixels; brightness and standard deviations of noise are
fractions of white.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.ndimage import correlate, gaussian_filter

from . import NUM_SEVERITIES, SIZE
from .resampling import affine, bilinear, disk, motion, zoom
from .textures import Generators, clouds, hsv, rgb, shine

Group = Literal["common", "extra"]
Function = Callable[..., np.ndarray]

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of red, green and blue in brightness
_WATER = np.array([175, 238, 238], dtype=np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], dtype=np.float32) / 255  # brown


@dataclass(frozen=True)
class Corruption:
    """A corruption.

    Attributes:
        group: `"common"`, over which the mean corruption error is taken, or `"extra"`.
        severities: The arguments of its function at each severity, from 1 on.
        function: What makes it; None for one that is only published.
    """

    group: Group
    severities: tuple[dict[str, Any], ...] = ()
    function: Function | None = None


CORRUPTIONS: dict[str, Corruption] = {}  # by name, in the order of all reports


def corruption(group: Group, **parameters: tuple[Any, ...]) -> Callable[[Function], Function]:
    """Register the function below as the corruption of its name, which is all that a new one needs.

    Args:
        group: `"common"` or `"extra"`.
        **parameters: Values of each argument of the function, from severity 1 to 5.

    Raises:
        ValueError: If an argument does not have five values.
    """
    severities = tuple(dict(zip(parameters, values, strict=True)) for values in zip(*parameters.values(), strict=True))
    if len(severities) != NUM_SEVERITIES:
        raise ValueError(f"`parameters` must have {NUM_SEVERITIES} values each, got {len(severities)}. Add the others.")

    def register(function: Function) -> Function:
        CORRUPTIONS[function.__name__] = Corruption(group, severities, function)
        return function

    return register


def computable() -> list[str]:
    """Return the corruptions that can be computed."""
    return [name for name, entry in CORRUPTIONS.items() if entry.function]


def is_common(name: str) -> bool:
    """Tell whether a corruption is one of those over which the mean corruption error is taken."""
    return CORRUPTIONS[name].group == "common"


def corrupt(images: np.ndarray, corruption: str, severity: int) -> np.ndarray:
    """Return images with a corruption.

    What is random in it depends on the corruption, the severity and the image's own pixels alone.

    Args:
        images: `(N, 32, 32, 3)`, `uint8`, for which the severities are published.
        corruption: One of `computable()`.
        severity: From 1 to 5.

    Returns:
        The corrupted images, of the same shape and type; levels are rounded down, as in the published code.

    Raises:
        ValueError: If there is no such corruption or severity, or the images are others.
    """
    entry = CORRUPTIONS.get(corruption)
    if entry is None or entry.function is None:
        raise ValueError(f"`corruption` must be one of {', '.join(computable())}, got {corruption!r}.")
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise ValueError(f"`severity` must be from 1 to {NUM_SEVERITIES}, got {severity}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(
            f"`images` must be uint8 of shape (N, {SIZE}, {SIZE}, 3), got {images.dtype} of {images.shape}."
        )
    generators = Generators(images, f"{corruption} {severity} ")
    made = entry.function(images / 255, generators, **entry.severities[severity - 1])
    return (np.clip(made, 0, 1) * 255).astype(np.uint8)


@corruption("common", scale=(0.04, 0.06, 0.08, 0.09, 0.10))
def gaussian_noise(images: np.ndarray, generators: Generators, scale: float) -> np.ndarray:
    """Add normal noise of standard deviation `scale` to each channel of each pixel."""
    return images + scale * generators.normal(images.shape[1:])


@corruption("common", photons=(500, 250, 100, 75, 50))
def shot_noise(images: np.ndarray, generators: Generators, photons: int) -> np.ndarray:
    """Count photons in each channel of each pixel; white has `photons` of them on average."""
    return generators.poisson(images * photons) / photons


@corruption("common", share=(0.01, 0.02, 0.03, 0.05, 0.07))
def impulse_noise(images: np.ndarray, generators: Generators, share: float) -> np.ndarray:
    """Set a share of the pixels' channels to black or white, each at even odds."""
    shape = images.shape[1:]
    is_set, is_white = generators.uniform(0, 1, shape) <= share, generators.uniform(0, 1, shape) <= 0.5
    return np.where(is_set, is_white, images)


@corruption("common", radius=(0.3, 0.4, 0.5, 1.0, 1.5), sigma=(0.4, 0.5, 0.6, 0.2, 0.1))
def defocus_blur(images: np.ndarray, generators: Generators, radius: float, sigma: float) -> np.ndarray:
    """Blur with a disk of a radius, which a Gaussian softens; images are mirrored on their edge pixels."""
    return correlate(images, disk(radius, sigma)[None, :, :, None], mode="mirror")


@corruption("common", sigma=(0.05, 0.25, 0.4, 0.25, 0.4), rounds=(1, 1, 1, 2, 2))
def glass_blur(images: np.ndarray, generators: Generators, sigma: float, rounds: int) -> np.ndarray:
    """Blur, let pixels take the colour of a neighbour in some rounds, and blur again.

    The neighbour is at random the pixel itself, the one above it, left of it, or above and left. The published code
    copies colours too, though it says that it swaps them.
    """
    images = np.floor(_blurred(images, sigma) * 255) / 255
    number = np.arange(len(images))[:, None, None]
    index = np.arange(2, images.shape[1])  # the first two rows and columns keep their colours
    for _ in range(rounds):
        across, down = np.moveaxis(generators.integers(-1, 0, (len(index), len(index), 2)), -1, 0)
        images[:, 2:, 2:] = images[number, index[:, None] + down, index + across]
    return _blurred(images, sigma)


@corruption("common", radius=(6, 6, 6, 8, 9), sigma=(1.0, 1.5, 2.0, 2.0, 2.5))
def motion_blur(images: np.ndarray, generators: Generators, radius: int, sigma: float) -> np.ndarray:
    """Blur along a line of a length at up to 45 degrees to the horizontal, with weights of standard deviation sigma."""
    return motion(images, generators.uniform(-45, 45), radius, sigma)


@corruption("common", end=(1.06, 1.11, 1.16, 1.21, 1.26))
def zoom_blur(images: np.ndarray, generators: Generators, end: float) -> np.ndarray:
    """Average an image and its enlargements by 1, 1.01, 1.02 and so on up to `end`, in numbers of 32 bits."""
    images = images.astype(np.float32)
    factors = np.arange(1, end, 0.01)  # rounding decides whether `end` itself is the last
    total = np.zeros_like(images)
    for factor in factors:
        total += zoom(images, factor).astype(np.float32)
    return (images + total) / (len(factors) + 1)


@corruption(
    "common",
    mean=(0.10, 0.10, 0.15, 0.25, 0.30),
    std=(0.2, 0.2, 0.3, 0.3, 0.3),
    factor=(1.00, 1.00, 1.75, 2.25, 1.25),
    threshold=(0.60, 0.50, 0.55, 0.60, 0.65),
    radius=(8, 10, 10, 12, 14),
    sigma=(3.0, 4.0, 4.0, 6.0, 12.0),
    share=(0.95, 0.90, 0.90, 0.85, 0.80),
)
def snow(
    images: np.ndarray,
    generators: Generators,
    mean: float,
    std: float,
    factor: float,
    threshold: float,
    radius: int,
    sigma: float,
    share: float,
) -> np.ndarray:
    """Bleach an image to all but a share, and let it snow from two sides.

    Flakes are normal noise of a mean and a standard deviation, enlarged by a factor, black below a threshold, and moved
    along a line as in motion blur.
    """
    flakes = zoom((mean + std * generators.normal(images.shape[1:3]))[..., None], factor)
    flakes[flakes < threshold] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = motion(flakes, generators.uniform(-135, -45), radius, sigma)
    images = images.astype(np.float32)
    bleached = np.maximum(images, (images @ _GREY)[..., None] * 1.5 + 0.5)
    return share * images + (1 - share) * bleached + flakes + np.rot90(flakes, 2, axes=(1, 2))


CORRUPTIONS["frost"] = Corruption("common")  # it blends in photographs of frost


@corruption("common", amount=(0.2, 0.5, 0.75, 1.0, 1.5), decay=(3.0, 3.0, 2.5, 2.0, 1.75))
def fog(images: np.ndarray, generators: Generators, amount: float, decay: float) -> np.ndarray:
    """Add a cloud of a brightness, smoother with a larger decay, and darken the sum to the image's brightest level."""
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    foggy = images + amount * clouds(generators, images.shape[1], decay)[..., None]
    return foggy * brightest / (brightest + amount)


@corruption("common", amount=(0.05, 0.10, 0.15, 0.20, 0.30))
def brightness(images: np.ndarray, generators: Generators, amount: float) -> np.ndarray:
    """Raise the value (V of HSV) by an amount, at most to white's, and keep hue and saturation."""
    hue, saturation, value = hsv(images)
    return rgb(hue, saturation, np.clip(value + amount, 0, 1))


@corruption("common", factor=(0.75, 0.50, 0.40, 0.30, 0.15))
def contrast(images: np.ndarray, generators: Generators, factor: float) -> np.ndarray:
    """Multiply the distance of each channel from its mean over the image."""
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * factor + means


@corruption(
    "common",
    amount=(0.0, 0.05 * SIZE, 0.08 * SIZE, 0.10 * SIZE, 0.10 * SIZE),
    sigma=(0.0, 0.20 * SIZE, 0.06 * SIZE, 0.04 * SIZE, 0.03 * SIZE),
    shift=(0.08 * SIZE, 0.07 * SIZE, 0.06 * SIZE, 0.05 * SIZE, 0.03 * SIZE),
)
def elastic_transform(
    images: np.ndarray, generators: Generators, amount: float, sigma: float, shift: float
) -> np.ndarray:
    """Shift three points of an image at most so far, all others with them, and then each pixel by an amount.

    A Gaussian of standard deviation sigma lets neighbouring pixels move alike.
    """
    size = images.shape[1]
    moved = generators.uniform(-shift, shift, (3, 2))
    fields = generators.uniform(-1, 1, (2, size, size))
    images = bilinear(images.astype(np.float32), *affine(moved, size), repeat_edge=False)
    right, down = (
        (gaussian_filter(fields[:, axis], (0, sigma, sigma), mode="reflect", truncate=3.0) * amount).astype(np.float32)
        for axis in (0, 1)
    )
    index = np.arange(size)
    images = bilinear(images.astype(np.float64), index[:, None] + down, index + right, repeat_edge=True)
    return images.astype(np.float32)


@corruption("common", size=(30, 28, 27, 24, 20))
def pixelate(images: np.ndarray, generators: Generators, size: int) -> np.ndarray:
    """Average an image over fewer pixels, `size` on a side."""

    def shrink(image: Image.Image) -> Image.Image:
        return image.resize((size, size), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(images, shrink)


@corruption("common", quality=(80, 65, 58, 50, 40))
def jpeg_compression(images: np.ndarray, generators: Generators, quality: int) -> np.ndarray:
    """Save and load an image as JPEG, at a quality that libjpeg counts up to 100."""

    def save_and_load(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, save_and_load)


@corruption("extra", scale=(0.06, 0.10, 0.12, 0.16, 0.20))
def speckle_noise(images: np.ndarray, generators: Generators, scale: float) -> np.ndarray:
    """Add normal noise whose standard deviation is `scale` times the level."""
    return images + images * (scale * generators.normal(images.shape[1:]))


@corruption("extra", sigma=(0.4, 0.6, 0.7, 0.8, 1.0))
def gaussian_blur(images: np.ndarray, generators: Generators, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of standard deviation sigma, cut off at 4 sigma; edge pixels go on beyond the edges."""
    return _blurred(images, sigma)


@corruption(
    "extra",
    mean=(0.62, 0.65, 0.65, 0.65, 0.65),
    std=(0.1, 0.1, 0.3, 0.1, 0.1),
    sigma=(0.7, 0.8, 1.0, 0.7, 0.5),
    threshold=(0.70, 0.70, 0.69, 0.69, 0.68),
    amount=(0.5, 0.5, 0.5, 0.6, 0.6),
    liquid=("water", "water", "water", "mud", "mud"),
)
def spatter(
    images: np.ndarray,
    generators: Generators,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    amount: float,
    liquid: str,
) -> np.ndarray:
    """Throw drops of water or mud on the lens.

    There is a drop where normal noise of a mean and a standard deviation, smoothed by a Gaussian of standard deviation
    sigma, is above a threshold. Of water, `amount` is the brightness that it adds; of mud, the standard deviation of
    the Gaussian that blurs the drops.
    """
    heights = gaussian_filter(mean + std * generators.normal(images.shape[1:3]), (0, sigma, sigma), mode="nearest")
    images = images.astype(np.float32)
    if liquid == "water":
        return images + amount * shine(heights, threshold)[..., None] * _WATER
    cover = gaussian_filter((heights > threshold).astype(np.float32), (0, amount, amount), mode="nearest")
    cover[cover < 0.8] = 0
    return images * (1 - cover[..., None]) + cover[..., None] * _MUD


@corruption("extra", factor=(0.3, 0.1, 1.5, 2.0, 2.5), amount=(0.0, 0.0, 0.0, 0.1, 0.2))
def saturate(images: np.ndarray, generators: Generators, factor: float, amount: float) -> np.ndarray:
    """Multiply the saturation (S of HSV), add an amount, at most to 1, and keep hue and value; grey has red's hue."""
    hue, saturation, value = hsv(images)
    return rgb(hue, np.clip(saturation * factor + amount, 0, 1), value)


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    levels = np.rint(images * 255).astype(np.uint8)
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in levels]) / 255
