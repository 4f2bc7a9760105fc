"""The taps at which masks, or kernels, are not 0."""

from typing import NamedTuple

import torch
from torch import Tensor

from .runtime import ONEDNN_CHANNELS
from .window import Window


def support(kernel: Tensor) -> Window:
    """Return the smallest window outside of which every kernel is 0; NaN counts as not 0.

    Args:
        kernel: Kernels or masks, shape `(O, I, Kh, Kw)`.
    """
    magnitudes = kernel.detach().abs().amax(dim=(0, 1))
    return Window(*_extent(magnitudes.amax(dim=1).tolist()), *_extent(magnitudes.amax(dim=0).tolist()))


def _extent(magnitudes: list[float]) -> tuple[int, int]:
    alive = [i for i, magnitude in enumerate(magnitudes) if magnitude != 0]
    return (alive[0], alive[-1] + 1) if alive else (0, len(magnitudes))


class Reach(NamedTuple):
    """The taps where the masks of a layer are not 0.

    Attributes:
        support: The window outside of which every mask is 0.
        inner: The window outside of which all masks are 0 but those of the outlier channels.
        num_outliers: Number of outlier channels; 0 if `inner` is `support`.
    """

    support: Window
    inner: Window
    num_outliers: int


@torch.no_grad()
def reach_of(mask: Tensor) -> tuple[Reach, Tensor | None]:
    """Return how far masks reach, and the outlier channels.

    Outlier channels are convolved a second time, with their outer taps. They are chosen so that the fewest taps are
    convolved in all. A mask has the same values at opposite taps, so its first tap that is not 0 tells its last one.

    Args:
        mask: Masks, shape `(O, 1, Kh, Kw)`; NaN counts as not 0.

    Returns:
        The reach, and the indices of the outlier channels, shape `(num_outliers,)`, or None if there are none.
    """
    out_channels, _, height, width = mask.shape
    if mask.amin() > 0:
        whole = Window(0, height, 0, width)
        return Reach(whole, whole, 0), None
    nonzero = mask.squeeze(1) != 0
    tops, lefts = _first_nonzero(nonzero.any(dim=2)), _first_nonzero(nonzero.any(dim=1))
    top, left = int(tops.amin()), int(lefts.amin())
    support = _symmetric_window(top, left, height, width)
    if top == tops.amax() and left == lefts.amax():
        return Reach(support, support, 0), None

    # For each first tap of an inner window: how many channels lie within, and what all taps cost.
    size = ((height + 1) // 2, (width + 1) // 2)
    counts = torch.bincount(tops * size[1] + lefts, minlength=size[0] * size[1]).view(size)
    within = counts.flip(0, 1).cumsum(0).cumsum(1).flip(0, 1)
    outliers = (out_channels - within + ONEDNN_CHANNELS - 1) // ONEDNN_CHANNELS * ONEDNN_CHANNELS
    rows, columns = (torch.arange(extent, device=mask.device) for extent in size)
    taps = (height - 2 * rows)[:, None] * (width - 2 * columns)
    cost = out_channels * taps + outliers * taps[top, left]
    top, left = divmod(int(cost.argmin()), size[1])
    outlier_channels = ((tops < top) | (lefts < left)).nonzero().flatten()
    reach = Reach(support, _symmetric_window(top, left, height, width), len(outlier_channels))
    return reach, outlier_channels if len(outlier_channels) else None


def _first_nonzero(nonzero: Tensor) -> Tensor:
    """Return the first tap that is not 0 along an axis, the middle one if all are 0; shape `(O, taps)` to `(O,)`."""
    return torch.where(nonzero.any(dim=1), nonzero.byte().argmax(dim=1), (nonzero.shape[1] - 1) // 2)


def _symmetric_window(top: int, left: int, height: int, width: int) -> Window:
    return Window(top, height - top, left, width - left)
