"""Each corruption: its five severities for small images and for large ones, and the function that makes it.

The severities of CIFAR-10-C and CIFAR-100-C are for images of 32x32 pixels, those of ImageNet-C for 224x224 and, at the
same lengths in pixels, for others from 64x64 on.
`images` are fractions of white, `(N, H, W, 3)`, and `generators` what is random for each of them. A function returns
fractions of white too, which `corrupt` clips. Lengths are in pixels; brightness and standard deviations of noise are
fractions of white.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.ndimage import correlate, gaussian_filter

from . import FROST, LARGE, NUM_SEVERITIES, SIZE
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
        severities: The arguments of its function at each severity, from 1 on, for images of 32x32 pixels.
        function: What makes it.
        imagenet: Its severities for images from 64x64 pixels on; empty where there are none.
    """

    group: Group
    severities: tuple[dict[str, Any], ...]
    function: Function
    imagenet: tuple[dict[str, Any], ...] = ()


CORRUPTIONS: dict[str, Corruption] = {}  # by name, in the order of all reports


def corruption(group: Group, **parameters: tuple[Any, ...]) -> Callable[[Function], Function]:
    """Register the function below as the corruption of its name, which is all that a new one needs.

    Args:
        group: `"common"` or `"extra"`.
        **parameters: Values of each argument of the function, from severity 1 to 5.

    Raises:
        ValueError: If an argument does not have five values.
    """
    severities = _by_severity(parameters)

    def register(function: Function) -> Function:
        CORRUPTIONS[function.__name__] = Corruption(group, severities, function)
        return function

    return register


def imagenet(**parameters: tuple[Any, ...]) -> Callable[[Function], Function]:
    """Give the corruption that is registered below its severities for large images.

    Args:
        **parameters: As of `corruption`.

    Raises:
        ValueError: If an argument does not have five values.
    """
    severities = _by_severity(parameters)

    def add(function: Function) -> Function:
        CORRUPTIONS[function.__name__] = replace(CORRUPTIONS[function.__name__], imagenet=severities)
        return function

    return add


def _by_severity(parameters: dict[str, tuple[Any, ...]]) -> tuple[dict[str, Any], ...]:
    severities = tuple(dict(zip(parameters, values, strict=True)) for values in zip(*parameters.values(), strict=True))
    if len(severities) != NUM_SEVERITIES:
        raise ValueError(f"`parameters` must have {NUM_SEVERITIES} values each, got {len(severities)}. Add the others.")
    return severities


def computable(size: int = SIZE, with_frost: bool = False) -> list[str]:
    """Return the corruptions that can be computed.

    Args:
        size: Side of the images, pixels.
        with_frost: Whether there are photographs of frost.
    """
    names = [name for name, entry in CORRUPTIONS.items() if size == SIZE or entry.imagenet]
    return [name for name in names if name != FROST or with_frost]


def is_common(name: str) -> bool:
    """Tell whether a corruption is one of those over which the mean corruption error is taken."""
    return CORRUPTIONS[name].group == "common"


def corrupt(images: np.ndarray, corruption: str, severity: int, photographs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return images with a corruption.

    What is random in it depends on the corruption, the severity and the image's own pixels alone.

    Args:
        images: `uint8`, `(N, 32, 32, 3)`, or `(N, H, H, 3)` with H at least 64.
        corruption: One of `computable()`.
        severity: From 1 to 5.
        photographs: Photographs of frost, each `(H, W, 3)` of `uint8`, for that alone.

    Returns:
        The corrupted images, of the same shape and type; levels are rounded down, as in the published code.

    Raises:
        ValueError: If there is no such corruption or severity, or the images are others.
    """
    names = computable(images.shape[1] if images.ndim == 4 else SIZE, with_frost=len(photographs) > 0)
    if corruption not in names:
        raise ValueError(f"`corruption` must be one of {', '.join(names)}, got {corruption!r}.")
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise ValueError(f"`severity` must be from 1 to {NUM_SEVERITIES}, got {severity}.")
    is_square = images.ndim == 4 and images.shape[2:] == (images.shape[1], 3)
    if images.dtype != np.uint8 or not is_square or not (images.shape[1] == SIZE or images.shape[1] >= LARGE):
        raise ValueError(
            f"`images` must be uint8 of shape (N, {SIZE}, {SIZE}, 3), or with a side of at least {LARGE}, got "
            f"{images.dtype} of {images.shape}."
        )
    entry, generators = CORRUPTIONS[corruption], Generators(images, f"{corruption} {severity} ")
    arguments = (entry.severities if images.shape[1] == SIZE else entry.imagenet)[severity - 1]
    if corruption == FROST:
        arguments = {**arguments, "photographs": photographs}
    made = entry.function(images / 255, generators, **arguments)
    return (np.clip(made, 0, 1) * 255).astype(np.uint8)


@imagenet(scale=(0.08, 0.12, 0.18, 0.26, 0.38))
@corruption("common", scale=(0.04, 0.06, 0.08, 0.09, 0.10))
def gaussian_noise(images: np.ndarray, generators: Generators, scale: float) -> np.ndarray:
    """Add normal noise of standard deviation `scale` to each channel of each pixel."""
    return images + scale * generators.normal(images.shape[1:])


@imagenet(photons=(60, 25, 12, 5, 3))
@corruption("common", photons=(500, 250, 100, 75, 50))
def shot_noise(images: np.ndarray, generators: Generators, photons: int) -> np.ndarray:
    """Count photons in each channel of each pixel; white has `photons` of them on average."""
    return generators.poisson(images * photons) / photons


@imagenet(share=(0.03, 0.06, 0.09, 0.17, 0.27))
@corruption("common", share=(0.01, 0.02, 0.03, 0.05, 0.07))
def impulse_noise(images: np.ndarray, generators: Generators, share: float) -> np.ndarray:
    """Set a share of the pixels' channels to black or white, each at even odds."""
    shape = images.shape[1:]
    is_set, is_white = generators.uniform(0, 1, shape) <= share, generators.uniform(0, 1, shape) <= 0.5
    return np.where(is_set, is_white, images)


@imagenet(radius=(3, 4, 6, 8, 10), sigma=(0.1, 0.5, 0.5, 0.5, 0.5))
@corruption("common", radius=(0.3, 0.4, 0.5, 1.0, 1.5), sigma=(0.4, 0.5, 0.6, 0.2, 0.1))
def defocus_blur(images: np.ndarray, generators: Generators, radius: float, sigma: float) -> np.ndarray:
    """Blur with a disk of a radius, which a Gaussian softens; images are mirrored on their edge pixels."""
    return correlate(images, disk(radius, sigma)[None, :, :, None], mode="mirror")


@imagenet(sigma=(0.7, 0.9, 1.0, 1.1, 1.5), reach=(1, 2, 2, 3, 4), rounds=(2, 1, 3, 2, 2))
@corruption("common", sigma=(0.05, 0.25, 0.4, 0.25, 0.4), reach=(1, 1, 1, 1, 1), rounds=(1, 1, 1, 2, 2))
def glass_blur(images: np.ndarray, generators: Generators, sigma: float, reach: int, rounds: int) -> np.ndarray:
    """Blur, let pixels take the colour of a neighbour in some rounds, and blur again.

    The neighbour is at random up to `reach` above or left of the pixel, or up to one less below or right of it. Pixels
    take their colours one after the other, from the last one of the last row back. The published code copies colours
    too, though it says that it swaps them.
    """
    images = np.floor(_blurred(images, sigma) * 255) / 255
    number = np.arange(len(images))[:, None, None]
    index = np.arange(reach + 1, images.shape[1] - reach + 1)  # the others keep their colours
    for _ in range(rounds):
        across, down = np.moveaxis(generators.integers(-reach, reach - 1, (len(index), len(index), 2)), -1, 0)
        rows, columns = index[:, None] + down, index + across
        if reach == 1:  # no pixel looks at one that has changed already
            images[:, 2:, 2:] = images[number, rows, columns]
            continue
        for row, column in product(reversed(range(len(index))), repeat=2):
            colours = images[number[:, 0, 0], rows[:, row, column], columns[:, row, column]]
            images[:, index[row], index[column]] = colours
    return _blurred(images, sigma)


@imagenet(radius=(10, 15, 15, 15, 20), sigma=(3.0, 5.0, 8.0, 12.0, 15.0))
@corruption("common", radius=(6, 6, 6, 8, 9), sigma=(1.0, 1.5, 2.0, 2.0, 2.5))
def motion_blur(images: np.ndarray, generators: Generators, radius: int, sigma: float) -> np.ndarray:
    """Blur along a line of a length at up to 45 degrees to the horizontal, with weights of standard deviation sigma."""
    return motion(images, generators.uniform(-45, 45), radius, sigma)


@imagenet(end=(1.11, 1.16, 1.21, 1.26, 1.31), step=(0.01, 0.01, 0.02, 0.02, 0.03))
@corruption("common", end=(1.06, 1.11, 1.16, 1.21, 1.26), step=(0.01, 0.01, 0.01, 0.01, 0.01))
def zoom_blur(images: np.ndarray, generators: Generators, end: float, step: float) -> np.ndarray:
    """Average an image and its enlargements by 1, 1 + step and so on up to `end`, in numbers of 32 bits."""
    images = images.astype(np.float32)
    factors = np.arange(1, end, step)  # rounding decides whether `end` itself is the last
    total = np.zeros_like(images)
    for factor in factors:
        total += zoom(images, factor).astype(np.float32)
    return (images + total) / (len(factors) + 1)


@imagenet(
    mean=(0.10, 0.20, 0.55, 0.55, 0.55),
    std=(0.3, 0.3, 0.3, 0.3, 0.3),
    factor=(3.0, 2.0, 4.0, 4.5, 2.5),
    threshold=(0.50, 0.50, 0.90, 0.85, 0.85),
    radius=(10, 12, 12, 12, 12),
    sigma=(4.0, 4.0, 8.0, 8.0, 12.0),
    share=(0.80, 0.70, 0.70, 0.65, 0.55),
)
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


@imagenet(share=(1.0, 0.8, 0.7, 0.65, 0.6), amount=(0.4, 0.6, 0.7, 0.7, 0.75), step=(1, 1, 1, 1, 1))
@corruption("common", share=(1.0, 1.0, 0.9, 0.85, 0.75), amount=(0.2, 0.3, 0.4, 0.4, 0.45), step=(5, 5, 5, 5, 5))
def frost(
    images: np.ndarray,
    generators: Generators,
    share: float,
    amount: float,
    step: int,
    photographs: Sequence[np.ndarray],
) -> np.ndarray:
    """Add an amount of a part of a photograph of frost to a share of an image; one pixel of each step of it is seen."""
    size = images.shape[1]
    frozen = np.empty_like(images)
    for position, (which, top, left) in enumerate(generators.uniform(0, 1, (3,))):
        photograph = photographs[int(which * len(photographs))][step // 2 :: step, step // 2 :: step]
        first, second = (
            int(part * (length - size)) for part, length in zip((top, left), photograph.shape[:2], strict=True)
        )
        frozen[position] = photograph[first : first + size, second : second + size] / 255
    return share * images + amount * frozen


@imagenet(amount=(1.5, 2.0, 2.5, 2.5, 3.0), decay=(2.0, 2.0, 1.7, 1.5, 1.4))
@corruption("common", amount=(0.2, 0.5, 0.75, 1.0, 1.5), decay=(3.0, 3.0, 2.5, 2.0, 1.75))
def fog(images: np.ndarray, generators: Generators, amount: float, decay: float) -> np.ndarray:
    """Add a cloud of a brightness, smoother with a larger decay, and darken the sum to the image's brightest level."""
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    size = images.shape[1]
    cloud = clouds(generators, 2 ** math.ceil(math.log2(size)), decay)[:, :size, :size]
    foggy = images + amount * cloud[..., None]
    return foggy * brightest / (brightest + amount)


@imagenet(amount=(0.1, 0.2, 0.3, 0.4, 0.5))
@corruption("common", amount=(0.05, 0.10, 0.15, 0.20, 0.30))
def brightness(images: np.ndarray, generators: Generators, amount: float) -> np.ndarray:
    """Raise the value (V of HSV) by an amount, at most to white's, and keep hue and saturation."""
    hue, saturation, value = hsv(images)
    return rgb(hue, saturation, np.clip(value + amount, 0, 1))


@imagenet(factor=(0.40, 0.30, 0.20, 0.10, 0.05))
@corruption("common", factor=(0.75, 0.50, 0.40, 0.30, 0.15))
def contrast(images: np.ndarray, generators: Generators, factor: float) -> np.ndarray:
    """Multiply the distance of each channel from its mean over the image."""
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * factor + means


@imagenet(  # they are published for sides of 244 pixels, by mistake, and used for 224
    amount=tuple(share * 244 / 224 for share in (2.0, 2.0, 0.05, 0.07, 0.12)),
    sigma=tuple(share * 244 / 224 for share in (0.70, 0.08, 0.01, 0.01, 0.01)),
    shift=tuple(share * 244 / 224 for share in (0.10, 0.20, 0.02, 0.02, 0.02)),
)
@corruption(
    "common",
    amount=(0.0, 0.05, 0.08, 0.10, 0.10),
    sigma=(0.0, 0.20, 0.06, 0.04, 0.03),
    shift=(0.08, 0.07, 0.06, 0.05, 0.03),
)
def elastic_transform(
    images: np.ndarray, generators: Generators, amount: float, sigma: float, shift: float
) -> np.ndarray:
    """Shift three points of an image at most so far, all others with them, and then each pixel by an amount.

    A Gaussian of standard deviation sigma lets neighbouring pixels move alike. All three are shares of the side.
    """
    size = images.shape[1]
    amount, sigma, shift = amount * size, sigma * size, shift * size
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


@imagenet(share=(0.6, 0.5, 0.4, 0.3, 0.25))
@corruption("common", share=(0.95, 0.9, 0.85, 0.75, 0.65))
def pixelate(images: np.ndarray, generators: Generators, share: float) -> np.ndarray:
    """Average an image over fewer pixels, a share of those of its side."""
    size = int(images.shape[1] * share)

    def shrink(image: Image.Image) -> Image.Image:
        return image.resize((size, size), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(images, shrink)


@imagenet(quality=(25, 18, 15, 10, 7))
@corruption("common", quality=(80, 65, 58, 50, 40))
def jpeg_compression(images: np.ndarray, generators: Generators, quality: int) -> np.ndarray:
    """Save and load an image as JPEG, at a quality that libjpeg counts up to 100."""

    def save_and_load(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, save_and_load)


@imagenet(scale=(0.15, 0.20, 0.35, 0.45, 0.60))
@corruption("extra", scale=(0.06, 0.10, 0.12, 0.16, 0.20))
def speckle_noise(images: np.ndarray, generators: Generators, scale: float) -> np.ndarray:
    """Add normal noise whose standard deviation is `scale` times the level."""
    return images + images * (scale * generators.normal(images.shape[1:]))


@imagenet(sigma=(1.0, 2.0, 3.0, 4.0, 6.0))
@corruption("extra", sigma=(0.4, 0.6, 0.7, 0.8, 1.0))
def gaussian_blur(images: np.ndarray, generators: Generators, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of standard deviation sigma, cut off at 4 sigma; edge pixels go on beyond the edges."""
    return _blurred(images, sigma)


@imagenet(
    mean=(0.65, 0.65, 0.65, 0.65, 0.67),
    std=(0.3, 0.3, 0.3, 0.3, 0.4),
    sigma=(4.0, 3.0, 2.0, 1.0, 1.0),
    threshold=(0.69, 0.68, 0.68, 0.65, 0.65),
    amount=(0.6, 0.6, 0.5, 1.5, 1.5),
    liquid=("water", "water", "water", "mud", "mud"),
)
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


@imagenet(factor=(0.3, 0.1, 2.0, 5.0, 20.0), amount=(0.0, 0.0, 0.0, 0.1, 0.2))
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
