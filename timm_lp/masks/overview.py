"""One picture of a network's masks: what changed from layer to layer, and six telling masks of each layer."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..files import PICTURE_WIDTH, write_figure
from .gallery import evenly
from .statistics import LayerMasks, Spread, all_masks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_DRAWN_LAYERS = 12
_GALLERY_COLUMNS = 3
_NAME_WIDTH = 18  # letters of a layer's name on a line
_GAP = 0.08  # between two masks, as a fraction of a mask
_EXAMPLES = ("narrow", "mid", "wide", "long", "low p", "high p")
_DASHED = "dashed: the kernel before it was enlarged"
_PROFILES_HEIGHT = 5.0  # inches


def show(model: nn.Module) -> "Figure":
    """Return a picture of the masks of a network in memory, of any library; notebooks show it.

    It has p, sigma and gamma from layer to layer, and six telling masks of each layer; beyond 12 layers, those of 12
    layers from first to last. `show(model).savefig("masks.png")` writes it.

    Args:
        model: A network with `LpConv2d` layers.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If it has no masks, or one is not finite.
    """
    return plot_overview(all_masks(model))


def draw_overview(layers: Sequence[LayerMasks], path: str | Path) -> None:
    """Write the picture of `show` to a file.

    Args:
        layers: The masks of each layer.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are none.
    """
    write_figure(path, plot_overview(layers))


def plot_overview(layers: Sequence[LayerMasks]) -> "Figure":
    """Return the picture of `show`.

    Args:
        layers: The masks of each layer.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are none.
    """
    from matplotlib.figure import Figure

    if not layers:
        raise ValueError("`layers` must be those of a network with masks, got none. Draw none of a network without.")
    drawn = evenly(layers, _MAX_DRAWN_LAYERS)
    some = f" ({len(drawn)} of {len(layers)} layers)" if len(drawn) < len(layers) else ""
    if all(layer.are_alike for layer in layers):
        height = 0.7 + 2.3 * math.ceil(len(drawn) / _GALLERY_COLUMNS)
        figure = Figure(figsize=(PICTURE_WIDTH, height), layout="constrained")
        figure.suptitle(f"The mask of all channels, by layer{some}\n{_DASHED}", fontsize=11)
        _draw_gallery(figure, drawn)
    else:
        heights = [_PROFILES_HEIGHT, 0.9 + 0.85 * len(drawn)]
        figure = Figure(figsize=(PICTURE_WIDTH, sum(heights)), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).flat
        bottom.suptitle(f"Masks by layer{some}\n{_DASHED}", fontsize=11)
        _draw_profiles(top, layers)
        _draw_examples(bottom.subplots(len(drawn), 1, squeeze=False), drawn)
    return figure


def _draw_gallery(figure: Any, layers: Sequence[LayerMasks]) -> None:
    """Draw one mask of each layer."""
    rows = math.ceil(len(layers) / _GALLERY_COLUMNS)
    grid = figure.subplots(rows, _GALLERY_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, layer in zip(grid.flat, layers, strict=False):
        axes.set_title("\n".join([*_wrapped(layer.fqn), *_numbers(layer)]), fontsize=10)
        _draw_mask(axes, layer, _example_masks(layer)[0], 0.0)


def _draw_profiles(figure: Any, layers: Sequence[LayerMasks]) -> None:
    """Plot p, sigma over its start, and gamma, from the first layer to the last."""
    profiles = {
        "p": [Spread.of(layer.p) for layer in layers],
        "sigma / its start": [Spread.of(layer.sigma_change) for layer in layers],
        "gamma (1: round)": [Spread.of(layer.conformation.gamma) for layer in layers],
    }
    figure.suptitle("Median of the masks; band: smallest to largest", fontsize=11)
    places = range(1, len(layers) + 1)
    for axes, (label, spreads) in zip(figure.subplots(len(profiles), 1, sharex=True), profiles.items(), strict=True):
        finite = [value for spread in spreads for value in spread if math.isfinite(value)] or [1.0]
        low, high = min(finite), max(finite)
        axes.set_ylim(0.98 * low, 1.02 * high)  # so that rounding does not look like a difference
        smallest = [spread.min for spread in spreads]
        largest = [min(spread.max, 2 * high) for spread in spreads]  # a mask of infinite width leaves the picture
        axes.fill_between(places, smallest, largest, alpha=0.25, linewidth=0)
        axes.plot(places, [spread.median for spread in spreads], marker="o", markersize=3, linewidth=1)
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.3)
    axes.set_xlabel("layer")


def _draw_examples(grid: Any, layers: Sequence[LayerMasks]) -> None:
    """Draw a strip of masks for each layer."""
    for axes in grid.flat:
        axes.set_axis_off()
    for row, layer in enumerate(layers):
        _draw_strip(grid[row, 0], layer, with_header=row == 0)


def _draw_strip(axes: Any, layer: LayerMasks, *, with_header: bool) -> None:
    """Draw six masks of a layer side by side, its name and numbers to the left."""
    pitch = 1 + _GAP
    masks = _example_masks(layer)[: 1 if layer.are_alike else None]
    for index, mask in enumerate(masks):
        _draw_mask(axes, layer, mask, index * pitch)
    if len(masks) == 1:
        axes.text(pitch + 0.1, 0.5, "all alike", va="center")
    for index, example in enumerate(_EXAMPLES if with_header else ()):
        axes.text(index * pitch + 0.5, 1.08, example, ha="center", va="bottom", fontsize=10)
    axes.set_xlim(-4.2, len(_EXAMPLES) * pitch)
    axes.set_ylim(0, 1)
    name = _wrapped(layer.fqn)
    for index, line in enumerate([*name, *_numbers(layer)]):
        bold = "bold" if index < len(name) else "normal"
        axes.text(-0.15, 1.05 - index * 0.34, line, ha="right", va="top", fontweight=bold)


def _draw_mask(axes: Any, layer: LayerMasks, mask: Tensor, left: float) -> None:
    """Draw a mask in the unit square at `left`, with the kernel that it grew from."""
    from matplotlib.patches import Rectangle

    axes.imshow(mask.numpy(), extent=(left, left + 1, 0, 1), cmap="magma", vmin=0, vmax=1, interpolation="none")
    height, width = (2 * sigma / size for sigma, size in zip(layer.sigma_init, layer.kernel_size, strict=True))
    if max(height, width) < 1:
        corner = (left + (1 - width) / 2, (1 - height) / 2)
        axes.add_patch(Rectangle(corner, width, height, fill=False, color="white", linestyle="--", linewidth=0.8))


def _wrapped(fqn: str) -> list[str]:
    """Return a layer's name on as many lines as it needs, broken at its dots."""
    return [line.replace(". ", ".") for line in textwrap.wrap(fqn.replace(".", ". "), _NAME_WIDTH)]


def _numbers(layer: LayerMasks) -> list[str]:
    height, width = layer.kernel_size
    p, sigma = Spread.of(layer.p), Spread.of(layer.sigma)
    return [f"{height}x{width}, {len(layer)} masks", f"p {p}", f"sigma {sigma} px"]


def _example_masks(layer: LayerMasks) -> Tensor:
    """Return the masks that `_EXAMPLES` names, shape `(6, Kh, Kw)`."""
    by_area = torch.linalg.det(layer.C).abs().argsort(descending=True, stable=True)
    chosen = torch.stack(
        [
            by_area[0],
            by_area[len(by_area) // 2],
            by_area[-1],
            layer.conformation.gamma.argmax(),
            layer.p.argmin(),
            layer.p.argmax(),
        ]
    )
    return layer.pick(chosen).mask()[:, 0]
