"""How well the layers of a network agree with the areas of a cortex, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from .kendall import weighted_tau
from .similarity import Array, pairs_of

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Samples:
    """Random choices of images, the same for all networks, so that their differences are paired.

    Attributes:
        weights: How often each pair of images counts, shape `(pairs, 1 + resamples + 2 * splits)`: once; in samples of
            the images with replacement; and in random halves of the images, each followed by the other half.
        resamples: Number of the samples with replacement.
        permutations: Shuffled orders of the images, shape `(shuffles, n)`.
    """

    weights: NDArray[np.float32]
    resamples: int
    permutations: NDArray[np.intp]


def sample_images(images: int, *, resamples: int, splits: int, permutations: int, seed: int) -> Samples:
    """Return random choices of `n` images.

    An image that a sample holds twice makes no pair with itself: such a pair is 1 in every matrix and would lift every
    tau. A pair whose images were drawn `a` and `b` times counts `a * b` times.

    Args:
        images: Number of the images, `n`.
        resamples: Number of samples with replacement.
        splits: Number of divisions into halves.
        permutations: Number of shuffled orders.
        seed: Of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    counts = [np.ones(images, int), *rng.multinomial(images, np.full(images, 1 / images), size=resamples)]
    for _ in range(splits):
        half = np.zeros(images, int)
        half[rng.permutation(images)[: images // 2]] = 1
        counts += [half, 1 - half]
    one, other = np.tril_indices(images, -1)
    drawn = np.stack(counts, axis=1).astype(np.float32)
    shuffled = np.stack([rng.permutation(images) for _ in range(permutations)])
    return Samples(drawn[one] * drawn[other], resamples, shuffled)


@dataclass(frozen=True)
class Alignment:
    """Kendall's taus between the layers of one network and the areas of a cortex.

    Attributes:
        layers: Names of the layers.
        areas: Names of the areas.
        tau: Of all images, shape `(layers, areas)`.
        resampled: Of samples of the images, shape `(layers, areas, resamples)`.
        halves: Of halves of the images and the others, shape `(layers, areas, splits, 2)`.
        shuffled: Of all images in shuffled orders, shape `(layers, areas, shuffles)`.
    """

    layers: list[str]
    areas: list[str]
    tau: Array
    resampled: Array
    halves: Array
    shuffled: Array

    @property
    def best(self) -> NDArray[np.intp]:
        """The layer with the highest tau of each area, shape `(areas,)`."""
        return self.tau.argmax(0)

    @property
    def best_tau(self) -> Array:
        """Tau of each area's best layer, shape `(areas,)`."""
        return self.tau.max(0)

    @property
    def best_resampled(self) -> Array:
        """Taus of each area's best layer over samples of the images, shape `(areas, resamples)`."""
        return self.resampled[self.best, np.arange(len(self.areas))]

    @property
    def held_out(self) -> Array:
        """Taus on the other half of the images of the layer that is best on one half, shape `(areas, splits)`."""
        chosen = self.halves[..., 0].argmax(0)
        return np.take_along_axis(self.halves[..., 1], chosen[None], axis=0)[0]

    @property
    def null(self) -> float:
        """What the best of all layers reaches for one area by chance: the upper bound over shuffles and areas."""
        return float(np.quantile(self.shuffled.max(0), LEVEL))

    @property
    def null_of_maximum(self) -> float:
        """What the best of all layers and areas reaches by chance: the upper bound over shuffles."""
        return float(np.quantile(self.shuffled.max((0, 1)), LEVEL))


def align(layers: Mapping[str, Array], areas: Mapping[str, Array], samples: Samples) -> Alignment:
    """Return the taus between layers and areas.

    Args:
        layers: Similarities of the images by layer, each of shape `(n, n)`.
        areas: Similarities of the images by area, each of shape `(n, n)`.
        samples: Choices of the images.
    """
    x = [pairs_of(rsm) for rsm in layers.values()]
    weighted = np.array(
        [[weighted_tau(layer, pairs_of(area), samples.weights) for area in areas.values()] for layer in x]
    )
    orders = [np.ix_(order, order) for order in samples.permutations]
    y = [[pairs_of(rsm[order]) for order in orders] for rsm in areas.values()]
    shuffled = [[[kendalltau(layer, area).statistic for area in areas] for areas in y] for layer in x]
    halves = weighted[..., 1 + samples.resamples :]
    return Alignment(
        [*layers],
        [*areas],
        weighted[..., 0],
        weighted[..., 1 : 1 + samples.resamples],
        halves.reshape(*halves.shape[:2], -1, 2),
        np.array(shuffled),
    )
