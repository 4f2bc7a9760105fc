"""The taps of a kernel that a convolution needs: those that meet a pixel, and that are not 0."""

from functools import lru_cache
from typing import NamedTuple

from torch import Tensor


class Geometry(NamedTuple):
    """Where a convolution puts its kernel; each as in `nn.Conv2d`, with the zero padding in pixels."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class Window(NamedTuple):
    """A range of a kernel's taps along its height and width."""

    rows: slice
    columns: slice

    def crop(self, kernel: Tensor) -> Tensor:
        """Return the view of a kernel, shape `(O, I, Kh, Kw)`, that has these taps only."""
        return kernel[..., self.rows, self.columns]


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
    return Window(*(_extent(magnitudes.amax(dim=axis).tolist()) for axis in (1, 0)))


def _extent(magnitudes: list[float]) -> slice:
    alive = [i for i, magnitude in enumerate(magnitudes) if magnitude != 0]
    return slice(alive[0], alive[-1] + 1) if alive else slice(0, len(magnitudes))


def needed_window(size: tuple[int, ...], within: Window, kernel_size: tuple[int, ...], geometry: Geometry) -> Window:
    """Return the taps that have to be convolved, so that nothing but products with 0 is left out.

    A tap that meets only padding, as those far from the centre of a large kernel do on a small map, adds nothing.

    Args:
        size: `(H, W)` of the input, pixels.
        within: Taps outside of it are 0.
        kernel_size: `(Kh, Kw)`, pixels.
        geometry: Of the convolution with the whole kernel.

    Returns:
        A window that `cropped_geometry` can convolve to an output of the same size.
    """
    rows, columns = (
        _needed_extent(size[i], kernel_size[i], *(values[i] for values in geometry[:3]), extent.start, extent.stop)
        for i, extent in enumerate(within)
    )
    return Window(rows, columns)


def cropped_geometry(window: Window, geometry: Geometry) -> Geometry:
    """Return the geometry in which a window's taps meet the pixels that they meet in the whole kernel."""
    starts = (window.rows.start, window.columns.start)
    padding = (p - d * start for p, d, start in zip(geometry.padding, geometry.dilation, starts, strict=True))
    return geometry._replace(padding=tuple(padding))


@lru_cache(maxsize=4096)
def _needed_extent(size: int, taps: int, stride: int, padding: int, dilation: int, first: int, stop: int) -> slice:
    """Return the needed taps along one axis.

    Tap t meets the pixels `t * dilation - padding + stride * i`. Both sides get the same padding, so there may be more
    than one way to keep the output's size; the one that starts last is taken.
    """
    reach = (size + 2 * padding - dilation * (taps - 1) - 1) // stride * stride
    first = max(first, -((reach - padding) // dilation))
    stop = min(stop, (size - 1 + padding) // dilation + 1)
    for start in range(min(first, padding // dilation), 0, -1):
        room = size + 2 * (padding - dilation * start) - 1 - reach
        fewest, most = (room - stride) // dilation + 2, room // dilation + 1
        count = max(stop - start, fewest, 1)
        if count <= min(most, taps - start):
            return slice(start, start + count)
    fewest = (size + 2 * padding - 1 - reach - stride) // dilation + 2
    return slice(0, max(stop, fewest, 1))
