"""The images of a data set: what is in its splits."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...trials.record import DataInfo, UnreadableDataError
from .decoding import decode
from .digests import NO_IMAGE, DigestCache, image_digests

FOLDER_HOLDS = "train/<class>/ and test/<class>/ images, or parquet files as on the Hub"


class UnreadableImageError(UnreadableDataError):
    """An image cannot be decoded."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split, each decoded when it is asked for.

    Attributes:
        sources: Each image of the split: a path, an array `(H, W)`, or `datasets`' dictionary with `bytes` and `path`.
        labels: Class of each image of the split.
        class_names: Name of each class.
        indices: The images that belong to the set, by their place in the split.
        pinned: What settles the images for all time, as a commit on the Hub does; None where it is their contents.
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
        except Exception as error:  # Pillow's readers raise what they stumble over, be it a TypeError
            path = source.get("path") if isinstance(source, dict) else source if isinstance(source, str) else None
            raise UnreadableImageError(f"image {index} ({path or 'without a name'}) cannot be read: {error}") from error

    def own_labels(self) -> np.ndarray:
        """Return the classes of the set's images."""
        return np.asarray(self.labels, dtype=np.int64)[np.asarray(self.indices, dtype=np.int64)]

    def subset(self, positions: Sequence[int]) -> "ImageSet":
        """Return some of the set's images."""
        return replace(self, indices=[int(self.indices[position]) for position in positions])


@dataclass(frozen=True)
class Contents:
    """What is in a data set, whatever it is called and wherever it lies.

    Attributes:
        sha256: Digest of the classes, and of the labels, places and contents of all images of all splits.
        num_shared: Test images that are training images too, byte for byte.
    """

    sha256: str
    num_shared: int


@dataclass(frozen=True)
class DataSet:
    """A data set of the benchmark.

    Attributes:
        info: What it is called.
        folder: Name of its folder among the results.
        train: The images to draw from.
        test: The images to test on.
        val: CoOp's validation images, where there are any.
        argument: What `--dataset` called it.
        location: Its folder or file on this machine; None for what is downloaded or embedded.
    """

    info: DataInfo
    folder: str
    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    argument: str = ""
    location: Path | None = None

    @cached_property
    def contents(self) -> Contents:
        """What settles the results of its trials. All images are read for it that were not read in an earlier run."""
        splits = [images for images in (self.train, self.test, self.val) if images is not None]
        cache = DigestCache(self.location)
        digests = [
            [] if images.pinned else image_digests(images.sources, images.indices, cache, self.info.name)
            for images in splits
        ]
        cache.save()
        described = [[images.own_labels().tolist(), list(images.indices), images.pinned] for images in splits]
        sha256 = hashlib.sha256(json.dumps([self.train.class_names, described]).encode())
        for of_split in digests:
            sha256.update(b"".join(of_split))
        train, test = set(digests[0]) - {NO_IMAGE}, digests[1]
        return Contents(sha256.hexdigest(), sum(digest in train for digest in test))


def split_names(split: str) -> list[str]:
    """Return the splits of which one is joined by plus signs."""
    return [name.strip() for name in split.split("+")]


def check_splits(train_split: str, test_split: str) -> None:
    """Refuse to test on training images.

    Raises:
        ValueError: If a split is part of both.
    """
    both = set(split_names(train_split)) & set(split_names(test_split))
    if both:
        raise ValueError(
            f"`test_split` must have no split in common with `train_split`, got {', '.join(sorted(both))} in both. "
            "Choose another."
        )


def check_classes(train_names: Sequence[str], test_names: Sequence[str]) -> None:
    """Refuse splits that do not have the same classes.

    Raises:
        ValueError: If a class is in one of them only.
    """
    differ = sorted(set(train_names) ^ set(test_names))
    if differ:
        raise ValueError(f"`dataset` must have the same classes in train and test, got {differ} in one of them only.")
