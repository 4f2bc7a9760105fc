"""Pictures of trials: a table's seeds and means, and trainings epoch by epoch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, Any

from ..files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from ..reporting import line_styles, variant_style
from .record import TrialRecord
from .statistics import Table, confidence_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 2  # of panels with curves

History = dict[str, list[float]]
Curves = dict[str, list[History]]  # the histories of the seeds, by variant


def plot_table(table: Table, path: Path, label: str) -> None:
    """Write the picture of `table_figure` to a file, whose ending chooses the format."""
    write_figure(path, table_figure(table, label))


def table_figure(table: Table, label: str) -> "Figure":
    """Return a panel for each column: a point for each seed, the mean with its 95 % interval, the baseline as a line.

    Args:
        table: What to draw; its rows are variants of a network.
        label: The metric with its unit.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    count = len(table.columns)
    height = 0.6 + 0.3 * len(table.rows)
    figure = Figure(figsize=(PICTURE_WIDTH, 0.9 + height * count), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(count, 1, squeeze=False).flat, table.columns.items(), strict=True):
        _draw_panel(axes, table, column)
        axes.set_title(title, fontsize=11)
        axes.set_yticks(range(len(table.rows)), table.rows)
        axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    figure.suptitle(f"Points: seeds. Diamonds: means, 95 % intervals.\nDashed: {table.baseline}.", fontsize=10)
    return figure


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
        x: Labels of the horizontal axes, by their names in the histories. Where there are several, each measure has a
            panel over each of them.
        panels: Titles of the measures by their names in the histories.
        percent: Measures that start at 0; those that stand together have one scale.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    tops = {name: _top_of(curves, names) for names in percent for name in names}
    styles, shown = line_styles(curves), [(name, axis) for name in panels for axis in x]
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = Figure(figsize=(PICTURE_WIDTH, 1.2 + 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for axes, (name, axis) in zip(grid.flat, shown, strict=False):
        for variant, histories in curves.items():
            _draw_curves(axes, histories, axis, name, label=variant, **styles[variant])
        axes.set_xlabel(x[axis])
        axes.set_title(panels[name], fontsize=11)
        axes.set_xlim(left=0)
        if name in tops:
            axes.set_ylim(0, tops[name])
        axes.locator_params(axis="x", nbins=3)
        axes.grid(linewidth=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    if curves:
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    several = any(len(histories) > 1 for histories in curves.values())
    figure.suptitle(fill(title, PICTURE_LETTERS) + "\nthick: means over seeds; thin: seeds" * several, fontsize=10)
    write_figure(path, figure)


def _draw_panel(axes: Any, table: Table, column: str) -> None:
    base = table.mean(table.baseline, column)
    if base is not None:
        axes.axvline(base, color=variant_style(table.baseline)["color"], linewidth=0.8, linestyle="--", zorder=0)
    for y, row in enumerate(table.rows):
        cell = table.cells.get((row, column))
        if cell is None:
            continue
        if cell.mean is None:
            axes.text(0.5, y, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center")
            continue
        color = variant_style(row)["color"]
        values = list(cell.values.values())
        axes.plot(values, [y - 0.24] * len(values), "o", color=color, alpha=0.5, markersize=4)
        interval = confidence_interval(cell)
        if interval:
            axes.plot(interval, [y, y], color=color, linewidth=1.6)
        axes.plot(cell.mean, y, "D", color=color, markersize=6, markeredgecolor="white")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(axes: Any, histories: list[History], x: str, name: str, label: str, **style: Any) -> None:
    for history in histories if len(histories) > 1 else ():
        axes.plot(history[x], history[name], linewidth=0.7, alpha=0.4, **style)
    means = [[fmean(values) for values in zip(*(seed[key] for seed in histories), strict=True)] for key in (x, name)]
    marker = "o" if len(means[0]) == 1 else ""
    axes.plot(*means, linewidth=1.8, marker=marker, label=label, **style)


def _top_of(curves: Curves, names: Sequence[str]) -> float:
    """Return the upper end of the axis of some percentages."""
    values = (
        max(history[name])
        for histories in curves.values()
        for history in histories
        for name in names
        if name in history
    )
    return 1.05 * max([1.0, *values])
