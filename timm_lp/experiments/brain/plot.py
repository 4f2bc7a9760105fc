"""The pictures of an analysis: the best layer of each area, and tau by depth (Figure 11)."""

from itertools import cycle
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

import numpy as np

from ...files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from ...reporting import counted
from .analysis import Analysis
from .groups import Group, interval_of
from .report import title_of

# Told apart by their markers and in grey too.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#222222", "marker": "o"},
    {"color": "#e2725b", "marker": "s", "linestyle": "--"},
    {"color": "#2b62ad", "marker": "^", "linestyle": "-."},
    {"color": "#aaaaaa", "marker": "D", "linestyle": ":"},
    {"color": "#9a6fb0", "marker": "v"},
)
_CHANCE = "#dddddd"


def plot_best(analysis: Analysis, path: Path) -> None:
    """Draw the tau of each area's best layer for each network, with its interval over samples of the images.

    Args:
        analysis: What to draw; seeds of a network are averaged.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    groups = analysis.groups
    areas = groups[0].areas
    figure = Figure(figsize=(PICTURE_WIDTH, 1.4 + (0.3 + 0.16 * len(groups)) * len(areas)), layout="constrained")
    axes = figure.subplots()
    chance = fmean(group.chance()[0] for group in groups if not group.baseline)
    axes.axvspan(0, chance, color=_CHANCE, linewidth=0, label="chance (95 %)")
    for number, (group, style) in enumerate(zip(groups, cycle(_STYLES), strict=False)):
        places = np.arange(len(areas)) + 0.7 * ((number + 0.5) / len(groups) - 0.5)
        low, high = group.interval
        axes.hlines(places, low, high, color=style["color"], linewidth=1.6)
        taus = group.best_taus.mean(axis=0)
        axes.plot(taus, places, style["marker"], color=style["color"], markersize=5, label=group.name)
    axes.set_yticks(range(len(areas)), areas)
    axes.set_ylim(len(areas) - 0.5, -0.5)
    axes.set_xlabel("Kendall's tau of the best layer, 95 % over images")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    figure.suptitle(_heading(analysis), fontsize=11)
    write_figure(path, figure)


def plot_layers(analysis: Analysis, path: Path) -> None:
    """Draw a panel for each area: tau from the first layer to the last, the mean over each network's seeds.

    Args:
        analysis: What to draw.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    networks = [group for group in analysis.groups if not group.baseline]
    areas = networks[0].areas
    figure = Figure(figsize=(PICTURE_WIDTH, 1.4 + 1.8 * len(areas)), layout="constrained")
    panels = figure.subplots(len(areas), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    shuffled = [member.alignment.shuffled.ravel() for group in networks for member in group.members]
    low, high = map(float, interval_of(np.concatenate(shuffled)))
    for column, (axes, area) in enumerate(zip(panels, areas, strict=True)):
        axes.axhspan(low, high, color=_CHANCE, linewidth=0, label="a layer, images shuffled (95 %)")
        for group, style in zip(networks, cycle(_STYLES), strict=False):
            taus = np.mean([member.alignment.tau[:, column] for member in group.members], axis=0)
            axes.plot(range(1, len(taus) + 1), taus, markersize=4, label=_title(group), **style)
        ceiling = analysis.ceilings[area].tau
        axes.set_title(area if ceiling is None else f"{area} (ceiling {ceiling:.2f})", fontsize=11)
        axes.set_ylabel("tau")
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("layer")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    figure.suptitle(_heading(analysis), fontsize=11)
    write_figure(path, figure)


def _heading(analysis: Analysis) -> str:
    return fill(f"Similarity with {title_of(analysis.responses)}", PICTURE_LETTERS)


def _title(group: Group) -> str:
    name = group.name if len(group.name) <= 40 else f"...{group.name[-37:]}"
    return name if len(group.members) == 1 else f"{name}, {counted(len(group.members), 'seed')}"
