"""The pictures: fields beside their fits, the exponents, and a network's kernels with their functional synapses."""

import math
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from .density import Array, mpnd_log_prob
from .fields import Field, FieldFit
from .likelihood import P_MAX
from .report import SYNTHETIC, exponent_text, middle_fit
from .synapses import Counts

_EXTENT = 3.0  # standard deviations
_BINS = 33
_SHOWN_UNITS = 4
_SHOWN_KERNELS = 7
_COLOR = "#3b6fb6"


def plot_fields(fields: list[Field], fits: list[FieldFit], path: Path, *, synthetic: bool) -> None:
    """Plot the mean field of each group, a row, beside its median fit, and the profiles of both (Figures 1f and 7)."""
    groups = list(dict.fromkeys(fit.group for fit in fits))
    figure = _figure(0.6 + 1.5 * len(groups), synthetic)
    panels = figure.subplots(len(groups), 3, squeeze=False, sharex="col")
    for row, group in zip(panels, groups, strict=True):
        density = np.mean([_histogram(field) for field in fields if field.group == group], axis=0)
        fit = middle_fit([fit for fit in fits if fit.group == group])
        fitted = _fitted_density(fit)
        top = max(density.max(), fitted.max())
        for axes, image in zip(row[:2], (density, fitted), strict=True):
            _map(axes, image, top)
        row[0].set_ylabel(_wrapped(group))
        row[1].set_ylabel(f"p {exponent_text(fit)}")
        _plot_profiles(row[2], density, fitted)
    for axes, title in zip(panels[0], ("mean field", "fit of median p", "along x"), strict=True):
        axes.set_title(title, fontsize=11)
    panels[-1, 2].set_xlabel("deviations")
    figure.legend(*panels[0, 2].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def plot_units(fields: list[Field], fits: list[FieldFit], path: Path, *, synthetic: bool) -> None:
    """Plot single fields, a row for each group (Figure 8)."""
    groups = list(dict.fromkeys(fit.group for fit in fits))
    columns = min(_SHOWN_UNITS, max(sum(fit.group == group for fit in fits) for group in groups))
    figure = _figure(1.6 * len(groups) + 0.5, synthetic)
    panels = figure.subplots(len(groups), columns, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        members = [pair for pair in zip(fields, fits, strict=True) if pair[0].group == group][:columns]
        for axes in row[len(members) :]:
            axes.set_axis_off()
        for axes, (field, fit) in zip(row, members, strict=False):
            image = _histogram(field)
            _map(axes, image, image.max())
            axes.set_title(f"{field.unit[:10]}\np {exponent_text(fit)}", fontsize=10)
        row[0].set_ylabel(_wrapped(group))
    _save(figure, path)


def plot_exponents(fits: list[FieldFit], path: Path, *, synthetic: bool, true_p: dict[str, float]) -> None:
    """Plot p of each field by group, with its interval where there is one (Figure 1g).

    Args:
        fits: The fits of all groups.
        path: Where to write the picture.
        synthetic: Whether the fields are those of the example.
        true_p: Exponents of the synthetic groups, by name.
    """
    groups = list(dict.fromkeys(fit.group for fit in fits))
    figure = _figure(1.5 + 0.62 * len(groups), synthetic)
    axes = figure.subplots()
    for row, group in enumerate(groups):
        members = sorted((fit for fit in fits if fit.group == group), key=lambda fit: fit.p)
        heights = row + np.linspace(-0.3, 0.3, len(members)) if len(members) > 1 else np.array([row])
        for height, fit in zip(heights, members, strict=True):
            if fit.low is not None and fit.high is not None:
                ends = max(fit.low, 0.3), min(fit.high, P_MAX)
                axes.plot(ends, [height, height], color=_COLOR, linewidth=0.9, alpha=0.5)
            axes.plot(fit.p, height, ">" if fit.is_flat else "o", color=_COLOR, markersize=4, markeredgewidth=0)
        if group in true_p:
            axes.plot([true_p[group]] * 2, [row - 0.42, row + 0.42], color="#c44e52", linewidth=1.6)
    axes.axvline(2, color="#444444", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xscale("log", base=2)
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, 16, 32, 64, 128) if _shows(tick, fits)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(groups)), [_wrapped(group) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    flat = ", triangles: only bounded from below" if any(fit.is_flat for fit in fits) else ""
    red = ", red: true p" if true_p else ""
    axes.set_xlabel(fill(f"p (points: fields, bars: 95 % intervals, dashed: 2{red}{flat})", PICTURE_LETTERS - 16))
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


@dataclass(frozen=True)
class KernelPanel:
    """A network's kernels and their functional synapses.

    Attributes:
        title: Name of the network and its weights.
        kernel: Shape `(O, I, Kh, Kw)`.
        counts: Functional synapses over all inputs, by the name of the inputs, shape `(O, I, Kh, Kw)`.
    """

    title: str
    kernel: Array
    counts: dict[str, Counts]


def plot_kernels(panel: KernelPanel, path: Path, *, synthetic: bool) -> None:
    """Plot the first kernels, their functional synapses by inputs, and the sums (Figures 12 and 13)."""
    shown = min(_SHOWN_KERNELS, len(panel.kernel))
    rows = 1 + len(panel.counts)
    figure = _figure(0.8 * rows + 0.9, synthetic, panel.title)
    panels = figure.subplots(rows, shown + 1, squeeze=False, gridspec_kw={"width_ratios": [*[1] * shown, 1.4]})
    images = _as_colours(panel.kernel[:shown])
    for neuron in range(shown):
        panels[0, neuron].imshow(images[neuron], cmap="gray")
        panels[0, neuron].set_title(str(neuron + 1), fontsize=10)
    panels[0, -1].imshow(np.abs(panel.kernel).mean((0, 1)), cmap="magma")
    panels[0, -1].set_title("all", fontsize=10)
    for row, (name, counts) in zip(panels[1:], panel.counts.items(), strict=True):
        for neuron in range(shown):
            row[neuron].imshow(counts[neuron].sum(0), cmap="magma")
        total = counts.sum((0, 1))
        row[-1].imshow(total, cmap="magma")
        row[-1].set_xlabel(f"min/max\n{total.min() / max(1, total.max()):.2f}")
        row[0].set_ylabel(_wrapped(name), rotation=0, ha="right", va="center")
    panels[0, 0].set_ylabel("kernel", rotation=0, ha="right", va="center")
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    _save(figure, path)


def _figure(height: float, synthetic: bool, title: str = "") -> Figure:
    figure = Figure(figsize=(PICTURE_WIDTH, height), layout="constrained")
    label = SYNTHETIC.split(":")[0] if synthetic else ""
    if title or label:
        text = fill(": ".join(filter(None, (label, title))), PICTURE_LETTERS)
        figure.suptitle(text, fontsize=11, color="#c44e52" if synthetic else "black")
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure)


def _histogram(field: Field) -> Array:
    """Return the density of a standardized field over the picture's squares, shape `(rows, columns)`.

    A tap's counts are spread evenly over the tap.
    """
    standard = field.standardized()
    edges = np.linspace(-_EXTENT, _EXTENT, _BINS + 1)
    if standard.tap is None or standard.counts is None:
        x, y = standard.offsets.T
        return np.histogram2d(y, x, bins=(edges, edges))[0] / len(x) / (edges[1] - edges[0]) ** 2
    along = []
    for axis in range(2):
        low, high = (standard.offsets[:, axis] + side * standard.tap[axis] / 2 for side in (-1, 1))
        overlap = np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None])
        along.append(np.maximum(overlap, 0) / standard.tap[axis] / (edges[1] - edges[0]))
    return np.einsum("n,ny,nx->yx", standard.counts / standard.counts.sum(), along[1], along[0])


def _fitted_density(fit: FieldFit) -> Array:
    edges = np.linspace(-_EXTENT, _EXTENT, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    return np.exp(mpnd_log_prob(np.stack(np.meshgrid(centres, centres), -1), fit.C, fit.p))


def _map(axes: Axes, image: Array, top: float) -> None:
    box = (-_EXTENT, _EXTENT, _EXTENT, -_EXTENT)
    axes.imshow(image, cmap="magma", vmin=0, vmax=top, extent=box, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _plot_profiles(axes: Axes, density: Array, fitted: Array) -> None:
    edges = np.linspace(-_EXTENT, _EXTENT, _BINS + 1)
    width = edges[1] - edges[0]
    axes.stairs(density.sum(0) * width, edges, fill=True, color=_COLOR, alpha=0.35, label="field")
    axes.plot((edges[1:] + edges[:-1]) / 2, fitted.sum(0) * width, color="#c44e52", linewidth=1.3, label="fit")
    axes.set_xlim(-_EXTENT, _EXTENT)
    axes.set_ylim(0, 0.85)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _as_colours(kernel: Array) -> Array:
    """Return kernels as images: RGB from -max to max where there are three channels, else the mean channel."""
    images = kernel.transpose(0, 2, 3, 1) if kernel.shape[1] == 3 else kernel.mean(1)
    largest = np.abs(images).reshape(len(images), -1).max(1).reshape(-1, *[1] * (images.ndim - 1))
    return 0.5 + images / np.maximum(2 * largest, np.finfo(np.float64).tiny)


def _shows(tick: float, fits: list[FieldFit]) -> bool:
    lows = [fit.p if fit.low is None else max(fit.low, 0.3) for fit in fits]
    highs = [fit.p if fit.high is None else min(fit.high, P_MAX) for fit in fits]
    return math.log2(min(2.0, *lows)) - 0.6 <= math.log2(tick) <= math.log2(max(2.0, *highs)) + 0.6


def _wrapped(name: str) -> str:
    return name.replace(", ", ",\n")
