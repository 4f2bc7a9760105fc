"""Pictures of masks: those of a network layer by layer (Figure 9), and what their numbers mean (Figures 5a and 14)."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from ..ops import lp_mask
from ._conformation import conformation_matrix
from .group import Group
from .statistics import LayerMasks, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_LAYERS = 16
_MAX_MASKS = 30  # of a layer
_MASK_COLUMNS = 6
_BLOCK_COLUMNS = 2
_NAME_WIDTH = 24  # letters
_GAP = 0.12  # between two masks, as a fraction of a mask
_TAP_PIXELS = 8  # of the array that is drawn, at least this many for a mask's side

_SHAPE_SIZE = 121  # pixels of a drawn mask
_SHAPE_ALPHA = 38.0
_P = (1.0, 2.0, 4.0, 16.0, 256.0)
_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
_GAMMA = (1.0, 1.2, 2.0, 3.0, 5.0)
_THETA = (0.0, 22.5, 45.0, 90.0, 135.0)
_LEFT = (0.0, 22.5, 45.0, 67.5, 90.0)


def draw_gallery(group: Group, path: str | Path) -> None:
    """Write the picture of `plot_gallery` to a file.

    Args:
        group: The masks.
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    write_figure(path, plot_gallery(group))


def plot_gallery(group: Group, *, in_order: bool = True) -> "Figure":
    """Draw masks of each layer, from the narrowest to the widest, as the kernel's taps have them; one if all are alike.

    Of layers beyond 16, and of a layer's masks beyond 30, it draws that many, evenly from first to last.

    Args:
        group: The masks.
        in_order: False draws masks in the order in which they come, and those that are alike too.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    layers = evenly(group.layers, _MAX_LAYERS)
    columns = min(_BLOCK_COLUMNS, len(layers))
    blocks = [layers[start : start + columns] for start in range(0, len(layers), columns)]
    orders = {layer.fqn: _order(layer) if in_order else [*range(len(layer))] for layer in layers}
    shown = {fqn: min(len(order), _MAX_MASKS) for fqn, order in orders.items()}
    rows = [math.ceil(max(shown[layer.fqn] for layer in block) / _MASK_COLUMNS) for block in blocks]
    heights = [0.6 + 2.2 / _MASK_COLUMNS * count for count in rows]  # inches
    figure = Figure(figsize=(PICTURE_WIDTH, 0.5 + sum(heights)), layout="constrained")
    some = f" ({len(layers)} of {len(group.layers)} layers)" if len(layers) < len(group.layers) else ""
    order = "\neach layer's from narrow to wide" if in_order else ""
    figure.suptitle(f"{fill(group.name, PICTURE_LETTERS)}{some}{order}", fontsize=11)
    grid = figure.subplots(len(blocks), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, layer in zip(grid.flat, layers, strict=False):
        _draw_layer(axes, layer, orders[layer.fqn])
    return figure


def draw_shapes(path: str | Path) -> None:
    """Draw masks over p, alpha, gamma, theta and the angle of U, one number after the other.

    Args:
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows: list[tuple[str, Sequence[str], Tensor]] = [
        ("exponent p", [f"{p:g}" for p in _P], torch.cat([_shape(p=p) for p in _P])),
        ("scale alpha", [f"{100 * s:.0f} %" for s in _SCALES], torch.cat([_shape(scale=s) for s in _SCALES])),
        ("gamma", [f"{gamma:g}" for gamma in _GAMMA], torch.cat([_shape(gamma=gamma) for gamma in _GAMMA])),
        (
            "theta\n(gamma 3)",
            [f"{theta:g}°" for theta in _THETA],
            torch.cat([_shape(gamma=3.0, theta=theta) for theta in _THETA]),
        ),
        (
            "angle of U\n(gamma 2,\np 16)",
            [f"{angle:g}°" for angle in _LEFT],
            torch.cat([_shape(p=16.0, gamma=2.0, left=angle) for angle in _LEFT]),
        ),
    ]
    figure = Figure(figsize=(PICTURE_WIDTH, 5.6), layout="constrained")
    grid = figure.subplots(len(rows), len(_P))
    for line, (label, values, masks) in zip(grid, rows, strict=True):
        for axes, value, mask in zip(line, values, masks, strict=True):
            _draw_shape(axes, mask[0], value)
        line[0].set_ylabel(label, fontsize=10)
    figure.suptitle("One number changes in each row", fontsize=11)
    write_figure(path, figure)


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
    for index, mask in enumerate(masks):
        top, left = index // columns * height, index % columns * width
        array[top : top + height - gap, left : left + width - gap] = mask
    return array


def _order(layer: LayerMasks) -> list[int]:
    return [0] if layer.are_alike else layer.radius_in_kernel.argsort(stable=True).tolist()


def _shortened(fqn: str) -> str:
    """Return a layer's name without as many of its first parts as do not fit above its masks."""
    parts = fqn.split(".")
    while len(parts) > 1 and len(".".join(parts)) > _NAME_WIDTH:
        del parts[0]
    name = ".".join(parts)
    return name if name == fqn else f"...{name}"


def _draw_layer(axes: Any, layer: LayerMasks, order: Sequence[int]) -> None:
    shown = layer.pick(evenly(order, _MAX_MASKS))
    line = summarize([layer])
    count = f"{len(layer):,} masks" if len(order) == len(shown) else f"{len(shown)} of {len(layer):,} masks"
    count += ", all alike" if len(order) < len(layer) else ""
    axes.imshow(mosaic(shown.mask(), _MASK_COLUMNS).numpy(), cmap="magma", vmin=0, vmax=1, interpolation="none")
    axes.set_anchor("NW")
    numbers = f"{line.kernel}, {count}\np {line.p_median:.2f}, gamma {line.gamma:.2f}"
    axes.set_title(_shortened(layer.fqn), fontsize=10, fontweight="bold", loc="left", pad=30)
    axes.text(0, 1.02, numbers, transform=axes.transAxes, fontsize=10, va="bottom")


def _shape(p: float = 2.0, scale: float = 1.0, gamma: float = 1.0, theta: float = 0.0, left: float = 0.0) -> Tensor:
    cos, sin = math.cos(math.radians(left)), math.sin(math.radians(left))
    left_matrix = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    C = left_matrix @ conformation_matrix(_SHAPE_ALPHA * scale, gamma, theta)
    return lp_mask(C, torch.tensor([math.log2(p)], dtype=torch.float64), (_SHAPE_SIZE, _SHAPE_SIZE))


def _draw_shape(axes: Any, mask: Tensor, title: str) -> None:
    axes.imshow(mask.numpy(), cmap="magma", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
