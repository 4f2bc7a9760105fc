"""The images of a benchmark, and the few that a trial trains on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

_TEST_FOLDERS = ("test", "val", "validation")
_NUM_DIGITS_TRAIN = 1000


@dataclass(frozen=True)
class ImageSet(Dataset):
    """Labelled images of one split, each decoded when it is asked for.

    Attributes:
        load: Returns image i.
        labels: Class of each image.
        class_names: Name of each class.
        indices: The images that belong to the set, by their place in `labels`.
        transform: Makes a tensor `(C, H, W)` of an image.
    """

    load: Callable[[int], Image.Image]
    labels: list[int]
    class_names: list[str]
    indices: list[int]
    transform: Callable[[Image.Image], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> tuple[Any, int]:
        index = self.indices[item]
        image = self.load(index)
        return (self.transform(image) if self.transform else image), self.labels[index]

    def draw(self, num_shots: int, seed: int) -> list[int]:
        """Draw images of each class, as `sample_shots` does, and return their places in `labels`."""
        own_labels = [self.labels[index] for index in self.indices]
        return [self.indices[position] for position in sample_shots(own_labels, num_shots, seed)]

    def select(self, indices: list[int], transform: Callable[[Image.Image], Tensor]) -> "ImageSet":
        """Return some of the images, transformed."""
        return replace(self, indices=indices, transform=transform)


def load_splits(dataset: str) -> tuple[ImageSet, ImageSet]:
    """Return the training pool and the test images of a data set.

    Args:
        dataset: `"digits"` for the handwritten digits that scikit-learn carries, or a folder with `train/<class>/`
            and `test/<class>/` (or `val`, `validation`) images.

    Raises:
        ValueError: If it is neither, has a class without images, or if the two splits have different classes.
    """
    if dataset == "digits":
        return _digits()
    root = Path(dataset)
    test_folders = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
    if not (root / "train").is_dir() or not test_folders:
        raise ValueError(
            f"`dataset` must be 'digits' or a folder with train/<class>/ and test/<class>/ images, got {dataset!r}. "
            f"(The test images may also be in {' or '.join(_TEST_FOLDERS[1:])}.)"
        )
    train, test = _folder(root / "train"), _folder(test_folders[0])
    if train.class_names != test.class_names:
        differ = sorted(set(train.class_names) ^ set(test.class_names))
        raise ValueError(f"`dataset` must have the same classes in train and test, got {differ} in one of them only.")
    return train, test


def sample_shots(labels: list[int], num_shots: int, seed: int) -> list[int]:
    """Draw images of each class, without repetition; a draw of fewer shots is part of one of more.

    Args:
        labels: Class of each image.
        num_shots: Images to draw of each class; all of a class that has fewer.
        seed: Seed of the draw.

    Returns:
        Places in `labels`, class by class.
    """
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    drawn = []
    for label in sorted(by_class):
        order = np.random.default_rng([seed, label]).permutation(len(by_class[label]))
        drawn += [by_class[label][position] for position in order[:num_shots]]
    return drawn


def _digits() -> tuple[ImageSet, ImageSet]:
    """Return the digits, in the order of their writers, so that test writers are mostly not training writers."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.tolist()
    names = [str(name) for name in digits.target_names]
    order = list(range(len(labels)))
    train = ImageSet(partial(_digit, pixels), labels, names, order[:_NUM_DIGITS_TRAIN])
    return train, replace(train, indices=order[_NUM_DIGITS_TRAIN:])


def _folder(root: Path) -> ImageSet:
    """Return a folder of class folders."""
    try:
        folder = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise ValueError(f"`dataset` must have images in each class folder: {error}") from error
    indices = list(range(len(folder.samples)))
    return ImageSet(partial(_file, folder), folder.targets, folder.classes, indices)


def _digit(pixels: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(pixels[index]).convert("RGB")


def _file(folder: ImageFolder, index: int) -> Image.Image:
    return folder.loader(folder.samples[index][0])
