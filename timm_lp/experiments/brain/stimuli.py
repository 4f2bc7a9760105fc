"""The images that the cortex saw: from a folder, and as a network's input."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .responses import check_images

_SUFFIXES = frozenset(Image.registered_extensions())


def read_images(folder: Path, num_images: int, image_id: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return the images of a folder in the order of the responses.

    Args:
        folder: Holds an image for each row of the responses.
        num_images: Number of the rows.
        image_id: Names of the rows; the files are called so. Without them the files' names must sort as they count.

    Returns:
        Grey `(n, H, W)` if all are grey, else RGB `(n, H, W, 3)`.

    Raises:
        ValueError: If the images are not as many, not in a stated order, not of one size, or not of 8 bits.
        OSError: If one cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"`--images` must be a folder, got {folder}.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(paths) != num_images:
        raise ValueError(f"`--images` must hold {num_images} images, one for each row, got {len(paths)} in {folder}.")
    paths = _as_they_count(paths) if image_id is None else _as_named(paths, image_id)
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                mode, pixels = image.mode, np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except Exception as error:  # Pillow's readers raise anything
            raise ValueError(f"`--images` must hold images that can be read, got {path}: {error}") from error
        if mode.startswith(("I", "F")):
            raise ValueError(
                f"`--images` must have 8 bits a channel, got {path.name} in Pillow's mode {mode}. Convert it."
            )
        images.append(pixels)
    if len({image.shape[:2] for image in images}) > 1:
        sizes = sorted({image.shape[:2] for image in images})
        raise ValueError(f"`--images` must have one size, got {sizes[0]} and {sizes[-1]} (height, width). Resize them.")
    if len({image.ndim for image in images}) > 1:
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    stacked = np.stack(images)
    check_images(stacked, "--images")
    return stacked


def network_input(images: NDArray[np.uint8], network: nn.Module, size: int | None = None) -> Tensor:
    """Return images as a network takes them: whole, resized, with the mean and deviation of its configuration.

    Args:
        images: Grey `(n, H, W)` or RGB `(n, H, W, 3)`.
        network: A network of timm.
        size: Height and width that they are resized to, pixels; the network's own by default.

    Returns:
        Shape `(n, 3, size, size)`; grey images have three equal channels before the normalisation.

    Raises:
        ValueError: If the network does not take three channels.
    """
    config = resolve_model_data_config(network)
    channels, *own_size = config["input_size"]
    if channels != 3:
        raise ValueError(f"The network must take images of 3 channels, got one that takes {channels}.")
    x = torch.from_numpy(images).float() / 255
    x = x[:, None].expand(-1, 3, -1, -1) if images.ndim == 3 else x.permute(0, 3, 1, 2)
    target = own_size if size is None else [size, size]
    if list(x.shape[2:]) != target:
        x = interpolate(x, target, mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    return (x - mean) / std


def _as_named(paths: list[Path], image_id: NDArray[Any]) -> list[Path]:
    by_stem = {_canonical(path.stem): path for path in paths}
    missing = [str(name) for name in image_id if _canonical(str(name)) not in by_stem]
    if missing:
        raise ValueError(f"`--images` must be named as `image_id`, got no file {missing[0]}.*. Rename the files.")
    return [by_stem[_canonical(str(name))] for name in image_id]


def _canonical(name: str) -> str:
    """Return a name without leading zeros where it is a number."""
    return str(int(name)) if name.isdecimal() else name


def _as_they_count(paths: list[Path]) -> list[Path]:
    """Return files in the order of their names, where it is the same by letters and by numbers."""
    counted = sorted(
        paths, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.stem)]
    )
    if counted != paths:
        first = next(n for n, pair in enumerate(zip(paths, counted, strict=True)) if pair[0] != pair[1])
        raise ValueError(
            f"`--images` must be in a stated order, got {paths[first].name} by letters and {counted[first].name} by "
            "numbers. Fill the numbers with zeros (001, 002), or give `image_id` in the responses."
        )
    return paths
