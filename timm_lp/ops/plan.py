"""How to convolve an input of one size with a masked kernel: which taps, by what, in which order."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from .operators import Operators, choose_operators
from .reach import Reach
from .slices import slices
from .window import Geometry, Window, cropped_geometry, needed_window, output_size

_WORTH_A_CONVOLUTION = 2**24  # multiplications that take longer than to convolve once more


class Part(NamedTuple):
    """Some taps, and how to convolve with them.

    Attributes:
        window: The taps.
        is_one: Whether the mask is 1 there.
        geometry: Of the convolution with these taps.
        operators: What convolves them.
        blocks: Ranges of output channels to convolve one after the other.
        kernel_format: Memory format of the masked kernel.
    """

    window: Window
    is_one: bool
    geometry: Geometry
    operators: Operators
    blocks: tuple[slice, ...]
    kernel_format: torch.memory_format


class Plan(NamedTuple):
    """How to convolve an input of one size with a kernel and mask.

    Attributes:
        geometry: Of the convolution with the whole kernel.
        output_format: Memory format of the output, and of the input's gradient.
        main: Taps that all channels have.
        rest: Taps of the wide channels, of which only those outside of `main.window` count; None where all count.
    """

    geometry: Geometry
    output_format: torch.memory_format
    main: Part
    rest: Part | None

    @property
    def parts(self) -> list[Part]:
        """The parts that there are."""
        return [self.main] if self.rest is None else [self.main, self.rest]


@lru_cache(maxsize=4096)
def make_plan(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    reach: Reach,
    is_one: bool,
    geometry: Geometry,
    *,
    input_last: bool,
    kernel_last: bool,
) -> Plan:
    """Return the plan.

    Args:
        size: Size of the input, `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        reach: Of the masks.
        is_one: Whether all of them are 1 in `reach.inner`.
        geometry: Of the convolution with the whole kernel.
        input_last: Whether the input is in channels_last.
        kernel_last: Whether the kernel is.
    """
    channels_last = input_last or kernel_last
    output_format = torch.channels_last if channels_last else torch.contiguous_format

    def part(within: Window, out_channels: int) -> Part:
        window = needed_window(size[2:], within, shape[2:], geometry)
        cropped = cropped_geometry(window, geometry)
        needed = (out_channels, shape[1], *window.size)
        strided = kernel_last or window.size != shape[2:]
        operators = choose_operators(size, needed, cropped, strided=strided, channels_last=channels_last)
        return Part(
            window,
            is_one and _is_within(window, reach.inner),
            cropped,
            operators,
            tuple(slices(out_channels, operators.block)),
            operators.memory_format or output_format,
        )

    whole = part(reach.support, shape[0])
    if reach.num_wide and geometry.groups == 1:
        main, rest = part(reach.inner, shape[0]), part(reach.support, reach.num_wide)
        positions = size[0] * math.prod(output_size(size[2:], shape[2:], geometry))
        taps = shape[0] * (math.prod(whole.window.size) - math.prod(main.window.size))
        more = reach.num_wide * math.prod(rest.window.size)
        if positions * shape[1] * (taps - more) > _WORTH_A_CONVOLUTION:
            return Plan(geometry, output_format, main, rest)
    return Plan(geometry, output_format, whole, None)


def _is_within(inner: Window, outer: Window) -> bool:
    rows = outer.top <= inner.top and inner.bottom <= outer.bottom
    return rows and outer.left <= inner.left and inner.right <= outer.right
