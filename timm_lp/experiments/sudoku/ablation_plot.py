"""The picture of ablations as Figures 5c and 10: what rows, columns and boxes lose as the window grows."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ...files import write_figure
from .ablation_report import ABLATED, Row, changes
from .board import KINDS

_COLORS = {"row": "#3b6fb6", "column": "#c44e52", "box": "#777777"}
_TITLES = {
    "near 90": "masks around 90°\n(long along a column)",
    "near 0": "masks around 0°\n(long along a row)",
    "random": "random channels,\nas many as around 90°",
}


def draw_ablations(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw a row of panels for each kind of ablation, and a column for each range of layers.

    Args:
        rows: What was measured.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    ranges = list(dict.fromkeys(row["layers"] for row in rows))
    figure = Figure(figsize=(1.6 + 3.0 * len(ranges), 7.6), layout="constrained")
    grid = figure.subplots(len(ABLATED), len(ranges), sharex=True, sharey=True, squeeze=False)
    for line, kind in zip(grid, ABLATED, strict=True):
        for axes, layers in zip(line, ranges, strict=True):
            _draw_panel(axes, rows, layers, kind)
        line[0].set_ylabel(f"{_TITLES[kind]}\n\nchange (points)", fontsize=9)
    low, high = grid[0][0].get_ylim()
    low = min(low, -1.0)  # so that rounding does not look like a difference
    grid[0][0].set_ylim(low, max(high, -0.2 * low))  # with room for the text
    for axes, layers in zip(grid[0], ranges, strict=True):
        axes.set_title(f"layers {layers.replace('-', ' to ')}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("window around the angle (± degrees)", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    figure.suptitle(f"Valid rows, columns and boxes without oriented masks; {title}", fontsize=11)
    write_figure(path, figure, dpi=110, metadata={"Software": None})


def _draw_panel(axes: Any, rows: Sequence[Row], layers: str, kind: str) -> None:
    axes.axhline(0, color="black", linewidth=0.6)
    for name in KINDS:
        curves = list(changes(rows, layers, kind, name).values())
        for curve in curves if len(curves) > 1 else ():
            axes.plot(*zip(*curve, strict=True), color=_COLORS[name], linewidth=0.7, alpha=0.4)
        widths = [width for width, _ in curves[0]]
        means = [fmean(change for _, change in column) for column in zip(*curves, strict=True)]
        axes.plot(widths, means, color=_COLORS[name], linewidth=1.8, label=f"{name}s" if name != "box" else "boxes")
    text = f"up to {_most_channels(rows, layers, kind)} channels"
    axes.text(0.97, 0.97, text, transform=axes.transAxes, fontsize=8, ha="right", va="top")
    axes.tick_params(labelsize=8)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _most_channels(rows: Sequence[Row], layers: str, kind: str) -> str:
    """Return the number of channels in the widest window, of the network that has fewest and that which has most."""
    widest = max(row["half_width"] for row in rows)
    place = layers, kind, widest
    counts = {row["channels"] for row in rows if (row["layers"], row["ablated"], row["half_width"]) == place}
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(min(counts))
