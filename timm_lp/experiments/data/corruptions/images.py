"""The corrupted images of a data set, whether they were published or computed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..decoding import ImageSet
from . import CLEAN


@dataclass(frozen=True)
class CorruptedPart:
    """The images of one corruption at one severity.

    Attributes:
        images: The images with their classes.
        sha256: Digest of their contents and classes.
    """

    images: ImageSet
    sha256: str


@dataclass(frozen=True)
class CorruptedSet:
    """The corrupted images of a data set.

    Attributes:
        name: What tables call it.
        note: What every table says of it; empty where there is nothing to say.
        parts: The images by corruption and severity; those of `CLEAN` at severity 0 where they are known.
        class_names: Names of the classes; None where the files number them only, in the alphabetical order of names.
        num_classes: Number of classes.
        is_cropped: Whether the images have the networks' view already, so that these crop nothing off.
    """

    name: str
    note: str
    parts: dict[tuple[str, int], CorruptedPart]
    class_names: list[str] | None
    num_classes: int
    is_cropped: bool = False

    @property
    def corruptions(self) -> list[str]:
        """The corruptions, in order."""
        return list(dict.fromkeys(corruption for corruption, _ in self.parts if corruption != CLEAN))

    @property
    def severities(self) -> list[int]:
        """The severities, in order."""
        return sorted({severity for corruption, severity in self.parts if corruption != CLEAN})

    @property
    def num_images(self) -> int:
        """Number of images of each corruption at each severity."""
        return len(next(iter(self.parts.values())).images)

    def check_classes(self, network: str, num_classes: int, class_names: Sequence[str] | None) -> None:
        """Refuse a network that has other classes, or numbers them otherwise.

        Args:
            network: What the user calls it.
            num_classes: How many it tells apart.
            class_names: Their names; None where they are not known.

        Raises:
            ValueError: If it does not fit.
        """
        if num_classes != self.num_classes:
            raise ValueError(
                f"`networks` must have the {self.num_classes} classes of {self.name}, got {network} with "
                f"{num_classes}. Leave it out, or give the corruptions of the images that it was trained on."
            )
        names = list(class_names or [])
        if not names or all(name.isdecimal() for name in names):
            return
        expected = self.class_names
        if expected is None or all(name.isdecimal() for name in expected):
            expected = sorted(names)
        if names != expected:
            number = next(number for number, pair in enumerate(zip(names, expected, strict=True)) if pair[0] != pair[1])
            raise ValueError(
                f"`networks` must number their classes as {self.name} does, got {network} with {names[number]!r} in "
                f"place of {expected[number]!r} as class {number}. Train it on images whose classes are in that order."
            )


def array_part(arrays: Any, labels: Sequence[int], class_names: list[str], first: int, count: int) -> CorruptedPart:
    """Return some images of an array.

    Args:
        arrays: Images, `(N, H, W, 3)` of `uint8`; may be memory-mapped.
        labels: Class of each, `(N,)`.
        class_names: Names of the classes.
        first: The first that belongs to the part.
        count: How many do.
    """
    rows = slice(first, first + count)
    digest = hashlib.sha256(f"{arrays.shape[1:]} {list(labels[rows])} ".encode())
    digest.update(np.ascontiguousarray(arrays[rows]).data)
    images = ImageSet(arrays, labels, class_names, range(first, first + count))
    return CorruptedPart(images, digest.hexdigest())
