"""A picture of the masks themselves, layer by layer (Figure 9)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .networks import Group
from .statistics import LayerMasks, summarize

_MAX_LAYERS = 40
_MAX_MASKS = 48  # of a layer
_MASK_COLUMNS = 8
_BLOCK_COLUMNS = 5
_GAP = 0.12  # between two masks, as a fraction of a mask
_TAP_PIXELS = 8  # of the array that is drawn, at least this many for a mask's side


def draw_gallery(group: Group, path: str | Path) -> None:
    """Draw masks of each layer, from the narrowest to the widest, as the kernel's taps have them.

    Of layers beyond 40, and of a layer's masks beyond 48, it draws that many, evenly from first to last.

    Args:
        group: The masks.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    layers = evenly(group.layers, _MAX_LAYERS)
    columns = min(_BLOCK_COLUMNS, len(layers))
    rows = math.ceil(len(layers) / columns)
    mask_rows = math.ceil(max(min(len(layer), _MAX_MASKS) for layer in layers) / _MASK_COLUMNS)
    size = (2.9 * max(columns, 2), 0.9 + rows * (0.55 + 2.6 * mask_rows / _MASK_COLUMNS))
    figure = Figure(figsize=size, layout="constrained")
    some = f" ({len(layers)} of {len(group.layers)} layers)" if len(layers) < len(group.layers) else ""
    figure.suptitle(f"{group.name}: masks by layer{some}, each layer's from the narrowest to the widest", fontsize=12)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, layer in zip(grid.flat, layers, strict=False):
        _draw_layer(axes, layer)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, the first, the last, and evenly between."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def mosaic(masks: Tensor, columns: int) -> Tensor:
    """Return masks side by side and one below the other, with NaN between and behind them.

    Args:
        masks: Masks, shape `(n, 1, Kh, Kw)`.
        columns: How many are side by side.

    Returns:
        The array, shape `(H, W)`; each tap takes as many elements as it needs for a gap that is narrow beside a mask.
    """
    repeats = math.ceil(_TAP_PIXELS / min(masks.shape[-2:]))
    masks = masks[:, 0].repeat_interleave(repeats, dim=1).repeat_interleave(repeats, dim=2)
    gap = max(1, round(_GAP * min(masks.shape[-2:])))
    height, width = masks.shape[-2] + gap, masks.shape[-1] + gap
    rows = math.ceil(len(masks) / columns)
    array = torch.full((rows * height - gap, columns * width - gap), math.nan, dtype=masks.dtype)
    for place, mask in enumerate(masks):
        top, left = place // columns * height, place % columns * width
        array[top : top + height - gap, left : left + width - gap] = mask
    return array


def _draw_layer(axes: Any, layer: LayerMasks) -> None:
    shown = layer.pick(evenly(layer.radius_in_kernel.argsort(stable=True).tolist(), _MAX_MASKS))
    line = summarize([layer])
    count = f"{len(layer):,} masks" if len(shown) == len(layer) else f"{len(shown)} of {len(layer):,} masks"
    axes.imshow(mosaic(shown.mask(), _MASK_COLUMNS).numpy(), cmap="magma", vmin=0, vmax=1, interpolation="none")
    axes.set_anchor("N")
    numbers = f"{line.kernel}, {count}\np {line.p_median:.2f}, gamma {line.gamma:.2f}"
    axes.set_title(layer.fqn, fontsize=9, fontweight="bold", loc="left", pad=24)
    axes.text(0, 1.02, numbers, transform=axes.transAxes, fontsize=8, va="bottom")
