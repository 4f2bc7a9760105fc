"""Tests between groups of fields (Table 8)."""

from itertools import combinations

import numpy as np
from scipy.stats import t, ttest_ind

from ...trials.statistics import holm
from .fields import FieldFit

_ROUNDING = 1e-9  # what differs by less is equal

Pair = tuple[str, str]


def compare_groups(fits: list[FieldFit]) -> dict[Pair, float]:
    """Return Welch's t-tests of all pairs of groups with Holm-Bonferroni's correction.

    They compare 1/p, which is 0 for a flat field, where p has no bound.

    Args:
        fits: The fits of all groups.

    Returns:
        Corrected p-values by pair, in the groups' order; without pairs that have no spread.
    """
    groups = inverse_exponents(fits)
    p_values = {}
    for first, second in combinations(groups, 2):
        a, b = groups[first], groups[second]
        if min(len(a), len(b)) > 1 and np.std(a) + np.std(b) > _ROUNDING:
            p_values[first, second] = float(ttest_ind(a, b, equal_var=False).pvalue)
    return holm(p_values)


def inverse_exponents(fits: list[FieldFit]) -> dict[str, list[float]]:
    """Return 1/p of each group's fields."""
    groups: dict[str, list[float]] = {}
    for fit in fits:
        groups.setdefault(fit.group, []).append(fit.inverse_p)
    return groups


def group_interval(inverse: list[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of Student's t around a group's mean 1/p, as exponents, inf where 0 is in it.

    Args:
        inverse: 1/p of its fields.
        level: Probability of the interval.

    Returns:
        Lower and upper end; None over less than two fields.
    """
    if len(inverse) < 2:
        return None
    mean, error = np.mean(inverse), np.std(inverse, ddof=1) / len(inverse) ** 0.5
    half = float(t.ppf((1 + level) / 2, len(inverse) - 1)) * error
    high = 1 / (mean - half) if mean - half > 0 else np.inf
    return (float(1 / (mean + half)) if mean + half > 0 else np.inf), float(high)
