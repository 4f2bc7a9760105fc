"""The taps of a kernel that a convolution needs, as arithmetic with sizes: those that meet a pixel of the input."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """The arguments of `nn.Conv2d` that say where its kernel meets the input; `padding` counts zeros on each side."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


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


def pixel_window(input: Tensor, weight: Tensor, geometry: Geometry) -> Window:
    """Return the taps of a kernel that meet a pixel of an input; all of them where the input's size is a symbol.

    Args:
        input: Input, shape `(..., H, W)`.
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        geometry: Geometry of the convolution with the whole kernel.
    """
    size, kernel_size = tuple(input.shape[-2:]), tuple(weight.shape[2:])
    if not _is_fixed(size):
        return Window(0, kernel_size[0], 0, kernel_size[1])
    find = _pixel_window if torch.compiler.is_dynamo_compiling() else _kept_pixel_window
    return find(size, kernel_size, geometry)


def _pixel_window(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> Window:
    whole = Window(0, kernel_size[0], 0, kernel_size[1])
    fits = min(output_size(size, kernel_size, geometry)) > 0
    return needed_window(size, whole, kernel_size, geometry) if fits else whole


_kept_pixel_window = lru_cache(maxsize=4096)(_pixel_window)  # torch.compile would not keep it


def _is_fixed(size: tuple[int, ...]) -> bool:
    """Tell whether a size is one of numbers, not of symbols that stand for any number in a trace."""
    if torch.compiler.is_dynamo_compiling():
        from torch.fx.experimental import symbolic_shapes

        has_static_value = getattr(symbolic_shapes, "has_static_value", None)  # not yet in torch 2.7
        return has_static_value is not None and all([has_static_value(extent) for extent in size])
    return all(type(extent) is int for extent in size)


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
    stride, padding, dilation, groups = geometry
    starts = (window.top, window.left)
    cropped = tuple(p - d * start for p, d, start in zip(padding, dilation, starts, strict=True))
    return Geometry(stride, cropped, dilation, groups)


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
