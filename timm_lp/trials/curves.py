"""The picture of trainings epoch by epoch: every seed, and the means."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..files import write_figure
from .record import TrialRecord

_COLORS = {
    **{"base": "#444444", "large": "#c44e52", "lp2": "#3b6fb6", "lp4": "#4c9f9f", "lp8": "#55a868"},
    **{"lp16": "#dd8452", "lp256f": "#9a6fb0"},
}

History = dict[str, list[float]]
Curves = dict[str, list[History]]  # the histories of the seeds, by variant


def curves_of(records: Iterable[TrialRecord]) -> Curves:
    """Return the histories of the trials of one network; those that failed have none."""
    curves: Curves = {}
    for record in records:
        if record.history:
            curves.setdefault(record.variant, []).append(record.history)
    return curves


def draw_curves(
    curves: Curves,
    path: Path,
    title: str,
    *,
    x: Mapping[str, str],
    panels: Mapping[str, str],
    percent: Sequence[Sequence[str]] = (),
) -> None:
    """Draw each measure over each of the axes: thin seeds, thick means.

    Args:
        curves: What the trainings were, variants in the order of the legend.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.
        x: Labels of the horizontal axes, a row of panels each, by their names in the histories.
        panels: Titles of the measures by their names in the histories.
        percent: Measures that start at 0; those that stand together have one scale.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    tops = {name: _top(curves, names) for names in percent for name in names}
    figure = Figure(figsize=(1.0 + 2.9 * len(panels), 0.4 + 3.0 * len(x)), layout="constrained")
    grid = figure.subplots(len(x), len(panels), sharey="col", squeeze=False)
    for line, (axis, x_label) in zip(grid, x.items(), strict=True):
        for axes, (name, label) in zip(line, panels.items(), strict=True):
            for variant, histories in curves.items():
                _draw(axes, variant, histories, axis, name)
            axes.set_xlabel(x_label, fontsize=9)
            axes.set_title(label, fontsize=10)
            axes.set_xlim(left=0)
            if name in tops:
                axes.set_ylim(0, tops[name])
            axes.locator_params(axis="x", nbins=5)
            axes.tick_params(labelsize=8)
            axes.grid(linewidth=0.4, alpha=0.5)
            axes.spines[["top", "right"]].set_visible(False)
    if curves:
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    several = any(len(histories) > 1 for histories in curves.values())
    figure.suptitle(title + "\nthick: means over seeds; thin: seeds" * several, fontsize=10)
    write_figure(path, figure, dpi=110, metadata={"Software": None})


def _draw(axes: Any, variant: str, histories: list[History], x: str, name: str) -> None:
    style = {"color": _COLORS.get(variant.split("-")[0], "#888888"), "linestyle": "--" if "-" in variant else "-"}
    for history in histories if len(histories) > 1 else ():
        axes.plot(history[x], history[name], linewidth=0.7, alpha=0.4, **style)
    means = [[fmean(values) for values in zip(*(own[key] for own in histories), strict=True)] for key in (x, name)]
    marker = "o" if len(means[0]) == 1 else ""
    axes.plot(*means, linewidth=1.8, marker=marker, label=variant, **style)


def _top(curves: Curves, names: Sequence[str]) -> float:
    """Return the upper end of the axis of some percentages."""
    values = (max(own[name]) for histories in curves.values() for own in histories for name in names if name in own)
    return 1.05 * max([1.0, *values])
