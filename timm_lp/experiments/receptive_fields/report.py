"""The tables of a run: groups, comparisons as in Table 8, and every fit."""

import math
import statistics
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import t, ttest_ind

from ...reporting import NOTHING, csv_text, markdown_rows
from ...trials.statistics import holm
from .fields import FieldFit
from .likelihood import P_MAX, P_MIN

Pair = tuple[str, str]

SYNTHETIC = (
    "Synthetic example: groups drawn from known distributions, and a network with random weights. "
    "Nothing here was measured in a brain or in a trained network."
)
_ROUNDING = 1e-9  # of 1/p: smaller differences are rounding
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (math.inf, "n.s."))
_COLUMNS = (
    *("group", "unit", "num_synapses", "p", "is_flat", "p_low", "p_high", "interval", "gaussian_p_value", "sigma"),
)


def compare_groups(fits: list[FieldFit]) -> dict[Pair, float]:
    """Return Welch's t-tests of all pairs of groups with Holm-Bonferroni's correction (Table 8).

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


def results(fits: list[FieldFit], settings: dict[str, Any], *, synthetic: bool) -> dict[str, Any]:
    """Return the contents of `results.json`.

    Args:
        fits: The fits of all groups.
        settings: The command line.
        synthetic: Whether the fields are those of the example.
    """
    inverse = inverse_exponents(fits)
    return {
        "synthetic": synthetic,
        "settings": settings,
        "groups": [_group(name, [fit for fit in fits if fit.group == name], inverse[name]) for name in inverse],
        "comparisons": [
            {"groups": list(pair), "p_value": p_value, "test": "Welch's t-test of 1/p, Holm-Bonferroni"}
            for pair, p_value in compare_groups(fits).items()
        ],
        "fits": [fit.record() for fit in fits],
    }


def to_csv(fits: list[FieldFit], *, synthetic: bool) -> str:
    """Return a line for each fit."""
    return csv_text(("synthetic", *_COLUMNS), ({"synthetic": synthetic, **fit.record()} for fit in fits))


def to_markdown(fits: list[FieldFit], *, synthetic: bool) -> str:
    """Return the table of the groups and that of their comparisons."""
    inverse = inverse_exponents(fits)
    groups = {name: [fit for fit in fits if fit.group == name] for name in inverse}
    lines = [_group_line(name, group, inverse[name]) for name, group in groups.items()]
    header = ["group", "fields", "synapses", "p (median)", "95 % interval", "p of each", "p = 2 rejected"]
    parts = [
        *([f"**{SYNTHETIC}**"] if synthetic else []),
        "## Exponents",
        markdown_rows(header, lines),
        "The interval is that of the mean 1/p over the fields; over one field, that field's own. Synapses: median. "
        f"A bound stands where fields are too flat for a number (p is searched up to {P_MAX:g}). The test of p = 2 is "
        "that of each field at 5 %; the counts of a network's field are not independent, and have none.",
    ]
    if len(groups) > 1:
        parts += ["## Comparisons", _comparison_table(list(groups), compare_groups(fits)), _COMPARISON_NOTE]
    return "\n\n".join(parts)


_COMPARISON_NOTE = (
    "Welch's t-tests of 1/p, Holm-Bonferroni corrected. Below the diagonal: p-values; above: n.s. not significant, "
    "\\* below 0.05, \\*\\* below 0.01, \\*\\*\\* below 0.001; a dash where a pair has no spread to compare."
)


def exponent_text(fit: FieldFit) -> str:
    """Return the exponent of a fit, or its bound where the field is flat or peaks too much for the search."""
    if fit.is_flat:
        return f"> {_short(_bound(fit))}"
    if fit.p <= P_MIN * (1 + 1e-6):
        return f"< {_short(P_MIN if fit.high is None else fit.high)}"
    return f"{fit.p:.2f}"


def _bound(fit: FieldFit) -> float:
    """Return what the exponent of a flat field is above."""
    return P_MAX if fit.low is None else fit.low


def _group(name: str, fits: list[FieldFit], inverse: list[float]) -> dict[str, Any]:
    ends = group_interval(inverse)
    median = middle_fit(fits).p
    return {
        "group": name,
        "fields": len(fits),
        "p_median": median,
        "flat_fields": sum(fit.is_flat for fit in fits),
        "p_low": None if ends is None or math.isinf(ends[0]) else ends[0],
        "p_high": None if ends is None or math.isinf(ends[1]) else ends[1],
    }


def middle_fit(fits: list[FieldFit]) -> FieldFit:
    """Return the fit of the median exponent, of two the lower one."""
    return sorted(fits, key=lambda fit: fit.p)[(len(fits) - 1) // 2]


def _group_line(name: str, fits: list[FieldFit], inverse: list[float]) -> list[str]:
    ends = group_interval(inverse)
    if ends is None and fits[0].low is not None and fits[0].high is not None:
        ends = fits[0].low, fits[0].high
    middle = middle_fit(fits)
    p_values = [fit.gaussian_p_value for fit in fits if fit.gaussian_p_value is not None]
    return [
        name,
        str(len(fits)),
        f"{statistics.median(fit.num_synapses for fit in fits):,.0f}",
        exponent_text(middle),
        _interval_text(ends),
        _range_text(fits),
        f"{sum(p_value < 0.05 for p_value in p_values)} of {len(p_values)}" if p_values else NOTHING,
    ]


def _range_text(fits: list[FieldFit]) -> str:
    """Return the least and the largest exponent of a group, where a flat field has none."""
    flat = [_bound(fit) for fit in fits if fit.is_flat]
    others = [fit.p for fit in fits if not fit.is_flat]
    if not others:
        return f"> {_short(min(flat))}"
    return f"{_short(min(others))} to {f'> {_short(max(flat))}' if flat else _short(max(others))}"


def _interval_text(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return NOTHING
    if math.isinf(ends[1]):
        return f"> {_short(min(ends[0], P_MAX))}"
    return f"{_short(ends[0])} to {_short(ends[1])}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _comparison_table(groups: list[str], p_values: dict[Pair, float]) -> str:
    lines = []
    for row, first in enumerate(groups):
        cells = [first]
        for column, second in enumerate(groups):
            p_value = p_values.get((second, first) if column < row else (first, second))
            if row == column or p_value is None:
                cells.append(NOTHING)
            else:
                cells.append(f"{p_value:.2g}" if column < row else _stars(p_value))
        lines.append(cells)
    return markdown_rows(["", *groups], lines)


def _stars(p_value: float) -> str:
    return next(stars for limit, stars in _STARS if p_value < limit).replace("*", r"\*")
