"""The picture of trainings as Figure 4b: loss and accuracies on the test puzzles, per puzzle seen and per second."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..trials.record import TrialRecord

_PANELS = {
    "loss": "loss on the test",
    "blank": "blank cells right (%)",
    "row": "rows valid (%)",
    "column": "columns valid (%)",
    "box": "boxes valid (%)",
    "sudoku": "boards valid (%)",
}
_UNITS = ("row", "column", "box")  # these have one scale
_LIMITED = ("blank", *_UNITS, "sudoku")
_X = {"puzzles": "puzzles seen", "seconds": "seconds of training"}
_COLORS = {
    **{"base": "#444444", "large": "#c44e52", "lp2": "#3b6fb6", "lp4": "#4c9f9f", "lp8": "#55a868"},
    **{"lp16": "#dd8452", "lp256f": "#9a6fb0"},
}

Curves = dict[str, list[dict[str, list[float]]]]  # the histories of the seeds, by variant


def draw_curves(records: Sequence[TrialRecord], path: Path, title: str) -> None:
    """Draw each measure over the puzzles seen, and over the time of the training: thin seeds, thick means.

    Args:
        records: Trials of one network, in the order of the legend; those that failed are left out.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    curves: Curves = {}
    for record in records:
        if record.history:
            curves.setdefault(record.variant, []).append(record.history)
    panels = {name: label for name, label in _PANELS.items() if name != "sudoku" or _any_above_zero(curves, name)}
    tops = {name: _top(curves, _UNITS if name in _UNITS else (name,)) for name in _LIMITED}
    figure = Figure(figsize=(1.0 + 2.9 * len(panels), 6.4), layout="constrained")
    grid = figure.subplots(2, len(panels), sharey="col", squeeze=False)
    for line, (x, x_label) in zip(grid, _X.items(), strict=True):
        for axes, (name, label) in zip(line, panels.items(), strict=True):
            for variant, histories in curves.items():
                _draw(axes, variant, histories, x, name)
            axes.set_xlabel(x_label, fontsize=9)
            axes.set_title(label, fontsize=10)
            axes.set_xlim(left=0)
            if name in _LIMITED:
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
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw(axes: Any, variant: str, histories: list[dict[str, list[float]]], x: str, name: str) -> None:
    style = {"color": _COLORS.get(variant.split("-")[0], "#888888"), "linestyle": "--" if "-" in variant else "-"}
    for history in histories if len(histories) > 1 else ():
        axes.plot(history[x], history[name], linewidth=0.7, alpha=0.4, **style)
    means = [[fmean(values) for values in zip(*(own[key] for own in histories), strict=True)] for key in (x, name)]
    marker = "o" if len(means[0]) == 1 else ""
    axes.plot(*means, linewidth=1.8, marker=marker, label=variant, **style)


def _top(curves: Curves, names: Sequence[str]) -> float:
    """Return the upper end of the axis of some percentages."""
    values = (max(own[name]) for histories in curves.values() for own in histories for name in names)
    return 1.05 * max([1.0, *values])


def _any_above_zero(curves: Curves, name: str) -> bool:
    return any(max(history[name]) > 0 for histories in curves.values() for history in histories)
