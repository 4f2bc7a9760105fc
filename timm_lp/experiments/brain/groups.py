"""Take the seeds of one network together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .alignment import LEVEL, Alignment
from .similarity import Array


@dataclass(frozen=True)
class Aligned:
    """One network, or what stands beside the networks, and its agreement with the areas.

    Attributes:
        name: Its name or folder.
        group: What it is one seed of; its name where it stands alone.
        seed: Its seed, None where it stands alone.
        baseline: Whether it is no network, but stands beside them.
        alignment: The taus.
    """

    name: str
    group: str
    seed: int | None
    baseline: bool
    alignment: Alignment


@dataclass(frozen=True)
class Group:
    """The seeds of one network.

    Attributes:
        name: What they are seeds of.
        members: The seeds.
    """

    name: str
    members: tuple[Aligned, ...]

    @property
    def baseline(self) -> bool:
        """Whether it is no network, but stands beside them."""
        return self.members[0].baseline

    @property
    def areas(self) -> list[str]:
        """Names of the areas."""
        return self.members[0].alignment.areas

    @cached_property
    def alignments(self) -> dict[int | None, Alignment]:
        """The taus by seed."""
        return {member.seed: member.alignment for member in self.members}

    @cached_property
    def best_taus(self) -> Array:
        """Tau of each area's best layer, shape `(seeds, areas)`."""
        return np.array([alignment.best_tau for alignment in self.alignments.values()])

    @cached_property
    def interval(self) -> tuple[Array, Array]:
        """Bounds of the mean of `best_taus` over samples of the images, each of shape `(areas,)`."""
        return interval_of(np.mean([alignment.best_resampled for alignment in self.alignments.values()], axis=0))

    @cached_property
    def held_out(self) -> Array:
        """Tau of the layer that half of the images choose, on the other half, shape `(areas,)`."""
        return np.mean([alignment.held_out for alignment in self.alignments.values()], axis=(0, 2))

    @cached_property
    def maxima(self) -> Array:
        """The maximum over layers and areas of each seed, shape `(seeds,)`."""
        return np.array([alignment.tau.max() for alignment in self.alignments.values()])

    def best_layers(self, area: str) -> list[str]:
        """Return the layers that are the best of an area in one seed or another, in the order of the seeds."""
        column = self.areas.index(area)
        return list(dict.fromkeys(a.layers[a.best[column]] for a in self.alignments.values()))

    def where_maximal(self) -> list[str]:
        """Return the layer and area of the maximum of one seed or another, in the order of the seeds."""
        names = []
        for alignment in self.alignments.values():
            layer, area = np.unravel_index(alignment.tau.argmax(), alignment.tau.shape)
            names.append(f"{alignment.layers[layer]}, {alignment.areas[area]}")
        return list(dict.fromkeys(names))

    def chance(self) -> tuple[float, float]:
        """Return what shuffled images reach: the best layer for an area, and the maximum over layers and areas."""
        nulls = [(alignment.null, alignment.null_of_maximum) for alignment in self.alignments.values()]
        of_area, of_maximum = np.mean(nulls, axis=0)
        return float(of_area), float(of_maximum)


def interval_of(resampled: Array) -> tuple[Array, Array]:
    """Return the bounds of values over samples of the images, their last axis."""
    low, high = np.quantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=-1)
    return low, high


def groups_of(aligned: Iterable[Aligned]) -> list[Group]:
    """Return the groups of networks, in their order."""
    members: dict[str, list[Aligned]] = {}
    for one in aligned:
        members.setdefault(one.group, []).append(one)
    return [Group(name, tuple(of_group)) for name, of_group in members.items()]
