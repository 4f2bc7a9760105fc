"""The picture of a benchmark: every seed, the means, and how sure they are."""

from pathlib import Path

from ..models.variants import BASE
from .stats import Table, confidence_interval

_COLORS = {"base": "#444444", "large": "#c44e52", "lp": "#3b6fb6"}


def plot(table: Table, path: Path) -> None:
    """Draw a panel for each data set: a point for each seed, the mean with its 95 % interval, base as a line.

    Args:
        table: What to draw.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    count = len(table.datasets)
    figure = Figure(figsize=(1.5 + 3.6 * count, 1.4 + 0.42 * len(table.variants)), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, (dataset, name) in zip(panels, table.datasets.items(), strict=True):
        base = table.mean(BASE, dataset)
        if base is not None:
            axes.axvline(base, color=_COLORS[BASE], linewidth=0.8, linestyle="--", zorder=0)
        for place, variant in enumerate(table.variants):
            cell = table.cells.get((variant, dataset))
            if cell is None or cell.mean is None:
                axes.text(0.5, place, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center")
                continue
            color = _COLORS["lp" if variant.startswith("lp") else variant.split("-")[0]]
            values = list(cell.values.values())
            axes.plot(values, [place - 0.24] * len(values), "o", color=color, alpha=0.5, markersize=4)
            interval = confidence_interval(cell)
            if interval:
                axes.plot(interval, [place, place], color=color, linewidth=1.6)
            axes.plot(cell.mean, place, "D", color=color, markersize=6, markeredgecolor="white")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("top-1 accuracy (%)")
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(table.variants)), table.variants)
    panels[0].set_ylim(len(table.variants) - 0.5, -0.5)
    figure.suptitle("Points: seeds. Diamonds and bars: means and their 95 % intervals. Dashed: base.", fontsize=8)
    figure.savefig(path, dpi=130)
