"""Decode stored images to pixels in RGB, each when it is asked for, or all at once if memory allows."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from ...trials.record import UnreadableDataError

_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # in which Pillow's mode I holds 0 to 65535
_CHUNK = 64  # images that a thread decodes at once
_MIB = 2**20


class UnreadableImageError(UnreadableDataError):
    """An image cannot be decoded."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split, each decoded when it is asked for.

    Attributes:
        sources: Each image of the split: a path, an array `(H, W)`, or `datasets`' dictionary with `bytes` and `path`.
        labels: Class of each image of the split.
        class_names: Name of each class.
        indices: The images that belong to the set, by their number in the split.
        pinned: What settles the images for all time, as a commit on the Hub does; None where their contents do.
    """

    sources: Sequence[Any]
    labels: Sequence[int]
    class_names: list[str]
    indices: Sequence[int]
    pinned: str | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, position: int) -> Image.Image:
        """Return one of the set's images, in RGB.

        Raises:
            UnreadableImageError: If it cannot be decoded.
        """
        index = self.indices[position]
        source = self.sources[index]
        try:
            return decode(source)
        except Exception as error:  # Pillow's readers raise anything, a TypeError for instance
            path = source.get("path") if isinstance(source, dict) else source if isinstance(source, str) else None
            raise UnreadableImageError(f"image {index} ({path or 'without a name'}) cannot be read: {error}") from error

    def own_labels(self) -> np.ndarray:
        """Return the classes of the set's images."""
        return np.asarray(self.labels, dtype=np.int64)[np.asarray(self.indices, dtype=np.int64)]

    def subset(self, positions: Sequence[int]) -> "ImageSet":
        """Return some of the set's images."""
        return replace(self, indices=[int(self.indices[position]) for position in positions])


class DecodedImages:
    """All images of a set, decoded once on several threads, and kept in memory if they are not too large.

    Images that are not kept are decoded too, and again when they are asked for: an image that cannot be read shows
    before a training, in every process alike.

    Args:
        images: The images.
        limit_mib: Size above which nothing is kept, MiB.
        finish: Makes of an image what is kept; the image itself if not given.

    Raises:
        UnreadableImageError: If an image cannot be decoded.
    """

    def __init__(
        self, images: ImageSet, limit_mib: float, finish: Callable[[Image.Image], Any] = lambda image: image
    ) -> None:
        self.images, self._finish = images, finish
        self._kept = self._read_all(limit_mib * _MIB)

    @property
    def kept(self) -> bool:
        """Whether the images are in memory."""
        return self._kept is not None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Any:
        return self._read(position) if self._kept is None else self._kept[position]

    def _read(self, position: int) -> Any:
        return self._finish(self.images.image(position))

    def _read_all(self, limit: float) -> list[Any] | None:
        kept: list[Any] | None = []
        size = 0
        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for part in pool.map(lambda chunk: [self._read(position) for position in chunk], chunks):
                size += sum(map(_num_bytes, part))
                if size > limit:
                    kept = None
                if kept is not None:
                    kept += part
        return kept


def _num_bytes(item: Any) -> int:
    return 3 * item.width * item.height if isinstance(item, Image.Image) else item.nbytes


def decode(source: Any) -> Image.Image:
    """Return an image in RGB as `datasets` decodes it: the first frame, upright by its EXIF data, opaque.

    Grey levels of 16 bits are scaled to 8; Pillow alone would clip them.

    Args:
        source: A path, an array `(H, W)` or `(H, W, 3)` of `uint8`, or `datasets`' dictionary with `bytes` and `path`.

    Raises:
        ValueError: If there is no image, or its levels have no known range.
        Exception: What Pillow raises for a file that it cannot read.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8:
            raise ValueError(f"its array must be of type uint8, got {source.dtype}. Scale it to 0 to 255")
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, dict):
        source = BytesIO(source["bytes"]) if source.get("bytes") is not None else source["path"]
    if source is None:
        raise ValueError("there is no image in its row")
    if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):
        raise ValueError("it is no file")  # to read a pipe waits for ever
    with Image.open(source) as image:
        image.load()
        turned = image.getexif().get(Base.Orientation) is not None
        image.info.pop("exif", None)  # or Pillow writes the data anew, which fails where they are damaged
        return _to_rgb(ImageOps.exif_transpose(image) if turned else image, image.format)


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in _SIXTEEN_BIT_FORMATS):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit or signed integers"
        raise ValueError(f"its levels are {kind} (mode {image.mode}) of no known range. Save it with 8 or 16 bits")
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # from a palette straight to RGB, Pillow warns
    return image.convert("RGB")
