"""How far the masks of a layer reach, and which few of them reach further than the rest."""

from typing import NamedTuple

import torch
from torch import Tensor

from .window import Window

_BLOCK_CHANNELS = 16  # in which oneDNN convolves


class Reach(NamedTuple):
    """Which taps the masks of a layer leave.

    Attributes:
        support: The window outside of which every mask is 0.
        inner: The window outside of which all but the wide channels' masks are 0.
        num_wide: Number of wide channels; 0 where `inner` is `support`.
    """

    support: Window
    inner: Window
    num_wide: int


@torch.no_grad()
def reach_of(mask: Tensor) -> tuple[Reach, Tensor | None]:
    """Return how far masks reach, and the wide channels.

    Their number is the one that leaves the fewest taps, if the wide channels' outer taps are convolved by themselves.
    A mask has the same values at opposite taps, so its first tap that is not 0 tells its last one.

    Args:
        mask: Masks, shape `(O, 1, Kh, Kw)`; NaN counts as not 0.

    Returns:
        The reach, and the wide channels' numbers, shape `(num_wide,)`, or None where there are none.
    """
    out_channels, _, height, width = mask.shape
    if mask.amin() > 0:
        whole = Window(0, height, 0, width)
        return Reach(whole, whole, 0), None
    alive = mask.squeeze(1) != 0
    tops, lefts = _first(alive.any(dim=2)), _first(alive.any(dim=1))
    top, left = int(tops.amin()), int(lefts.amin())
    support = _window(top, left, height, width)
    if top == tops.amax() and left == lefts.amax():
        return Reach(support, support, 0), None

    size = ((height + 1) // 2, (width + 1) // 2)
    counts = torch.bincount(tops * size[1] + lefts, minlength=size[0] * size[1]).view(size)
    narrow = counts.flip(0, 1).cumsum(0).cumsum(1).flip(0, 1)  # channels whose first taps are there or further in
    blocks = (out_channels - narrow + _BLOCK_CHANNELS - 1) // _BLOCK_CHANNELS
    rows, columns = (torch.arange(extent, device=mask.device) for extent in size)
    taps = (height - 2 * rows)[:, None] * (width - 2 * columns)
    cost = out_channels * taps + _BLOCK_CHANNELS * blocks * taps[top, left]
    top, left = divmod(int(cost.argmin()), size[1])
    wide = ((tops < top) | (lefts < left)).nonzero().flatten()
    return Reach(support, _window(top, left, height, width), len(wide)), wide if len(wide) else None


def _first(alive: Tensor) -> Tensor:
    """Return the first tap that is not 0 along an axis, the middle one where all are; shape `(O, taps)` to `(O,)`."""
    return torch.where(alive.any(dim=1), alive.byte().argmax(dim=1), (alive.shape[1] - 1) // 2)


def _window(top: int, left: int, height: int, width: int) -> Window:
    return Window(top, height - top, left, width - left)
