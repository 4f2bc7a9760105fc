"""Table 5 with spreads, raw correlations and a baseline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from ....files import write_figure
from ....models.variants import BASE
from ....reporting import markdown_rows
from ....trials.statistics import holm
from .benchmark import Result
from .network import BEHAVIOUR

_COLOR = "#3b6fb6"
_SPECS = {"cc": ".3f", "mse": ".4f", "raw_cc": ".3f"}  # how each metric is written


def to_markdown(results: Sequence[Result], source: str) -> str:
    """Return the table of the trials, a line for each variant.

    Args:
        results: Of all trials.
        source: Where the mice come from.
    """
    synthetic = any(result["synthetic"] for result in results)
    seeds = len({result["seed"] for result in results})
    return "\n\n".join(
        [
            f"# V1 activity prediction{': SYNTHETIC mice, no measurement' if synthetic else ''}",
            f"Source: {source}. Means over mice, of the means over seeds ({seeds}); in brackets the standard deviation "
            "over mice. cc and MSE after smoothing over 2 seconds, as in Table 5; raw cc without. "
            f"`{BEHAVIOUR}` sees no video.",
            _table(results),
            f"`against {BASE}`: the mean difference of cc, paired over mice; p of Student's t-test, after Holm.",
            "Each mouse, means over seeds:",
            _mice_table(results),
        ]
    )


def result_rows(results: Sequence[Result], source: str) -> list[dict[str, Any]]:
    """Return a row for each trial."""
    names = ("mouse", "variant", "seed", "cc", "mse", "raw_cc", "parameters", "synthetic")
    return [{**{name: result[name] for name in names}, "source": source} for result in results]


def by_mouse(results: Sequence[Result], metric: str) -> dict[str, NDArray[np.float64]]:
    """Return a metric's means over the seeds, by variant; an entry for each mouse, in their order."""
    mice = list(dict.fromkeys(result["mouse"] for result in results))
    variants = list(dict.fromkeys(result["variant"] for result in results))
    return {
        variant: np.array(
            [np.mean([r[metric] for r in results if (r["variant"], r["mouse"]) == (variant, mouse)]) for mouse in mice]
        )
        for variant in variants
    }


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw smoothed and raw correlations: a line for each mouse, a bar at the mean of each variant.

    Args:
        results: Of all trials.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (metric, title) in zip(
        figure.subplots(1, 2),
        (("cc", "correlation over 2 seconds (cc)"), ("raw_cc", "correlation of single bins")),
        strict=True,
    ):
        table = by_mouse(results, metric)
        places = np.arange(len(table))
        values = np.array(list(table.values()))
        axes.plot(places, values, "o-", color=_COLOR, alpha=0.5, linewidth=0.8, markersize=4)
        axes.hlines(values.mean(1), places - 0.25, places + 0.25, color="black", linewidth=2)
        axes.set_xticks(places, list(table), rotation=20)
        axes.set_ylim(min(0.0, 1.1 * values.min()), 1.1 * max(values.max(), 0.1))
        axes.set_ylabel(title)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    synthetic = "SYNTHETIC mice, no measurement. " if any(result["synthetic"] for result in results) else ""
    figure.suptitle(f"{synthetic}Points: mice, means over seeds. Bars: means over mice.", fontsize=9)
    write_figure(path, figure, dpi=130)


def _table(results: Sequence[Result]) -> str:
    tables = {metric: by_mouse(results, metric) for metric in _SPECS}
    against = _against_base(tables["cc"])
    header = ["variant", "cc", "MSE", "raw cc", f"against {BASE}", "p"]
    lines = []
    for variant in tables["cc"]:
        difference, p_value = against.get(variant, (None, None))
        lines.append(
            [
                variant,
                *(_spread(tables[metric][variant], spec) for metric, spec in _SPECS.items()),
                "-" if difference is None else f"{difference:+.3f}",
                "-" if p_value is None else f"{p_value:.3f}",
            ]
        )
    return markdown_rows(header, lines)


def _mice_table(results: Sequence[Result]) -> str:
    tables = {metric: by_mouse(results, metric) for metric in _SPECS}
    mice = list(dict.fromkeys(result["mouse"] for result in results))
    lines = [
        [mouse, variant, *(f"{tables[metric][variant][place]:{spec}}" for metric, spec in _SPECS.items())]
        for place, mouse in enumerate(mice)
        for variant in tables["cc"]
    ]
    return markdown_rows(["mouse", "variant", "cc", "MSE", "raw cc"], lines, left=2)


def _against_base(table: dict[str, NDArray[np.float64]]) -> dict[str, tuple[float, float | None]]:
    """Return each variant's mean difference from base, and its p-value where there are mice enough."""
    if BASE not in table:
        return {}
    differences = {variant: values - table[BASE] for variant, values in table.items() if variant != BASE}
    tested = {variant: ttest_1samp(d, 0).pvalue for variant, d in differences.items() if len(d) > 1 and np.ptp(d) > 0}
    corrected = holm({variant: float(p_value) for variant, p_value in tested.items()})
    return {variant: (float(d.mean()), corrected.get(variant)) for variant, d in differences.items()}


def _spread(values: NDArray[np.float64], spec: str) -> str:
    return f"{values.mean():{spec}}" + (f" ({values.std(ddof=1):{spec}})" if len(values) > 1 else "")
