"""Draw the training images of a trial: k of each class, by a seed."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .decoding import ImageSet
from .images import DataSet

_HELD_OUT_SHOTS = 4  # as many as CoOp validates on
_HELD_OUT_FRACTION = 5  # one image in five where all are for training


@dataclass(frozen=True)
class Draw:
    """The images of one seed.

    Attributes:
        train: Images to train on.
        held_out: Images to choose a learning rate with.
        short: Classes with fewer images than were asked for, and how many they have.
    """

    train: ImageSet
    held_out: ImageSet
    short: dict[str, int]


def draw(data: DataSet, sampler: str, num_shots: int, seed: int) -> Draw:
    """Draw a seed's images from a data set.

    Args:
        data: The data set.
        sampler: `"nested"` or `"coop"`: `draw_nested`, `draw_coop`.
        num_shots: Images of each class, 0 for all.
        seed: Seed of the draw.

    Raises:
        ValueError: If the sampler is CoOp's, and the data set has no validation images.
    """
    train, _ = data.parts(seed)
    labels = train.own_labels()
    short = short_classes(labels.tolist(), train.class_names, num_shots)
    if sampler == "nested":
        drawn, held_out = draw_nested(labels.tolist(), train.class_names, num_shots, seed)
        return Draw(train.subset(drawn), train.subset(held_out), short)
    if data.val is None:
        raise ValueError(
            f"`sampler` must be nested for {data.info.id}, got {sampler!r}. CoOp's draw needs one of its split files "
            "(split_zhou_*.json) as --dataset."
        )
    drawn, held_out = draw_coop(labels.tolist(), data.val.own_labels().tolist(), num_shots, seed)
    return Draw(train.subset(drawn), data.val.subset(held_out), short)


def num_drawn(data: DataSet, num_shots: int, seed: int) -> int:
    """Return how many images `draw` draws."""
    train, _ = data.parts(seed)
    counts = np.bincount(train.own_labels())
    return int(np.minimum(counts, num_shots).sum() if num_shots else counts.sum())


def draw_nested(
    labels: Sequence[int], class_names: Sequence[str], num_shots: int, seed: int
) -> tuple[list[int], list[int]]:
    """Draw images of each class; the images of fewer shots are among those of more.

    A class's images depend on the seed, the class's name and the class's images alone: other classes may be added,
    removed or numbered in another way.

    Args:
        labels: Class of each image.
        class_names: Name of each class.
        num_shots: Images to draw of each class, all of a class that has fewer; 0 for all images.
        seed: Seed of the draw.

    Returns:
        The drawn images and, of the others, the next of each class (at most 4, and no more than `num_shots`) to choose
        a learning rate with; both by their index in `labels`, class by class. If all images are drawn, the second list
        is a fifth of each class and part of the first.
    """
    drawn, held_out = [], []
    for label, indices in sorted(_indices_by_label(labels).items()):
        order = np.random.default_rng([seed, _stable_hash(class_names[label])]).permutation(len(indices))
        shuffled = [indices[position] for position in order]
        if num_shots:
            drawn += shuffled[:num_shots]
            held_out += shuffled[num_shots:][: min(num_shots, _HELD_OUT_SHOTS)]
        else:
            drawn += shuffled
            held_out += shuffled[: len(shuffled) // _HELD_OUT_FRACTION]
    return drawn, held_out


def draw_coop(
    train_labels: Sequence[int], val_labels: Sequence[int], num_shots: int, seed: int
) -> tuple[list[int], list[int]]:
    """Draw images as CoOp does (Zhou et al. 2022): its published lists follow from its split files in this way.

    One generator draws the training images, class by class in the order in which the classes appear, and goes on with
    the validation images, at most 4 of each class.

    Args:
        train_labels: Class of each training image.
        val_labels: Class of each validation image.
        num_shots: Training images to draw of each class, all of a class that has fewer; 0 for all images.
        seed: Seed of the draw.

    Returns:
        Indices into `train_labels` and into `val_labels`, in CoOp's order.
    """
    if not num_shots:
        return list(range(len(train_labels))), list(range(len(val_labels)))
    generator = random.Random(seed)
    return (
        _sample_each(train_labels, num_shots, generator),
        _sample_each(val_labels, min(num_shots, _HELD_OUT_SHOTS), generator),
    )


def short_classes(labels: Sequence[int], class_names: Sequence[str], num_shots: int) -> dict[str, int]:
    """Return the classes that have fewer than `num_shots` images, with their number.

    Args:
        labels: Class of each image.
        class_names: Name of each class.
        num_shots: Images that are wanted of each class.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(class_names))
    return {name: int(count) for name, count in zip(class_names, counts, strict=True) if count < num_shots}


def _indices_by_label(labels: Sequence[int]) -> dict[int, list[int]]:
    """Return the indices of each class, classes in the order of their first appearance."""
    indices: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        indices.setdefault(int(label), []).append(index)
    return indices


def _sample_each(labels: Sequence[int], count: int, generator: random.Random) -> list[int]:
    drawn = []
    for indices in _indices_by_label(labels).values():
        drawn += generator.sample(indices, count) if len(indices) >= count else indices
    return drawn


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
