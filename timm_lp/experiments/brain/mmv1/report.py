"""Table 5 with spreads, raw correlations and a baseline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from ....files import PICTURE_WIDTH, write_figure
from ....reporting import markdown_rows, number, p_value
from ....trials.record import TrialRecord
from ....trials.statistics import holm
from ....variants import BASE
from .network import BEHAVIOUR

_COLOR = "#3b6fb6"
_SPECS = {"cc": ".3f", "mse": ".4f", "raw_cc": ".3f"}  # how each metric is written

Values = NDArray[np.float64]


def to_markdown(records: Sequence[TrialRecord], source: str) -> str:
    """Return the table of the trials, a line for each variant, and which of them failed.

    Args:
        records: The trials.
        source: Where the mice come from.
    """
    synthetic = any(record.settings["synthetic"] for record in records)
    seeds = len({record.seed for record in records})
    failed = [
        f"Failed: {record.variant} on {record.dataset.name}, seed {record.seed}: {record.error}"
        for record in records
        if record.error
    ]
    return "\n\n".join(
        [
            f"# V1 activity prediction{': SYNTHETIC mice, no measurement' if synthetic else ''}",
            f"Source: {source}. Means over mice, of the means over seeds ({seeds}); in brackets the standard deviation "
            "over mice. cc and MSE after smoothing over 2 seconds, as in Table 5; raw cc without. "
            f"`{BEHAVIOUR}` sees no video.",
            _table(records),
            f"`against {BASE}`: the mean difference of cc, paired over mice; p of Student's t-test, after Holm.",
            "Each mouse, means over seeds:",
            _mice_table(records),
            *(["\n".join(failed)] if failed else []),
        ]
    )


def result_rows(records: Sequence[TrialRecord], source: str) -> list[dict[str, Any]]:
    """Return a row for each trial; one that failed has no metrics."""
    return [
        {
            **{"mouse": record.dataset.name, "variant": record.variant, "seed": record.seed},
            **{name: (record.metrics or {}).get(name) for name in _SPECS},
            **{"parameters": record.parameters, "synthetic": record.settings["synthetic"], "source": source},
        }
        for record in records
    ]


def by_mouse(records: Sequence[TrialRecord], metric: str) -> dict[str, Values]:
    """Return a metric's means over the seeds, by variant; an entry for each mouse, NaN where all seeds failed."""
    seeds: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.metrics:
            seeds.setdefault((record.variant, record.dataset.name), []).append(record.metrics[metric])
    means = {cell: float(np.mean(values)) for cell, values in seeds.items()}
    return {
        variant: np.array([means.get((variant, mouse), np.nan) for mouse in _mice(records)])
        for variant in dict.fromkeys(record.variant for record in records)
    }


def plot(records: Sequence[TrialRecord], path: Path) -> None:
    """Draw smoothed and raw correlations: a line for each mouse, a bar at the mean of each variant.

    Args:
        records: The trials.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PICTURE_WIDTH, 6.4), layout="constrained")
    for axes, (metric, title) in zip(
        figure.subplots(2, 1),
        (("cc", "correlation over 2 seconds (cc)"), ("raw_cc", "correlation of single bins")),
        strict=True,
    ):
        table = by_mouse(records, metric)
        x = np.arange(len(table))
        values = np.array(list(table.values()))
        measured = _measured(values.ravel())
        axes.plot(x, values, "o-", color=_COLOR, alpha=0.5, linewidth=0.8, markersize=4)
        axes.hlines([_mean(mice) for mice in values], x - 0.25, x + 0.25, color="black", linewidth=2)
        axes.set_xticks(x, list(table), rotation=20)
        axes.set_ylim(1.1 * min([0.0, *measured]), 1.1 * max([0.1, *measured]))
        axes.set_ylabel(title)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    synthetic = "SYNTHETIC mice, no measurement. " if any(record.settings["synthetic"] for record in records) else ""
    figure.suptitle(f"{synthetic}\nPoints: mice. Bars: means over mice.".strip(), fontsize=10)
    write_figure(path, figure)


def _table(records: Sequence[TrialRecord]) -> str:
    tables = {metric: by_mouse(records, metric) for metric in _SPECS}
    against = _against_base(tables["cc"])
    header = ["variant", "cc", "MSE", "raw cc", f"against {BASE}", "p"]
    lines = []
    for variant in tables["cc"]:
        difference, p = against.get(variant, (None, None))
        lines.append(
            [
                variant,
                *(_spread(tables[metric][variant], spec) for metric, spec in _SPECS.items()),
                number(difference, "+.3f"),
                p_value(p),
            ]
        )
    return markdown_rows(header, lines)


def _mice_table(records: Sequence[TrialRecord]) -> str:
    tables = {metric: by_mouse(records, metric) for metric in _SPECS}
    lines = [
        [mouse, variant, *(_spread(tables[metric][variant][[number]], spec) for metric, spec in _SPECS.items())]
        for number, mouse in enumerate(_mice(records))
        for variant in tables["cc"]
    ]
    return markdown_rows(["mouse", "variant", "cc", "MSE", "raw cc"], lines, left=2)


def _against_base(table: dict[str, Values]) -> dict[str, tuple[float, float | None]]:
    """Return each variant's mean difference from base over the mice of both, and its p-value if these are several."""
    if BASE not in table:
        return {}
    differences = {variant: _measured(values - table[BASE]) for variant, values in table.items() if variant != BASE}
    tested = {variant: ttest_1samp(d, 0).pvalue for variant, d in differences.items() if len(d) > 1 and np.ptp(d) > 0}
    corrected = holm({variant: float(p_value) for variant, p_value in tested.items()})
    return {variant: (float(d.mean()), corrected.get(variant)) for variant, d in differences.items() if len(d)}


def _mice(records: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(record.dataset.name for record in records))


def _measured(values: Values) -> Values:
    return values[~np.isnan(values)]


def _mean(values: Values) -> float:
    measured = _measured(values)
    return float(measured.mean()) if len(measured) else np.nan


def _spread(values: Values, spec: str) -> str:
    measured = _measured(values)
    if not len(measured):
        return "-"
    return f"{measured.mean():{spec}}" + (f" ({measured.std(ddof=1):{spec}})" if len(measured) > 1 else "")
