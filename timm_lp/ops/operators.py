"""The operators that convolve on CPUs, and the one rule that chooses among them: `RULE`, at the end.

All operators that fit a convolution compute the same and differ in speed. The measured times are in
`timm_lp/bench/README.md`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import dense, depthwise, matmul, pointwise, taps
from .masked_kernel import Block, Range
from .runtime import ONEDNN_CHANNELS, computes_in_bfloat16, memory_format_of
from .window import Geometry, output_size


class Operators(NamedTuple):
    """A function that convolves, and the functions that compute its gradients.

    A kernel comes in blocks, each a range of output channels and rows and the kernel there. So does its gradient. Each
    function gets the shape of the whole kernel, `(O, I, Kh, Kw)`.

    Attributes:
        convolve: `(input, blocks, bias, shape, geometry)` to the output.
        input_gradient: `(grad_output, blocks, size of the input, shape, geometry)` to the input's gradient.
        kernel_gradient: `(input, grad_output, shape, ranges, geometry)` to the kernel's gradient, block by block.
        block: Output channels and rows of a block.
        gradient_block: Output channels and rows of a block of the kernel's gradient.
        memory_format: Memory format of the kernel, if the operators need one.
    """

    convolve: Callable[[Tensor, Iterable[Block], Tensor | None, tuple[int, ...], Geometry], Tensor]
    input_gradient: Callable[[Tensor, Iterable[Block], tuple[int, ...], tuple[int, ...], Geometry], Tensor]
    kernel_gradient: Callable[[Tensor, Tensor, tuple[int, ...], Iterable[Range], Geometry], Iterator[Tensor]]
    block: tuple[int, int]
    gradient_block: tuple[int, int]
    memory_format: torch.memory_format | None = None


@dataclass(frozen=True)
class Case:
    """A convolution on the CPU, as the rule sees it.

    Attributes:
        size: Size of the input, `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        geometry: Geometry of the convolution.
        dtype: Dtype of the convolution.
        strided: Whether the kernel's rows of taps lie apart in memory, as in a cropped or a channels_last kernel.
        channels_last: Whether the input or the kernel is in channels_last.
    """

    size: tuple[int, ...]
    shape: tuple[int, ...]
    geometry: Geometry
    dtype: torch.dtype
    strided: bool
    channels_last: bool

    @property
    def num_taps(self) -> int:
        """Taps of the kernel."""
        return math.prod(self.shape[2:])

    @property
    def numbers(self) -> int:
        """Numbers of a tap."""
        return math.prod(self.shape[:2])

    @property
    def pixels(self) -> int:
        """Pixels of the output of one image."""
        return math.prod(output_size(self.size[2:], self.shape[2:], self.geometry))

    @property
    def positions(self) -> int:
        """Positions in the outputs of all images."""
        return self.size[0] * self.pixels

    @property
    def share_of_taps(self) -> float:
        """Share of the kernel's taps that meet a pixel, over all positions."""
        return taps.share_of_taps(self.size[2:], self.shape[2:], self.geometry)

    @property
    def num_blocks(self) -> int:
        """Blocks of output channels that a dense kernel comes in."""
        return math.ceil(math.prod(self.shape) * self.dtype.itemsize / _BLOCK_BYTES)

    @property
    def whole(self) -> tuple[int, int]:
        """All output channels and rows, as one block."""
        return self.shape[0], self.shape[2]

    @property
    def block(self) -> tuple[int, int]:
        """Output channels and rows of a block; all of them for a kernel in groups."""
        if self.geometry.groups > 1:
            return self.whole
        channels = math.ceil(self.shape[0] / self.num_blocks / ONEDNN_CHANNELS) * ONEDNN_CHANNELS
        if self.num_taps > _MANY_TAPS:
            channels = max(channels, _MANY_TAPS_CHANNELS)
        return channels, self.shape[2]

    @property
    def block_of_taps(self) -> tuple[int, int]:
        """Output channels and rows of a block for `taps`: the rows of a contiguous kernel are too short to be one."""
        return (self.shape[0], 1) if self.channels_last else self.block


_BLOCK_BYTES = 13 * 2**20  # a larger masked kernel would not stay in the cache until it is convolved
_MANY_TAPS, _MANY_TAPS_CHANNELS = 49, 128  # of kernels with more taps, oneDNN is slow on blocks of fewer channels


def _is_depthwise(case: Case) -> bool:
    return case.geometry.groups == case.shape[0] == case.size[1]


_SMALL_KERNEL = 3  # pixels of a kernel whose gradient torch computes fast


def _depthwise(case: Case) -> Operators:
    kernel_size, padding = case.shape[2:], depthwise.flipped_padding(case.shape[2:], case.geometry)
    return Operators(
        partial(depthwise.convolve, memory_format=_depthwise_format(case, case.geometry.padding)),
        partial(depthwise.input_gradient, memory_format=_depthwise_format(case, padding)),
        depthwise.kernel_gradient if max(kernel_size) > _SMALL_KERNEL else dense.kernel_gradient,
        case.whole,
        case.whole,
    )


_CONTIGUOUS_PADDING = 6  # pixels; oneDNN is slow in the contiguous format if it has to pad by more
_CHANNELS_LAST_KERNEL = 9  # pixels; smaller kernels are as fast in channels_last, without a conversion


def _depthwise_format(case: Case, padding: tuple[int, ...]) -> torch.memory_format:
    """Return the memory format in which oneDNN is fast; the input's own format if it is fast in both."""
    if case.channels_last or max(padding) > _CONTIGUOUS_PADDING:
        return torch.channels_last
    fast_in_both = case.dtype is torch.bfloat16 or max(case.shape[2:]) <= _CHANNELS_LAST_KERNEL
    return torch.preserve_format if fast_in_both else torch.contiguous_format


def _has_groups(case: Case) -> bool:
    return case.geometry.groups > 1


_LARGE_KERNEL_TAPS = 196  # of kernels with more taps, oneDNN's gradient is slow in the contiguous format
_CHANNELS_LAST_CHANNELS, _CHANNELS_LAST_PIXELS = 64, 28  # fewer are not worth the conversion to channels_last


def _by_torch(case: Case) -> Operators:
    """Return torch's own operators, in channels_last where oneDNN is faster in it."""
    is_large = case.num_taps > _LARGE_KERNEL_TAPS and case.dtype is torch.float32
    worth_it = case.size[1] >= _CHANNELS_LAST_CHANNELS and min(case.size[2:]) >= _CHANNELS_LAST_PIXELS
    if not (is_large and worth_it):
        return Operators(dense.convolve, dense.input_gradient, dense.kernel_gradient, case.block, case.block)
    kernel_gradient = partial(dense.kernel_gradient, memory_format=torch.channels_last)
    return Operators(dense.convolve, dense.input_gradient, kernel_gradient, case.block, case.block, torch.channels_last)


_POINTWISE_PIXELS = 64  # on smaller maps, the products of one image are too small


def _is_pointwise(case: Case) -> bool:
    has_one_tap = case.num_taps == 1 and case.geometry.stride == (1, 1) and case.geometry.padding == (0, 0)
    is_fast = not case.channels_last and case.dtype is not torch.bfloat16 and case.pixels >= _POINTWISE_PIXELS
    return has_one_tap and is_fast


def _pointwise(case: Case) -> Operators:
    return Operators(pointwise.convolve, pointwise.input_gradient, pointwise.kernel_gradient, case.block, case.block)


def _has_few_positions(case: Case) -> bool:
    """Tell whether a product of all taps moves fewer numbers (a row for each position) than oneDNN (the kernel)."""
    return 2 * case.positions <= case.shape[0]


_TAP_NUMBERS, _TAP_PRODUCTS = 2**14, 2**22  # a tap of fewer numbers, or with fewer products, is too small a matrix
_LARGE_KERNEL_NUMBERS = 2**10  # the same for large kernels, of which oneDNN's gradient is slow
_MOST_TAPS_OF_A_CONTIGUOUS_KERNEL = 0.5  # above this share of taps that meet pixels, copying the kernel takes too long
_MOST_TAPS_OF_FEW_POSITIONS = 0.6  # above this share of taps that meet pixels, `matmul` is faster than `taps`


def _meets_few_pixels(case: Case) -> bool:
    most = _most_taps(case)[0]
    return case.share_of_taps <= (min(most, _MOST_TAPS_OF_FEW_POSITIONS) if _has_few_positions(case) else most)


def _gradient_meets_few_pixels(case: Case) -> bool:
    return case.share_of_taps <= _most_taps(case)[1]


def _most_taps(case: Case) -> tuple[float, float]:
    """Return the shares of taps that meet pixels up to which `taps` is the fastest; larger taps have larger ones.

    Returns:
        The share for the output and the input's gradient, and the share for the kernel's gradient.
    """
    is_large, numbers = case.num_taps > _LARGE_KERNEL_TAPS, case.numbers
    fewest = _LARGE_KERNEL_NUMBERS if is_large else _TAP_NUMBERS
    if case.dtype is torch.bfloat16 or numbers < fewest or numbers * case.positions < _TAP_PRODUCTS:
        return 0.0, 0.0
    if is_large:
        return 0.8 if numbers >= _TAP_NUMBERS else 0.0, 1.0
    most, most_of_gradient = 0.5, 0.5
    if numbers >= 8 * _TAP_NUMBERS:
        most, most_of_gradient = 0.8, 0.9
    elif max(case.geometry.stride) > 1:
        most, most_of_gradient = 0.65, 0.65
    elif numbers >= 4 * _TAP_NUMBERS:
        most, most_of_gradient = 0.75 if case.num_blocks > 1 else 0.6, 0.75
    if not case.channels_last:
        most = most_of_gradient = min(most, _MOST_TAPS_OF_A_CONTIGUOUS_KERNEL) if case.num_blocks == 1 else 0.0
    return most, most_of_gradient


def _tap_by_tap(case: Case) -> Operators:
    block = case.block_of_taps
    return Operators(taps.convolve, taps.input_gradient, taps.kernel_gradient, block, block, torch.channels_last)


def _gradient_tap_by_tap(case: Case) -> Operators:
    return _by_torch(case)._replace(kernel_gradient=taps.kernel_gradient, gradient_block=case.block_of_taps)


def _gains_in_the_gradient_alone(case: Case) -> bool:
    """Tell whether a product of all taps is faster for the kernel's gradient, but not for the rest."""
    onednn_is_fast = case.dtype is torch.bfloat16 or not (case.channels_last or case.strided)
    return _has_few_positions(case) and onednn_is_fast


def _gradient_as_product(case: Case) -> Operators:
    kernel_gradient = _product_of_all_taps(case).kernel_gradient
    return Operators(dense.convolve, dense.input_gradient, kernel_gradient, case.block, case.block)


def _product_of_all_taps(case: Case) -> Operators:
    # Rows of taps that lie apart are too short to be copied one by one.
    memory_format = torch.channels_last if case.strided else torch.contiguous_format
    return Operators(
        partial(matmul.convolve, memory_format=memory_format),
        partial(matmul.input_gradient, memory_format=memory_format),
        partial(matmul.kernel_gradient, memory_format=memory_format),
        case.block,
        case.block,
        memory_format,
    )


# When, and with which operators: the first that holds.
RULE: tuple[tuple[Callable[[Case], bool], Callable[[Case], Operators]], ...] = (
    (_is_depthwise, _depthwise),
    (_has_groups, _by_torch),
    (_is_pointwise, _pointwise),
    (_meets_few_pixels, _tap_by_tap),
    (_gains_in_the_gradient_alone, _gradient_as_product),
    (_has_few_positions, _product_of_all_taps),
    (_gradient_meets_few_pixels, _gradient_tap_by_tap),
    (lambda case: True, _by_torch),
)


def choose_operators(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    geometry: Geometry,
    dtype: torch.dtype,
    *,
    strided: bool,
    channels_last: bool,
) -> Operators:
    """Return the fastest operators for a convolution on the CPU; the arguments are those of `Case`."""
    case = Case(size, shape, geometry, dtype, strided, channels_last)
    return next(operators(case) for holds, operators in RULE if holds(case))


def torch_is_fast(input: Tensor) -> bool:
    """Tell whether torch's own convolution is the fastest way to convolve an input with single taps."""
    if type(input) is not Tensor or torch.compiler.is_exporting() or input.dim() != 4 or input.stride(1) != 1:
        return False
    return not torch.is_autocast_enabled("cpu") or computes_in_bfloat16()


_FEW_NUMBERS = 2**20  # of a kernel that takes less time to mask than to move in blocks


def few_operations_are_fast(input: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Tell whether a small layer trains sooner by torch's own operators, with fewer operations before and after."""
    if weight.numel() > _FEW_NUMBERS or input.dtype is torch.bfloat16:
        return False
    channels_last = memory_format_of(input, weight) is torch.channels_last
    return _has_gradient_of_torch(tuple(input.shape), tuple(weight.shape), geometry, input.dtype, channels_last)


@lru_cache(maxsize=4096)
def _has_gradient_of_torch(
    size: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry, dtype: torch.dtype, channels_last: bool
) -> bool:
    operators = choose_operators(size, shape, geometry, dtype, strided=channels_last, channels_last=channels_last)
    return math.prod(shape[2:]) > 1 and operators.kernel_gradient is dense.kernel_gradient
