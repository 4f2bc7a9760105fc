"""Decoded images and tensors that the processes of a machine keep together, up to a size."""

import math
import mmap
import multiprocessing

import numpy as np
import psutil
from PIL import Image
from torch import Tensor

_STRIP = 32  # rows of an image that the processor's cache can hold


class SharedArrays:
    """Arrays of bytes that are kept, each under a number, up to a size.

    Worker processes that are forked later share them: what one keeps, all have. Workers that start in another way keep
    nothing.

    Args:
        count: How many numbers there are.
        limit: Size of all arrays together, bytes.

    Attributes:
        limit: That size; it may be lowered, and raised again.
    """

    def __init__(self, count: int, limit: int) -> None:
        self._size = self.limit = min(limit, psutil.virtual_memory().total) if count else 0
        self._lock = multiprocessing.Lock()
        self._allocate(count)

    def _allocate(self, count: int) -> None:
        numbers = np.frombuffer(mmap.mmap(-1, 8 + 32 * count), np.int64)
        self._used, self._table = numbers[:1], numbers[1:].reshape(-1, 4)  # of each array: 1 + its place, its axes
        self._bytes = mmap.mmap(-1, self._size) if self._size else None

    def __getstate__(self) -> tuple[int, int]:
        return len(self._table), 0

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def room(self) -> int:
        """How much more can be kept, bytes; negative where the limit was lowered."""
        return min(self.limit, self._size) - int(self._used[0])

    def clear(self) -> None:
        """Forget all arrays, and give their memory back; workers that are there go on with it among themselves."""
        if self._used[0]:
            self._allocate(len(self._table))

    def get(self, number: int) -> np.ndarray | None:
        """Return an array `(*, *, *)`, not to be written to; None if it is not kept."""
        place, *shape = self._table[number].tolist()
        return np.ndarray(shape, np.uint8, self._bytes, place - 1) if place else None

    def put(self, number: int, item: Image.Image | Tensor) -> bool:
        """Keep an image in RGB, or a tensor `(*, *, *)` of `uint8`, if there is room; a number's array never changes.

        Returns:
            Whether it is kept.
        """
        shape = (item.height, item.width, 3) if isinstance(item, Image.Image) else tuple(item.shape)
        size = math.prod(shape)
        if size > self.room:
            return False
        with self._lock:
            if size > self.room or self._table[number, 0]:
                return bool(self._table[number, 0])
            place = int(self._used[0])
            self._used[0] += size
        _copy(item, np.ndarray(shape, np.uint8, self._bytes, place))
        self._table[number, 1:] = shape
        self._table[number, 0] = place + 1
        return True


def _copy(item: Image.Image | Tensor, array: np.ndarray) -> None:
    """Copy an image or a tensor into an array; a large image in strips, which takes a quarter of the time."""
    if not isinstance(item, Image.Image):
        array[:] = item.numpy()
        return
    for top in range(0, item.height, _STRIP):
        strip = item if item.height <= _STRIP else item.crop((0, top, item.width, min(top + _STRIP, item.height)))
        array[top : top + _STRIP] = np.frombuffer(strip.tobytes(), np.uint8).reshape(strip.height, strip.width, 3)
