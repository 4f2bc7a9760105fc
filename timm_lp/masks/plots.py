"""Plots of what masks look like, from the first layer to the last (Figures 5b and 15 to 17)."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor

from ..files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from .group import Group
from .statistics import ELONGATED, ORIENTED, LayerMasks, median

_MAX_GAMMA = 100.0  # what is longer is drawn there
_GAMMA_TICKS = (1.0, ORIENTED, 1.5, 2.0, ELONGATED, 5.0, 10.0, 20.0, 50.0, 100.0)
_WHISKERS = (0.05, 0.95)
_MAX_NAMES = 12  # layers whose names fit below an axis
_GREY = "0.35"


def plot_p(groups: Sequence[Group], path: str | Path) -> None:
    """Plot p of all masks, and from layer to layer, beside where it started (Figures 15 and 16).

    Args:
        groups: The masks of one network or of several.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PICTURE_WIDTH, 3.6), layout="constrained")
    overall, by_layer = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2])
    layers = [layer for group in groups for layer in group.layers]
    low, high = _limits([layer.p for layer in layers], [layer.p_init for layer in layers])
    for index, group in enumerate(groups):
        color = f"C{index % 10}"
        p = torch.cat([layer.p for layer in group.layers])
        bins = torch.logspace(math.log10(low), math.log10(high), 80, dtype=torch.float64)
        weights = torch.full_like(p, 100 / len(p))
        overall.hist(p.numpy(), bins.numpy(), weights=weights.numpy(), orientation="horizontal", color=color, alpha=0.6)
        _plot_band(by_layer, [layer.p for layer in group.layers], color, group.name)
        for start in {layer.p_init for layer in group.layers}:
            for axes in (overall, by_layer):
                axes.axhline(start, color=color, linestyle="--", linewidth=1)
    overall.set_xlabel("all (%)")
    overall.set_ylabel("p (dashed: its start)")
    _number_logarithmic_axis(overall, low, high)
    by_layer.set_xlabel("layer (band: 5 to 95 %)")
    by_layer.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*by_layer.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    for axes in (overall, by_layer):
        axes.grid(alpha=0.3)
    figure.suptitle("Exponent p of the masks", fontsize=11)
    write_figure(path, figure)


def plot_conformation(group: Group, path: str | Path) -> None:
    """Plot alpha, gamma and theta from layer to layer, and gamma against theta (Figures 5b and 17).

    Args:
        group: The masks.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PICTURE_WIDTH, 14), layout="constrained")
    grid = figure.add_gridspec(4, 1, height_ratios=[1, 1, 1, 1.2])
    _plot_alpha(figure.add_subplot(grid[0]), group.layers)
    _plot_gamma(figure.add_subplot(grid[1]), group.layers)
    _plot_theta(figure.add_subplot(grid[2]), group.layers)
    _plot_directions(figure.add_subplot(grid[3], projection="polar"), group.layers)
    figure.suptitle(fill(f"{group.name}: conformation of the masks", PICTURE_LETTERS), fontsize=11)
    write_figure(path, figure)


def _plot_band(axes: Any, values: Sequence[Tensor], color: str, label: str) -> None:
    places = range(1, len(values) + 1)
    low, high = zip(*(layer.quantile(layer.new_tensor(_WHISKERS)).tolist() for layer in values), strict=True)
    axes.fill_between(places, low, high, color=color, alpha=0.25, linewidth=0)
    axes.plot(places, [median(layer) for layer in values], marker="o", markersize=3, linewidth=1.2, color=color)
    axes.plot([], [], color=color, label=label)


def _plot_alpha(axes: Any, layers: Sequence[LayerMasks]) -> None:
    cut = [layer.conformation.alpha.clamp_max(math.hypot(*layer.kernel_size)) for layer in layers]
    _plot_boxes(axes, cut)
    starts = [math.hypot(*layer.sigma_init) for layer in layers]
    for depth, start in enumerate(starts, start=1):
        axes.hlines(start, depth - 0.45, depth + 0.45, color="C3", linewidth=1.5)
    axes.plot([], [], color="C3", linewidth=1.5, label="start")
    _number_logarithmic_axis(axes, *_limits(cut, starts))
    axes.set_ylabel(r"scale $\alpha$ (pixels)")
    axes.legend()
    _name_layers(axes, layers)


def _plot_gamma(axes: Any, layers: Sequence[LayerMasks]) -> None:
    gamma = [layer.conformation.gamma.clamp_max(_MAX_GAMMA) for layer in layers]
    _plot_boxes(axes, gamma)
    for limit, text in ((ORIENTED, "oriented"), (ELONGATED, "elongated")):
        axes.axhline(limit, color=_GREY, linestyle=":", linewidth=1)
        label = axes.text(1.01, limit, f"above:\n{text}", transform=axes.get_yaxis_transform())
        label.set(va="center", color=_GREY)
    largest = [layer.max().item() for layer in gamma]
    axes.plot(range(1, len(layers) + 1), largest, linestyle="", marker=".", markersize=4, color="C0")
    _number_logarithmic_axis(axes, 0.97, 1.1 * max([ELONGATED, *largest]), _GAMMA_TICKS)
    axes.set_ylabel(r"distortion $\gamma$ (dots: largest)")
    _name_layers(axes, layers)


def _plot_theta(axes: Any, layers: Sequence[LayerMasks]) -> None:
    """Plot the directions of the masks that have one, each a dot, the larger the longer the mask."""
    for depth, layer in enumerate(layers, start=1):
        gamma, theta = _oriented(layer)
        across = torch.linspace(-0.35, 0.35, len(theta)) if len(theta) > 1 else torch.zeros(len(theta))
        axes.scatter(depth + across, theta, s=_sizes(gamma), color="C0", alpha=0.5, linewidths=0)
    axes.set_ylim(-4, 184)
    axes.set_yticks([0, 45, 90, 135, 180], ["0, row", "45", "90, column", "135", "180, row"])
    axes.set_ylabel(rf"rotation $\theta$ (degrees) where $\gamma$ > {ORIENTED:g}")
    axes.grid(axis="y", alpha=0.3)
    _name_layers(axes, layers)


def _plot_directions(axes: Any, layers: Sequence[LayerMasks]) -> None:
    """Plot gamma against theta: from the middle, each mask is long towards its two dots."""
    longest = ELONGATED
    for depth, layer in enumerate(layers):
        gamma, theta = _oriented(layer)
        color = _depth_color(depth, len(layers))
        for end in (theta, theta + 180):
            axes.scatter(torch.deg2rad(end), gamma.log(), s=_sizes(gamma), color=color, alpha=0.7, linewidths=0)
        longest = max([longest, *gamma.tolist()])
    axes.set_ylim(0, math.log(1.1 * longest))
    rings = [ring for ring in _GAMMA_TICKS if ORIENTED <= ring <= longest and ring != 1.5]
    axes.set_yticks([math.log(ring) for ring in rings], [f"{ring:g}" for ring in rings])
    axes.set_rlabel_position(22.5)
    directions = (0, 45, 90, 135, 180)
    axes.set_xticks([math.radians(angle) for angle in directions], [f"{angle}" for angle in directions])
    axes.set_title(r"$\theta$ (direction) and $\gamma$ (rings), dark: first layers", fontsize=10)


def _plot_boxes(axes: Any, values: Sequence[Tensor]) -> None:
    """Plot quartiles as boxes, 5 and 95 % as whiskers."""
    fractions = (_WHISKERS[0], 0.25, 0.5, 0.75, _WHISKERS[1])
    names = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [dict(zip(names, layer.quantile(layer.new_tensor(fractions)).tolist(), strict=True)) for layer in values]
    axes.bxp(boxes, showfliers=False, widths=0.6, patch_artist=True, boxprops={"facecolor": "C0", "alpha": 0.35})
    axes.grid(axis="y", alpha=0.3)


def _oriented(layer: LayerMasks) -> tuple[Tensor, Tensor]:
    """Return gamma and theta of the masks with a direction."""
    oriented = layer.conformation.gamma > ORIENTED
    return layer.conformation.gamma[oriented].clamp_max(_MAX_GAMMA), layer.conformation.theta[oriented]


def _sizes(gamma: Tensor) -> Tensor:
    return 4 + 16 * gamma.log()


def _depth_color(depth: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.95 * depth / max(1, count - 1))


def _name_layers(axes: Any, layers: Sequence[LayerMasks]) -> None:
    from matplotlib.ticker import MaxNLocator

    places = range(1, len(layers) + 1)
    axes.set_xlim(0.4, len(layers) + 0.6)
    if len(layers) <= _MAX_NAMES:
        axes.set_xticks(places, [layer.fqn for layer in layers], rotation=40, ha="right")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("layer")


def _limits(values: Sequence[Tensor], starts: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all values and starts."""
    everything = torch.cat([*values, torch.tensor(starts, dtype=torch.float64)])
    return 0.97 * everything.min().item(), 1.03 * everything.max().item()


def _number_logarithmic_axis(axes: Any, low: float, high: float, ticks: Sequence[float] = ()) -> None:
    """Make the y axis logarithmic, with these ticks, or a few round ones whether it spans a tenth or three decades."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    if not ticks:
        powers = [2.0**power for power in range(-6, 10) if low <= 2.0**power <= high]
        ticks = powers if len(powers) > 3 else MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
