"""Decode stored images to pixels in RGB, each when it is asked for, and keep them as far as memory is given."""

import mmap
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from torch import Tensor
from torch.utils.data import get_worker_info

from ...trials.record import UnreadableDataError

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
    """

    sources: Sequence[Any]
    labels: Sequence[int]
    class_names: list[str]
    indices: Sequence[int]
    pinned: str | None = None
    damaged: Mapping[int, str] = field(default_factory=dict)

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
        source = self.sources[index]
        with naming_image(index, source):
            return decode(source, least_side)

    def size(self, position: int) -> tuple[int, int]:
        """Return the width and height of one of the set's images, pixels, as its file says; its pixels are not read.

        Raises:
            UnreadableImageError: If there is no image.
        """
        index = self.indices[position]
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return source.shape[1], source.shape[0]
        with naming_image(index, source):
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
            raise UnreadableImageError(f"{found[0]}{more}")

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


class SharedArrays:
    """Arrays of bytes that are kept, each under a number, up to a size.

    Worker processes that are forked later share them: what one keeps, all have. Workers that start in another way keep
    nothing.

    Args:
        count: How many numbers there are.
        limit: Size of all arrays together, bytes.
    """

    def __init__(self, count: int, limit: int) -> None:
        limit = min(limit, psutil.virtual_memory().total)
        self._pixels = mmap.mmap(-1, limit) if limit and count else None
        numbers = np.frombuffer(mmap.mmap(-1, 8 + 32 * count), np.int64)
        self._used, self._table = numbers[:1], numbers[1:].reshape(-1, 4)  # of each array: 1 + its place, its axes
        self._lock = multiprocessing.Lock()

    def __getstate__(self) -> tuple[int, int]:
        return len(self._table), 0

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def room(self) -> int:
        """How much more can be kept, bytes."""
        return 0 if self._pixels is None else len(self._pixels) - int(self._used[0])

    def get(self, number: int) -> np.ndarray | None:
        """Return an array `(*, *, *)`, not to be written to; None if it is not kept."""
        place, *shape = self._table[number].tolist()
        return np.ndarray(shape, np.uint8, self._pixels, place - 1) if place else None

    def put(self, number: int, array: np.ndarray) -> None:
        """Keep an array `(*, *, *)` of `uint8` if there is room; a number's array never changes."""
        with self._lock:
            if array.nbytes > self.room or self._table[number, 0]:
                return
            place = int(self._used[0])
            self._used[0] += array.nbytes
        np.ndarray(array.shape, np.uint8, self._pixels, place)[:] = array
        self._table[number, 1:] = array.shape
        self._table[number, 0] = place + 1


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
        self._kept = SharedArrays(len(images), int(limit_mib * MIB))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Any:
        array = self._kept.get(position)
        if array is not None:
            return Image.fromarray(array) if self._finish is None else torch.from_numpy(array)
        image = self.images.image(position, self._least_side)
        self._last_size = image.width * image.height
        item = image if self._finish is None else self._finish(image)
        if _num_bytes(item) <= self._kept.room:
            self._kept.put(position, np.asarray(item))
        return item

    def several(self, positions: Sequence[int]) -> Iterator[Any]:
        """Yield items in turn.

        Where images are large, the main process decodes the next ones on other threads meanwhile, as many as it has.
        """
        is_worth_it = self._last_size >= _LARGE and not get_worker_info()
        threads = torch.get_num_threads() if is_worth_it else 1
        missing = [position for position in positions if self._kept.get(position) is None]
        if threads == 1 or len(missing) < 2:
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
def naming_image(index: int, source: Any) -> Iterator[None]:
    """Name the image that cannot be decoded.

    Args:
        index: Its number in its split.
        source: The image, as `ImageSet` has it.

    Raises:
        UnreadableImageError: In place of what was raised.
    """
    try:
        yield
    except Exception as error:  # Pillow's readers raise anything, a TypeError for instance
        path = source.get("path") if isinstance(source, dict) else source if isinstance(source, str) else None
        raise UnreadableImageError(f"image {index} ({path or 'without a name'}) cannot be read: {error}") from error


def _num_bytes(item: Image.Image | Tensor) -> int:
    return 3 * item.width * item.height if isinstance(item, Image.Image) else item.nbytes


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
    if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):
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
    return image.convert("RGB")
