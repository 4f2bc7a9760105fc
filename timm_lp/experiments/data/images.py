"""A data set: its splits, and a digest of their contents."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...trials.record import DataInfo
from .decoding import MIB, ImageSet
from .digests import NO_IMAGE, DigestCache, damaged_images, image_digests
from .shared_arrays import SharedArrays

FOLDER_HOLDS = "train/<class>/ and test/<class>/ images, or parquet files as on the Hub, or <class>/ images to split"
FOLDS = "cross-validation"  # in place of a split
SPLITS = {"train", "test", "val", "valid", "validation"}  # usual names of folders that are no classes


@dataclass(frozen=True)
class Contents:
    """The contents of a data set, which do not depend on its name or folder.

    Attributes:
        sha256: Digest of the classes, and of the labels, indices and contents of all images of all splits.
        num_shared: Test images that are training images too, byte for byte.
    """

    sha256: str
    num_shared: int


@dataclass(frozen=True)
class DataSet:
    """A data set of the benchmark.

    Attributes:
        info: Its name, id and revision.
        folder: Name of its folder among the results.
        train: The images to draw from.
        test: The images to test on.
        val: CoOp's validation images, where there are any.
        argument: The value of `--dataset`.
        location: Its folder or file on this machine; None for what is downloaded or embedded.
        folds: The fold of each image where `train` and `test` are all images, and each seed tests on one fold.
        note: What was done with its images, for the user.
    """

    info: DataInfo
    folder: str
    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    argument: str = ""
    location: Path | None = None
    folds: tuple[int, ...] | None = None
    note: str = ""

    def parts(self, seed: int) -> tuple[ImageSet, ImageSet]:
        """Return the images that a seed's trials draw from, and those that they test on."""
        if self.folds is None:
            return self.train, self.test
        folds = np.asarray(self.folds)
        is_test = folds == (seed - 1) % (folds.max() + 1)
        train, test = (np.flatnonzero(side).tolist() for side in (~is_test, is_test))
        return self.train.subset(train), self.test.subset(test)

    @cached_property
    def contents(self) -> Contents:
        """The contents, on which the results of trials depend. Images that no earlier run read are read for it."""
        splits = [images for images in (self.train, self.test, self.val) if images is not None]
        cache = self._cache()
        digests = [
            [] if images.pinned else image_digests(images.sources, images.indices, cache, self.info.name)
            for images in splits
        ]
        cache.save()
        described = [[images.own_labels().tolist(), list(images.indices), images.pinned] for images in splits]
        in_folds = [self.folds] if self.folds else []
        sha256 = hashlib.sha256(json.dumps([self.train.class_names, described, *in_folds]).encode())
        for of_split in digests:
            sha256.update(b"".join(of_split))
        train, test = set(digests[0]) - {NO_IMAGE}, digests[1]
        return Contents(sha256.hexdigest(), 0 if self.folds else sum(digest in train for digest in test))

    def keeping(self, limit_mib: float, limit_now_mib: float) -> "DataSet":
        """Return the data set with memory for decoded images, which all its trials share.

        Args:
            limit_mib: Size of that memory, MiB.
            limit_now_mib: How much of it may be used until a trial says how much it leaves.
        """
        first = 0 if self.test.sources is self.train.sources else len(self.train.sources)
        kept = SharedArrays(first + len(self.test.sources), int(limit_mib * MIB))
        kept.limit = int(limit_now_mib * MIB)
        train, test = replace(self.train, kept=kept), replace(self.test, kept=kept, kept_from=first)
        return replace(self, train=train, test=test)

    def forget(self) -> None:
        """Give the memory of decoded images back."""
        if self.train.kept is not None:
            self.train.kept.clear()

    def checked(self, indices: Sequence[int]) -> "DataSet":
        """Return the data set with what is known of damaged images, after each that is needed was decoded once.

        Args:
            indices: The training images that are needed, by their numbers in the split; of the test images all are.
        """
        cache = self._cache()
        train, test = (
            replace(images, damaged=damaged_images(part, cache, self.info.name))
            for images, part in ((self.train, replace(self.train, indices=indices)), (self.test, self.test))
        )
        cache.save()
        return replace(self, train=train, test=test)

    def _cache(self) -> DigestCache:
        return DigestCache(self.location or Path(self.info.id))


def split_names(split: str) -> list[str]:
    """Return the names of the splits that plus signs join."""
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
