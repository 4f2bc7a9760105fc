"""The taps of a kernel that a convolution needs: those that are not 0 and meet a pixel of the input."""

from typing import NamedTuple

import torch
from torch import Tensor

from .plain import Geometry
from .runtime import ONEDNN_CHANNELS


class Window(NamedTuple):
    """A range of a kernel's taps: rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.bottom - self.top, self.right - self.left

    def crop(self, kernel: Tensor) -> Tensor:
        """Return a view of a kernel, shape `(O, I, Kh, Kw)`, with these taps only."""
        if self.size == kernel.shape[2:]:
            return kernel
        return kernel[..., self.top : self.bottom, self.left : self.right]


def output_size(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Return `(H', W')` of the output for an input of size `(H, W)`; not positive where the kernel does not fit."""
    return tuple(
        (extent + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for extent, taps, stride, padding, dilation in zip(size, kernel_size, *geometry[:3], strict=True)
    )


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


def needed_window(size: tuple[int, ...], within: Window, kernel_size: tuple[int, ...], geometry: Geometry) -> Window:
    """Return the taps that have to be convolved; the others add only products with 0.

    On a small map, a tap far from the centre of a large kernel meets only padding.

    Args:
        size: `(H, W)` of the input, pixels.
        within: The window outside of which the kernel is 0.
        kernel_size: `(Kh, Kw)`, pixels.
        geometry: Geometry of the convolution with the whole kernel.

    Returns:
        A window that `cropped_geometry` can convolve to an output of the same size.
    """
    extents = ((within.top, within.bottom), (within.left, within.right))
    arguments = zip(size, kernel_size, *geometry[:3], extents, strict=True)
    (top, bottom), (left, right) = (_needed_extent(*argument) for argument in arguments)
    return Window(top, bottom, left, right)


def cropped_geometry(window: Window, geometry: Geometry) -> Geometry:
    """Return the geometry in which a window's taps meet the pixels that they meet in the whole kernel."""
    starts = (window.top, window.left)
    padding = (p - d * start for p, d, start in zip(geometry.padding, geometry.dilation, starts, strict=True))
    return geometry._replace(padding=tuple(padding))


def _needed_extent(
    size: int, taps: int, stride: int, padding: int, dilation: int, within: tuple[int, int]
) -> tuple[int, int]:
    """Return the needed taps along one axis.

    Tap t meets the pixels `t * dilation - padding + stride * i`. Both sides get the same padding, so several ranges may
    keep the output's size; this takes the one that starts last.
    """
    reach = (size + 2 * padding - dilation * (taps - 1) - 1) // stride * stride
    first = max(within[0], -((reach - padding) // dilation))
    stop = min(within[1], (size - 1 + padding) // dilation + 1)
    for start in range(min(first, padding // dilation), 0, -1):
        room = size + 2 * (padding - dilation * start) - 1 - reach
        fewest, most = (room - stride) // dilation + 2, room // dilation + 1
        count = max(stop - start, fewest, 1)
        if count <= min(most, taps - start):
            return start, start + count
    fewest = (size + 2 * padding - 1 - reach - stride) // dilation + 2
    return 0, max(stop, fewest, 1)


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
