"""Decode stored images to pixels in RGB, each when it is asked for, and keep them as far as memory is given."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from torch import Tensor
from torch.utils.data import get_worker_info

from ...trials.record import UnreadableDataError
from .shared_arrays import SharedArrays

_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # in which Pillow's mode I holds 0 to 65535
MIB = 2**20
_LARGE = 2**16  # pixels of an image; smaller ones cost less to decode than to hand from one thread to another


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
        damaged: Why an image cannot be read, by its number in the split, as far as that is known.
        kept: Decoded images that the data set's splits keep for all trials; None where each trial keeps its own.
        kept_from: Number of the split's first image there.
    """

    sources: Sequence[Any]
    labels: Sequence[int]
    class_names: list[str]
    indices: Sequence[int]
    pinned: str | None = None
    damaged: Mapping[int, str] = field(default_factory=dict)
    kept: SharedArrays | None = field(default=None, repr=False)
    kept_from: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, position: int, least_side: int | None = None) -> Image.Image:
        """Return one of the set's images, in RGB.

        Args:
            position: Its place in the set.
            least_side: As of `decode`.

        Raises:
            UnreadableImageError: If it cannot be decoded.
        """
        index = self.indices[position]
        array = self.kept.get(self.kept_from + index) if self.kept and least_side is None else None
        if array is not None:
            return Image.fromarray(array)
        with naming_image(self, index):
            return decode(self.sources[index], least_side)

    def size(self, position: int) -> tuple[int, int]:
        """Return the width and height of one of the set's images, pixels, as its file says; its pixels are not read.

        Raises:
            UnreadableImageError: If there is no image.
        """
        index = self.indices[position]
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return source.shape[1], source.shape[0]
        with naming_image(self, index):
            with Image.open(source if isinstance(source, str) else BytesIO(source["bytes"])) as image:
                return image.size

    def refuse_damaged(self) -> None:
        """Refuse a set with an image of which it is known that it cannot be read.

        Raises:
            UnreadableImageError: If there is one.
        """
        found = [self.damaged[index] for index in self.indices if index in self.damaged] if self.damaged else []
        if found:
            more = f", nor can {len(found) - 1} more" if len(found) > 1 else ""
            error = UnreadableImageError(f"{found[0]}{more}")
            error.is_known = True
            raise error

    def own_labels(self) -> np.ndarray:
        """Return the classes of the set's images."""
        return np.asarray(self.labels, dtype=np.int64)[np.asarray(self.indices, dtype=np.int64)]

    def share(self, part: float) -> "ImageSet":
        """Return a part of the set's images, a fraction, evenly over their order; at least one."""
        count = max(1, round(part * len(self)))
        return self.subset([position * len(self) // count for position in range(count)])

    def subset(self, positions: Sequence[int]) -> "ImageSet":
        """Return some of the set's images."""
        return replace(self, indices=[int(self.indices[position]) for position in positions])


class DecodedImages:
    """The images of a set, each decoded when it is first asked for, and kept as long as there is room.

    Args:
        images: The images.
        limit_mib: Size of what is kept, MiB.
        finish: Makes of an image the pixels `(*, *, *)` that are kept; the image itself is if not given.
        least_side: How small the shorter side of a JPEG may be that is scaled while it is decoded, pixels; None to
            decode all its pixels.

    Raises:
        UnreadableImageError: If it is known that an image cannot be read.
    """

    def __init__(
        self,
        images: ImageSet,
        limit_mib: float,
        finish: Callable[[Image.Image], Tensor] | None = None,
        least_side: int | None = None,
    ) -> None:
        images.refuse_damaged()
        self.images, self._finish, self._least_side = images, finish, least_side
        self._last_size = 0
        limit = int(limit_mib * MIB)
        if finish is None and least_side is None and images.kept is not None:
            self._kept, self._first, self._numbers = images.kept, images.kept_from, images.indices
            self._kept.limit = limit
            if self._kept.room < 0:
                self._kept.clear()
        else:
            self._kept, self._first, self._numbers = SharedArrays(len(images), limit), 0, range(len(images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Any:
        array = self._get(position)
        if array is not None:
            return Image.fromarray(array) if self._finish is None else torch.from_numpy(array)
        image = self.images.image(position, self._least_side)
        self._last_size = image.width * image.height
        item = image if self._finish is None else self._finish(image)
        self._kept.put(self._first + self._numbers[position], item)
        return item

    def _get(self, position: int) -> np.ndarray | None:
        return self._kept.get(self._first + self._numbers[position])

    def several(self, positions: Sequence[int]) -> Iterator[Any]:
        """Yield items in turn.

        Where images are large, the main process decodes the next ones on other threads meanwhile, as many as it has.
        """
        is_worth_it = self._last_size >= _LARGE and not get_worker_info()
        threads = torch.get_num_threads() if is_worth_it else 1
        if threads == 1 or sum(self._get(position) is None for position in positions) < 2:
            yield from map(self.__getitem__, positions)
            return
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Any]] = deque()
            for position in positions:
                ahead.append(pool.submit(self.__getitem__, position))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


@contextmanager
def naming_image(images: ImageSet, index: int) -> Iterator[None]:
    """Name the image that cannot be decoded, by its row and its file, as far as it has these.

    Args:
        images: Its set.
        index: Its number in its split.

    Raises:
        UnreadableImageError: In place of what was raised.
    """
    try:
        yield
    except Exception as error:  # Pillow's readers raise anything, a TypeError for instance
        source, split = images.sources[index], getattr(images.sources, "split", "")
        path = source.get("path") if isinstance(source, dict) else source if isinstance(source, str) else None
        where = ", ".join(filter(None, (f"row {index} of {split}" if split else None, path)))
        raise UnreadableImageError(
            f"image {index} ({where or 'without a name'}) cannot be read: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, or no image of a known format"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def decode(source: Any, least_side: int | None = None) -> Image.Image:
    """Return an image in RGB as `datasets` decodes it: the first frame, upright by its EXIF data, opaque.

    Grey levels of 16 bits are scaled to 8; Pillow alone would clip them.

    Args:
        source: A path, an array `(H, W)` or `(H, W, 3)` of `uint8`, or `datasets`' dictionary with `bytes` and `path`.
        least_side: A JPEG is scaled to a half, a quarter or an eighth while it is decoded, as long as its shorter side
            keeps so many pixels; None to decode all of them.

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
    if isinstance(source, str) and not os.path.isfile(source) and os.path.exists(source):
        raise ValueError("it is no file")  # to read a pipe waits for ever
    with Image.open(source) as image:
        if least_side:
            image.draft(None, (least_side, least_side))
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
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
