"""Inputs for a network: photographs from a folder, the embedded ones, or noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm.data
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_images(folder: Path, count: int) -> list[Path]:
    """Return the first images of a folder, by name.

    Args:
        folder: The folder; those in it are not searched.
        count: How many.

    Raises:
        ValueError: If there are not as many, or it is no folder.
    """
    if not folder.is_dir():
        raise ValueError(f"`--images` must be a folder, got {folder}. Leave it out for the embedded photographs.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(paths) < count:
        raise ValueError(
            f"`--images` must hold at least {count} images ({', '.join(_SUFFIXES)}), got {len(paths)} in {folder}. "
            "Set `--num-images`."
        )
    return paths[:count]


def read_images(paths: list[Path]) -> list[Image.Image]:
    """Return images in RGB.

    Raises:
        ValueError: If one cannot be read.
    """
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        except Exception as error:  # Pillow's readers raise anything
            raise ValueError(f"`--images` must hold images, got {path}: {error}. Take it out of the folder.") from error
    return images


def embedded_images(count: int, seed: int) -> list[Image.Image]:
    """Return square crops of scikit-learn's two sample photographs, by turns, at positions that the seed gives."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(seed)
    photographs = load_sample_images().images
    crops = []
    for number in range(count):
        pixels = photographs[number % len(photographs)]
        side = min(pixels.shape[:2]) * 2 // 3
        top, left = (int(generator.integers(size - side + 1)) for size in pixels.shape[:2])
        crops.append(Image.fromarray(pixels[top : top + side, left : left + side]))
    return crops


@dataclass(frozen=True)
class InputFormat:
    """How a network takes its inputs.

    Attributes:
        size: `(channels, height, width)`.
        transform: From an image in the format's mode to an input.
    """

    size: tuple[int, int, int]
    transform: Callable[[Image.Image], Tensor]

    def to_inputs(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """Return images as inputs in the network's size, crop and normalization, each of shape `(C, H, W)`."""
        mode = "L" if self.size[0] == 1 else "RGB"
        return [self.transform(image.convert(mode)) for image in images]

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """Return inputs of Gaussian noise with mean 0 and variance 1, each of shape `(C, H, W)`."""
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(self.size, generator=generator) for _ in range(count)]


def input_format(network: nn.Module, name: str) -> InputFormat:
    """Return how a network takes its inputs.

    Args:
        network: A network of timm's.
        name: What to call it in a message.

    Raises:
        ValueError: If it takes neither gray nor RGB images.
    """
    config = timm.data.resolve_model_data_config(network)
    channels, height, width = config["input_size"]
    if channels not in (1, 3):
        raise ValueError(
            f"`NETWORK` must take images of 1 or 3 channels, got {name}, which takes {channels}. Name another network."
        )
    return InputFormat((channels, height, width), create_transform(**config, is_training=False))
