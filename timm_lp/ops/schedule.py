"""How to convolve inputs of one size with a masked kernel: which taps, with which operators, in which blocks."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from .masked_kernel import Range, block_ranges
from .operators import Operators, choose_operators
from .reach import Reach
from .window import Geometry, Window, cropped_geometry, needed_window, output_size

_WORTH_A_CONVOLUTION = 2**24  # multiplications; fewer take less time than starting another convolution


class Part(NamedTuple):
    """One of the convolutions that are added up, with some of the kernel's taps.

    Attributes:
        window: The taps.
        all_ones: Whether the mask is 1 at all of them.
        geometry: Geometry of the convolution with these taps.
        operators: The operators that convolve them.
        ranges: Ranges of the blocks of the masked kernel.
        gradient_ranges: Ranges of the blocks of its gradient.
        kernel_format: Memory format of the masked kernel.
    """

    window: Window
    all_ones: bool
    geometry: Geometry
    operators: Operators
    ranges: tuple[Range, ...]
    gradient_ranges: tuple[Range, ...]
    kernel_format: torch.memory_format


class Schedule(NamedTuple):
    """How to convolve inputs of one size with a kernel and its mask.

    Attributes:
        geometry: Geometry of the convolution with the whole kernel.
        dtype: Dtype of the convolution, and of the blocks of the masked kernel.
        output_format: Memory format of the output, and of the input's gradient.
        main: The convolution of all output channels.
        outliers: The convolution of the outlier channels, in which only the taps outside of `main.window` count; None
            if `main` has every tap.
    """

    geometry: Geometry
    dtype: torch.dtype
    output_format: torch.memory_format
    main: Part
    outliers: Part | None

    @property
    def parts(self) -> list[Part]:
        """The one or two parts."""
        return [self.main] if self.outliers is None else [self.main, self.outliers]


@lru_cache(maxsize=4096)
def make_schedule(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    reach: Reach,
    all_ones: bool,
    geometry: Geometry,
    dtype: torch.dtype,
    *,
    input_last: bool,
    kernel_last: bool,
) -> Schedule:
    """Return the schedule.

    Args:
        size: Size of the input, `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        reach: Reach of the masks.
        all_ones: Whether all masks are 1 in `reach.inner`.
        geometry: Geometry of the convolution with the whole kernel.
        dtype: Dtype of the convolution.
        input_last: Whether the input is in channels_last.
        kernel_last: Whether the kernel is in channels_last.
    """
    channels_last = input_last or kernel_last
    output_format = torch.channels_last if channels_last else torch.contiguous_format

    def part(within: Window, out_channels: int) -> Part:
        window = needed_window(size[2:], within, shape[2:], geometry)
        cropped = cropped_geometry(window, geometry)
        needed = (out_channels, shape[1], *window.size)
        strided = kernel_last or window.size != shape[2:]
        operators = choose_operators(size, needed, cropped, dtype, strided=strided, channels_last=channels_last)
        return Part(
            window,
            all_ones and _is_within(window, reach.inner),
            cropped,
            operators,
            block_ranges(out_channels, window.size[0], operators.block),
            block_ranges(out_channels, window.size[0], operators.gradient_block),
            operators.memory_format or output_format,
        )

    whole = part(reach.support, shape[0])
    if reach.num_outliers and geometry.groups == 1:
        main, outliers = part(reach.inner, shape[0]), part(reach.support, reach.num_outliers)
        positions = size[0] * math.prod(output_size(size[2:], shape[2:], geometry))
        saved_taps = shape[0] * (math.prod(whole.window.size) - math.prod(main.window.size))
        added_taps = reach.num_outliers * math.prod(outliers.window.size)
        if positions * shape[1] * (saved_taps - added_taps) > _WORTH_A_CONVOLUTION:
            return Schedule(geometry, dtype, output_format, main, outliers)
    return Schedule(geometry, dtype, output_format, whole, None)


def _is_within(inner: Window, outer: Window) -> bool:
    rows = outer.top <= inner.top and inner.bottom <= outer.bottom
    return rows and outer.left <= inner.left and inner.right <= outer.right
