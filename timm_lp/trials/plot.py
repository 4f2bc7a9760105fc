"""The picture of a table: every seed, the means, and how sure they are."""

import math
from pathlib import Path
from typing import Any

from ..files import write_figure
from .statistics import Table, confidence_interval

_COLORS = {"base": "#444444", "large": "#c44e52", "lp": "#3b6fb6"}
_PANELS = 5  # side by side


def plot(table: Table, path: Path, label: str) -> None:
    """Draw a panel for each column: a point for each seed, the mean with its 95 % interval, the baseline as a line.

    Args:
        table: What to draw; its rows are variants of a network.
        path: Where to write it; the ending chooses the format.
        label: The metric with its unit.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    count = len(table.columns)
    across, down = min(count, _PANELS), math.ceil(count / _PANELS)
    height = 1.0 + 0.42 * len(table.rows)
    figure = Figure(figsize=(1.5 + 3.6 * across, 0.4 + height * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes in panels[count:]:
        axes.remove()
    for axes, (column, title) in zip(panels[:count], table.columns.items(), strict=True):
        _draw_panel(axes, table, column)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(table.rows)), table.rows)
    panels[0].set_ylim(len(table.rows) - 0.5, -0.5)
    legend = f"Points: seeds. Diamonds and bars: means and their 95 % intervals. Dashed: {table.baseline}."
    figure.suptitle(legend, fontsize=8)
    write_figure(path, figure, dpi=130)


def _draw_panel(axes: Any, table: Table, column: str) -> None:
    base = table.mean(table.baseline, column)
    if base is not None:
        axes.axvline(base, color=_COLORS["base"], linewidth=0.8, linestyle="--", zorder=0)
    for place, row in enumerate(table.rows):
        cell = table.cells.get((row, column))
        if cell is None:
            continue
        if cell.mean is None:
            axes.text(0.5, place, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center")
            continue
        color = _COLORS.get("lp" if row.startswith("lp") else row.split("-")[0], _COLORS["base"])
        values = list(cell.values.values())
        axes.plot(values, [place - 0.24] * len(values), "o", color=color, alpha=0.5, markersize=4)
        interval = confidence_interval(cell)
        if interval:
            axes.plot(interval, [place, place], color=color, linewidth=1.6)
        axes.plot(cell.mean, place, "D", color=color, markersize=6, markeredgecolor="white")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
