"""Differences between networks, paired over images and over seeds, with Holm's correction for their number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import norm, ttest_1samp

from ...trials.statistics import holm
from .groups import Group, interval_of

_ROUNDING = 1e-4  # of tau: networks of one function differ by less, as their sums are rounded differently


@dataclass(frozen=True)
class Difference:
    """How much better the best layer of one network agrees with an area than that of another.

    Attributes:
        first: The network whose tau is taken.
        second: The network whose tau is subtracted.
        area: The area.
        difference: Mean over the seeds.
        low: Lower bound of the difference over samples of the images, the seeds as they are.
        high: Upper bound likewise.
        p_images: Of the difference beside its spread over samples of the images, after Holm.
        seeds: Number of the seeds that both networks have.
        p_seeds: Of Student's t-test of the differences of each seed, the images as they are, after Holm; None for less
            than two seeds, and where the differences have no spread.
    """

    first: str
    second: str
    area: str
    difference: float
    low: float
    high: float
    p_images: float
    seeds: int
    p_seeds: float | None


def differences(groups: Sequence[Group]) -> list[Difference]:
    """Return the differences between all pairs of networks for all areas.

    Two networks that share seeds are compared on these, others by their means.

    Args:
        groups: Seeds of the networks, aligned with the same samples.
    """
    compared = [difference for pair in combinations(groups, 2) for difference in _between(*pair)]
    p_images = holm({number: difference.p_images for number, difference in enumerate(compared)})
    p_seeds = holm({number: p for number, difference in enumerate(compared) if (p := difference.p_seeds) is not None})
    return [
        replace(difference, p_images=p_images[number], p_seeds=p_seeds.get(number))
        for number, difference in enumerate(compared)
    ]


def resolution(compared: Sequence[Difference]) -> float | None:
    """Return the difference that the images can tell from none: half the median interval; None where there is none."""
    widths = [difference.high - difference.low for difference in compared]
    widths = [width for width in widths if width > _ROUNDING]  # networks of one function say nothing about it
    return float(np.median(widths)) / 2 if widths else None


def _between(first: Group, second: Group) -> list[Difference]:
    shared = [seed for seed in first.alignments if seed is not None and seed in second.alignments]
    trials = [[group.alignments[seed] for seed in shared or group.alignments] for group in (first, second)]
    one, other = (np.array([trial.best_tau for trial in of_group]) for of_group in trials)
    resampled = np.subtract(*(np.mean([trial.best_resampled for trial in of_group], axis=0) for of_group in trials))
    low, high = interval_of(resampled)
    difference = one.mean(0) - other.mean(0)
    return [
        Difference(
            *(first.name, second.name, area, float(difference[column]), float(low[column]), float(high[column])),
            p_images=_p_of(difference[column], resampled[column].std()),
            seeds=len(shared),
            p_seeds=_p_of_seeds(one[:, column] - other[:, column]) if shared else None,
        )
        for column, area in enumerate(first.areas)
    ]


def _p_of(difference: float, spread: float) -> float:
    """Return the p-value of a normal variable: no number of samples would give values as small as Holm needs."""
    if spread <= _ROUNDING:
        return 1.0
    return float(2 * norm.sf(abs(difference) / spread))


def _p_of_seeds(values: np.ndarray) -> float | None:
    if len(values) < 2 or np.ptp(values) <= _ROUNDING:
        return None
    return float(ttest_1samp(values, 0).pvalue)
