"""What a network's masks look like, in pictures."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import LpConv2d, lp_mask
from .statistics import Spread, lp_layers

_MAX_DRAWN_LAYERS = 24
_GALLERY_COLUMNS = 8
_NAME_WIDTH = 24  # letters of a layer's name on a line
_GAP = 0.08  # between two masks, as a fraction of a mask
_EXAMPLES = ("narrowest", "median", "widest", "longest", "lowest p", "highest p")


def draw_masks(model: nn.Module, path: str | Path) -> None:
    """Draw a network's masks: p and sigma from layer to layer, and six telling masks of each layer.

    Beyond 24 layers, the masks are those of 24 layers from first to last.

    Args:
        model: A network with `LpConv2d` layers, not on the meta device.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the network has no masks.
    """
    from matplotlib.figure import Figure

    layers = lp_layers(model)
    if not layers:
        raise ValueError(f"`model` must have LpConv2d layers, got {type(model).__name__} without. It has no masks.")
    drawn = _evenly(layers, _MAX_DRAWN_LAYERS)
    heading = "Masks of each layer"
    if len(drawn) < len(layers):
        heading += f" ({len(drawn)} of {len(layers)} layers)"
    heading += "; dashed: the kernel before it was enlarged"
    if all(_alike(layer) for _, layer in layers):
        figure = Figure(figsize=(12, 0.6 + 2.1 * math.ceil(len(drawn) / _GALLERY_COLUMNS)), layout="constrained")
        figure.suptitle(heading.replace("Masks", "The mask, one for all channels,"), fontsize=11)
        _draw_gallery(figure, drawn)
    else:
        columns = 2 if len(drawn) > 6 else 1
        rows = math.ceil(len(drawn) / columns)
        figure = Figure(figsize=(12 if columns == 2 else 7, 2.6 + 0.9 * rows), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[2.6, 0.9 * rows], squeeze=False).flat
        bottom.suptitle(heading, fontsize=11)
        _draw_profiles(top, layers)
        _draw_examples(bottom.subplots(rows, columns, squeeze=False), drawn)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, the first, the last, and evenly between."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _alike(layer: LpConv2d) -> bool:
    """Tell whether a layer's masks are all the same, as before training."""
    return bool((layer.C == layer.C[0]).all() and (layer.log2p == layer.log2p[0]).all())


def _draw_gallery(figure: Any, layers: list[tuple[str, LpConv2d]]) -> None:
    """Draw one mask of each layer."""
    rows = math.ceil(len(layers) / _GALLERY_COLUMNS)
    grid = figure.subplots(rows, _GALLERY_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (fqn, layer) in zip(grid.flat, layers, strict=False):
        axes.set_title("\n".join([*_wrapped(fqn), *_numbers(layer)]), fontsize=8)
        _draw_mask(axes, layer, _example_masks(layer)[0], 0.0)


def _draw_profiles(figure: Any, layers: list[tuple[str, LpConv2d]]) -> None:
    """Plot p, and sigma over its start, from the first layer to the last."""
    profiles = {
        "p": [Spread.of(layer.p) for _, layer in layers],
        "sigma / sigma at the start": [
            Spread.of(layer.sigma / layer.sigma.new_tensor(layer.sigma_init)) for _, layer in layers
        ],
    }
    places = range(1, len(layers) + 1)
    for axes, (label, spreads) in zip(figure.subplots(1, 2), profiles.items(), strict=True):
        low = min(spread.min for spread in spreads)
        high = max((value for spread in spreads for value in spread if math.isfinite(value)), default=low)
        axes.set_ylim(0.98 * low, 1.02 * high)  # so that rounding does not look like a difference
        largest = [min(spread.max, 2 * high) for spread in spreads]  # a mask of infinite width leaves the picture
        axes.fill_between(places, [spread.min for spread in spreads], largest, alpha=0.25, linewidth=0)
        axes.plot(places, [spread.median for spread in spreads], marker="o", markersize=3, linewidth=1)
        axes.set_xlabel("layer (line: median of its masks, band: smallest to largest)", fontsize=10)
        axes.set_ylabel(label, fontsize=10)
        axes.tick_params(labelsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.3)


def _draw_examples(grid: Any, layers: list[tuple[str, LpConv2d]]) -> None:
    """Draw a strip of masks for each layer, column by column."""
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (fqn, layer) in enumerate(layers):
        column, row = divmod(index, len(grid))
        _draw_strip(grid[row, column], fqn, layer, with_header=row == 0)


def _draw_strip(axes: Any, fqn: str, layer: LpConv2d, *, with_header: bool) -> None:
    """Draw six masks of a layer side by side, its name and numbers to the left."""
    pitch = 1 + _GAP
    masks = _example_masks(layer)[: 1 if _alike(layer) else None]
    for place, mask in enumerate(masks):
        _draw_mask(axes, layer, mask, place * pitch)
    if len(masks) == 1:
        axes.text(pitch + 0.1, 0.5, "all alike", va="center", fontsize=9)
    for place, example in enumerate(_EXAMPLES if with_header else ()):
        axes.text(place * pitch + 0.5, 1.08, example, ha="center", va="bottom", fontsize=9)
    axes.set_xlim(-2.8, len(_EXAMPLES) * pitch)
    axes.set_ylim(0, 1)
    name = _wrapped(fqn)
    for place, line in enumerate([*name, *_numbers(layer)]):
        bold = "bold" if place < len(name) else "normal"
        axes.text(-0.1, 1 - place * 0.21, line, ha="right", va="top", fontsize=9, fontweight=bold)


def _draw_mask(axes: Any, layer: LpConv2d, mask: Tensor, left: float) -> None:
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


def _numbers(layer: LpConv2d) -> list[str]:
    height, width = layer.kernel_size
    p, sigma = Spread.of(layer.p), Spread.of(layer.sigma)
    return [f"{height}x{width}, {layer.out_channels} masks", f"p {p}", f"sigma {sigma} px"]


def _example_masks(layer: LpConv2d) -> Tensor:
    """Return the masks that `_EXAMPLES` names, shape `(6, Kh, Kw)`."""
    C, log2p = layer.C.detach().float().cpu(), layer.log2p.detach().float().cpu()
    by_area = torch.linalg.det(C).abs().argsort(descending=True)
    singular = torch.linalg.svdvals(C)
    p = layer.p.detach().cpu()
    chosen = torch.stack(
        [
            by_area[0],
            by_area[len(by_area) // 2],
            by_area[-1],
            (singular[:, 0] / singular[:, 1]).argmax(),
            p.argmin(),
            p.argmax(),
        ]
    )
    return lp_mask(C[chosen], log2p[chosen], layer.kernel_size)[:, 0]
