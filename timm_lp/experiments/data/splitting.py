"""Images that nobody split, in one folder a class: a part of each class is kept for the test, or each in turn."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from .decoding import ImageSet
from .digests import NO_IMAGE, DigestCache, image_digests
from .folders import IMAGE_ENDINGS, class_images, labelled
from .images import FOLDS, SPLITS, DataInfo, DataSet

TEST_SHARE = 0.2
_FEW = 100  # images, below which a part of them is too little to test on
_MOST_FOLDS = 5


def is_unsplit(folder: Path) -> bool:
    """Tell whether a folder has folders with images in them, which are no splits."""
    below = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    return (
        len(below) > 1
        and not {path.name for path in below} & SPLITS
        and any(path.name.lower().endswith(IMAGE_ENDINGS) for path in below[0].rglob("*"))
    )


def split_folder(root: Path, test_share: float | None) -> DataSet:
    """Return the images of a folder with a folder for each class.

    Which image is on which side depends on the images' contents alone, not on their names or their order; images that
    are the same, byte for byte, are on one side.

    Args:
        root: Holds `<class>/` images.
        test_share: Share of each class's images that is kept for the test, a fraction. If it is not given, it is a
            fifth, and where there are fewer than a hundred images, they are divided into folds, of which each seed
            tests on one and trains on the others.

    Raises:
        ValueError: If a class has too few images for that.
    """
    images, name = labelled(class_images(root, IMAGE_ENDINGS, "dataset")), root.resolve().name
    cache = DigestCache(root)
    groups = _groups(images, image_digests(images.sources, images.indices, cache, name))
    cache.save()
    data = DataSet(DataInfo(name, name), name, images, images, location=root)
    if test_share is None and len(images) < _FEW:
        return _with_folds(data, groups)
    return _with_test(data, groups, test_share or TEST_SHARE)


def _groups(images: ImageSet, digests: Sequence[bytes]) -> list[list[list[int]]]:
    """Return each class's images in an order that their contents settle, the same ones together, by their numbers.

    The same images in several classes count in the first of them.
    """
    same: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        same.setdefault(str(index).encode() if digest == NO_IMAGE else digest, []).append(index)
    of_class: list[list[list[int]]] = [[] for _ in images.class_names]
    for digest in sorted(same, key=lambda digest: hashlib.sha256(b"test " + digest).digest()):
        of_class[images.labels[same[digest][0]]].append(same[digest])
    return of_class


def _with_test(data: DataSet, groups: list[list[list[int]]], share: float) -> DataSet:
    is_test = np.zeros(len(data.train), dtype=bool)
    for of_class in groups:
        wanted = max(1.0, share * sum(map(len, of_class)))
        counts = accumulate(map(len, of_class), initial=0)
        for group, before in zip(of_class[:-1], counts, strict=False):  # the last one is trained on
            is_test[group] = before + len(group) / 2 <= wanted
    _check_both_sides(data, is_test)
    parts = (replace(data.train, indices=np.flatnonzero(side).tolist()) for side in (~is_test, is_test))
    train, test = parts
    note = (
        f"{len(test)} of {len(is_test)} images, {100 * share:g} % of each class, are kept for the test (--test-share), "
        "the same in every trial"
    )
    return replace(data, train=train, test=test, note=note)


def _with_folds(data: DataSet, groups: list[list[list[int]]]) -> DataSet:
    count = max(2, min(_MOST_FOLDS, *map(len, groups)))
    folds = np.zeros(len(data.train), dtype=np.int64)
    for number, group in enumerate(group for of_class in groups for group in of_class):
        folds[group] = number % count
    for fold in range(count):
        _check_both_sides(data, folds == fold)
    note = (
        f"its {len(folds)} images are cross-validated in {count} folds: seed 1 tests on the first and trains on the "
        f"others, and so on (--test-share {TEST_SHARE:g} would keep one part for the test of every seed)"
    )
    return replace(data, info=replace(data.info, split=FOLDS), folds=tuple(folds.tolist()), note=note)


def _check_both_sides(data: DataSet, is_test: np.ndarray) -> None:
    labels = data.train.own_labels()
    for number, name in enumerate(data.train.class_names):
        of_class = is_test[labels == number]
        if of_class.all() or not of_class.any():
            raise ValueError(
                f"`dataset` must have enough different images of each class to train on some and test on others, got "
                f"{data.location} with {len(of_class)} of {name!r}. Add some, or leave the class out."
            )
