"""The picture of an analysis: tau by depth, a line for each area, beside the ceiling and chance (Figure 11)."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...files import write_figure
from ...reporting import counted
from .alignment import Alignment
from .analysis import Analysis
from .groups import Group, interval_of
from .report import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_COLORS = ("#3b6fb6", "#c44e52", "#4c956c", "#8c6bb1", "#d98b2b", "#2a9d9d", "#7f5539", "#b05a9c")
_PIXELS = -1.5  # where the pixels stand, before the first layer


def plot(analysis: Analysis, path: Path) -> None:
    """Draw a panel for each network: the taus of its layers with their intervals, chance, pixels and ceilings.

    Args:
        analysis: What to draw.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    networks = [group for group in analysis.groups if not group.baseline]
    columns = min(_COLUMNS, len(networks))
    rows = -(-len(networks) // columns)
    colors = dict(zip(analysis.ceilings, cycle(_COLORS), strict=False))
    heights = [1, 3.6] if any(ceiling.tau for ceiling in analysis.ceilings.values()) else [3.6]
    figure = Figure(figsize=(1.2 + 3.6 * columns, 1.5 + rows * sum(heights) * 0.8), layout="constrained")
    axes = figure.subplots(
        rows * len(heights), columns, squeeze=False, sharey="row", gridspec_kw={"height_ratios": heights * rows}
    )
    for index, group in enumerate(networks):
        row, column = divmod(index, columns)
        panel = axes[row * len(heights) : (row + 1) * len(heights), column]
        panel[0].set_title(_title(group), fontsize=9)
        _draw_taus(panel[-1], group, analysis, colors)
        if len(panel) > 1:
            _draw_ceilings(panel[0], analysis, colors)
    _share_limits(
        [axes[row, column] for row in range(len(heights) - 1, len(axes), len(heights)) for column in range(columns)]
    )
    for empty in axes[-len(heights) :, len(networks) - (rows - 1) * columns :].flat:
        empty.set_visible(False)
    for row in range(len(heights) - 1, len(axes), len(heights)):
        axes[row, 0].set_ylabel("Kendall's tau")
    for row in range(0, len(axes), 2) if len(heights) > 1 else ():
        axes[row, 0].set_ylabel("ceiling")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4), fontsize=8)
    figure.suptitle(
        f"Similarity with {title_of(analysis.responses)}\nBands: 95 % over images. Thin lines: seeds.", fontsize=9
    )
    write_figure(path, figure, dpi=130)


def _draw_taus(axes: "Axes", group: Group, analysis: Analysis, colors: dict[str, str]) -> None:
    shuffled = np.concatenate([member.alignment.shuffled.ravel() for member in group.members])
    low, high = interval_of(shuffled)
    axes.axhspan(float(low), float(high), color="#dddddd", linewidth=0, label="a layer, images shuffled (95 %)")
    for index, (area, color) in enumerate(colors.items()):
        _draw_area(axes, area, [member.alignment for member in group.members], index, color)
    for pixels in (baseline for baseline in analysis.groups if baseline.name == "pixels"):
        for color, tau in zip(colors.values(), pixels.best_taus[0], strict=True):
            axes.plot(_PIXELS, tau, "D", color=color, markersize=4, markerfacecolor="white")
    depth = len(group.members[0].alignment.layers)
    step = max(1, -(-depth // 10))
    ticks = range(0, depth, step)
    axes.set_xticks([_PIXELS, *ticks], ["px", *(str(tick + 1) for tick in ticks)])
    axes.set_xlabel("layer (px: the pixels)")
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_area(axes: "Axes", area: str, seeds: list[Alignment], index: int, color: str) -> None:
    """Draw an area's mean over the seeds with its band over samples of the images, and the seeds thin."""
    depths = np.arange(len(seeds[0].layers))
    mean = np.mean([seed.tau[:, index] for seed in seeds], axis=0)
    band = interval_of(np.mean([seed.resampled[:, index] for seed in seeds], axis=0))
    axes.fill_between(depths, *band, color=color, alpha=0.1, linewidth=0)
    for seed in seeds if len(seeds) > 1 else ():
        axes.plot(depths, seed.tau[:, index], color=color, linewidth=0.5, alpha=0.6)
    axes.plot(depths, mean, "o-", color=color, markersize=3, linewidth=1.4, label=area)


def _draw_ceilings(axes: "Axes", analysis: Analysis, colors: dict[str, str]) -> None:
    """Draw what the areas' ceilings lie between, on an axis of their own: they are far above the taus."""
    for index, (area, ceiling) in enumerate(analysis.ceilings.items()):
        if ceiling.tau is not None:
            span = (index / len(colors), (index + 1) / len(colors))
            low = ceiling.tau if ceiling.agreement is None else ceiling.agreement
            axes.axhspan(low, ceiling.tau, *span, color=colors[area], alpha=0.3, linewidth=0)
            axes.axhline(ceiling.tau, *span, color=colors[area], linewidth=2)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1])
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _share_limits(panels: "list[Axes]") -> None:
    low, high = (
        limit(panel.get_ylim()[side] for panel in panels if panel.lines) for side, limit in enumerate((min, max))
    )
    for panel in panels:
        panel.set_ylim(low, high)


def _title(group: Group) -> str:
    name = group.name if len(group.name) <= 44 else f"...{group.name[-41:]}"
    return name if len(group.members) == 1 else f"{name}, {counted(len(group.members), 'seed')}"
