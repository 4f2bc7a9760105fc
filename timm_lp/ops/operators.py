"""The operators that convolve, and the one rule that chooses among them.

All operators that fit a convolution compute the same; they differ in speed. The rule follows from these times on two
cores with AVX-512 (torch 2.14 and 2.15, float32, milliseconds; `python -m timm_lp.bench layers` measures them again):

- depthwise 15x15, 192 channels, 28x28, batch 2: forward 14.8 contiguous, 0.9 with both conversions to channels_last;
  31x31, 64 channels, 56x56: 108.6 and 3.7. oneDNN's contiguous kernel takes up to 6 pixels of padding, and is then
  the faster one where the kernel is large (13x13, 384 channels, 14x14: 0.34 and, in channels_last, 0.80).
- its input gradient by torch, and as a convolution with the flipped kernel: the same 13x13: 0.66 and 0.30; 5x5, 256
  channels, 14x14: 0.15 and 0.11.
- its kernel gradient: 31x31, 64 channels, 56x56: 171.9 by torch, 6.0 as a convolution; 7x7, 96 channels: 13.2 and 1.1.
- dense 7x7, 512 to 512 channels, 7x7, batch 4: the kernel gradient 44.3 by torch, 32 as a product of matrices; batch
  16: 90.6 and 122. In channels_last, 4x4 with stride 2, 384 to 768 channels, 14x14, batch 2: training 52.7 by torch,
  28.8 as products of matrices.
- lp2_resnet18, 224 px, batch 4, in blocks of 3, 7, 13 MiB of kernel and all at once, as fractions of the plain network
  with the same kernels: evaluation 0.92, 0.86, 0.86, 1.09; training 1.00, 0.93, 0.95, 1.10.

These are of one core with AVX-512 and its bfloat16 instructions, without AMX (torch 2.15, time of the thread):

- kernel gradient of a depthwise 11x11, 96 channels, 56x56, batch 4, channels_last: bfloat16 by torch 53, in float32 as
  a convolution 9. 3x3, 64 channels: float32 0.5 by torch, 8.6 as a convolution; bfloat16 0.3 and 8.2.
- the same 11x11 in bfloat16, forward: 4.1 in channels_last, 4.6 contiguous.
- dense 7x7, 512 to 512 channels, 7x7, batch 2, channels_last, bfloat16: forward 16.0 by oneDNN, 15.2 as a product of
  matrices; input gradient 19.4 and 24.5; kernel gradient 32.8 and 21.3.
- dense 15x15, 128 channels, 28x28, batch 4, kernel gradient in blocks of 16, 32, 64, 128 channels: 1421, 1018, 629,
  421; blocks of 16 in channels_last: 57761.
- without the bfloat16 instructions (`ONEDNN_MAX_CPU_ISA=AVX512_CORE`): dense 7x7, 128 channels, 28x28, batch 4, forward
  42 in float32, 116 in bfloat16; the depthwise 11x11 6 and 224. `masked_conv2d` then convolves in float32.

Where AMX is hidden, bfloat16 is the slower one, and `masked_conv2d` convolves in float32 too: 166 and 321 GFLOP/s in
products of matrices on two cores (torch 2.14.1); dense 7x7, channels_last, forward, input gradient, kernel gradient of
64 channels, 56x56, batch 8: 55 55 58 in bfloat16, 29 30 30 in float32; 256 channels, 14x14: 47 48 54, 25 26 40; 512
channels, 7x7: 39 43 103, 50 53 92. On one core there, batch 4, 96 channels, 56x56 where nothing else is said:

- depthwise in channels_last, kernels of 3, 5, 7, 9, 11, 13, 15 pixels: 0.5, 0.6, 1.3, 2.7, 5.3, 13.8, 5.7 in float32;
  0.8, 1.9, 3.5, 6.0, 9.5, 16.9, 16.5 in bfloat16.
- it is the width that makes 11 and 13 slow: 13 rows of 11, 13, 15 columns take 6.2, 13.5, 5.1; so columns of zeros are
  added (5x31, 155 taps: 3.8; 15x13, 195 taps: 16.4; 13x15: 5.1).
- 13x13 from channels_last by way of the contiguous format, and so widened: 11.6 and 5.0; 384 channels, 14x14: 1.69 and
  0.94; 768 channels, 7x7: 0.67 and 0.43.

On two cores there: forward, input gradient, kernel gradient of dense layers in channels_last, float32, by oneDNN, and a
tap at a time without those that meet padding (`taps`); the share of taps that meet a pixel comes first:

- 0.57: 7x7, 512 channels, 7x7, batch 8: 54 57 79, 25 23 37; batch 2: 27 30 57, 10 10 22; 256 channels, batch 4: 4.9 5.4
  5.8, 4.3 4.5 3.8; but 128 channels: 1.2 1.3 1.5, 2.0 2.2 1.7.
- 0.77: 7x7, 14x14, 512 channels, batch 4: 74 76 107, 57 60 73; 256 to 512 channels with stride 2, batch 8: 25 27 41, 18
  17 17; but 256 channels: 27 27 30, 29 32 33.
- 0.33: 7x7, 4x4, 256 channels, batch 128: 56 57 50, 19 18 20; batch 16: 8.6 9.2 13, 4.2 3.5 6.4; 128 channels, batch
  128: 9.3 9.8 8.6, 5.8 5.2 6.1; but 64 channels, on one core: 2.7 2.7 4.0, 4.3 4.0 4.1.
- 0.59 to 0.71: 256 channels, 14x14, batch 4: 13x13: 61 63 88, 43 46 55; 11x11: 42 38 63, 34 36 34; 9x9: 27 24 43, 25 26
  25.
- 0.82: 3x3, 512 channels, 7x7, batch 4: 3.5 3.7 5.1, 3.6 3.6 3.2.
- 0.66 to 0.75, 128 channels, 28x28, batch 4: 15x15: 86 83 192, 67 66 86; 21x21: 141 133 375, 116 113 150; 14x14: 78 72
  69, 66 61 78; 15x15, 64 channels: 20 20 68, 21 21 27.
- of few positions, beside a product of all taps: 7x7, 512 channels, 7x7, one image: 9 8 20, 9 10 19; 256 to 512
  channels with stride 2, 14x14: 5.2 4.5 9.4, 3.8 4.6 2.7.
- contiguous, where a kernel is copied twice: 7x7, 512 channels, 7x7, batch 4, training: 0.91 of torch's time either
  way.
- a contiguous dense 15x15, 128 channels, 28x28, batch 4, forward and both gradients: 93 297, in channels_last 83 271;
  21x21: 180 675, 140 531; 31x31: 446 1436, 443 1291; 21x21, 64 channels, 56x56: 210 957, 126 630; but 13x13: 58 112,
  65 126; and 15x15, 256 channels, 14x14: 83 358, 132 443. In 4 groups, 128 channels, 28x28, forward and all by torch:
  39 147 contiguous, 14 102 in channels_last.
- lp2_resnet18, 224 px, batch 8, channels_last, in blocks of 6 and 13 MiB and all at once: evaluation 1.08, 1.04, 1.02;
  training 0.99, 0.98, 1.17; batch 4 contiguous: 0.94, 0.93, 1.05; 1.16, 1.13, 1.37.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import dense, depthwise, matmul, pointwise, taps
from .masked_kernel import Block, Range
from .memory import ONEDNN_CHANNELS
from .torch_internals import computes_in_bfloat16
from .window import Geometry, output_size

_CONTIGUOUS_PADDING = 6  # pixels of padding up to which depthwise convolutions are fast in the contiguous format
_CHANNELS_LAST_KERNEL = 9  # pixels of a depthwise kernel up to which they keep the format of their input
_SMALL_KERNEL = 3  # pixels of a depthwise kernel whose gradient torch computes fast
_BLOCK_BYTES = 13 * 2**20
_MANY_TAPS, _MANY_TAPS_CHANNELS = 49, 128  # of a kernel with more taps, oneDNN is slow on blocks of fewer channels
_LARGE_KERNEL_TAPS = 196  # of a larger dense kernel oneDNN is faster in channels_last, if channels and pixels are many
_CHANNELS_LAST_CHANNELS, _CHANNELS_LAST_PIXELS = 64, 28
_TAP_NUMBERS, _TAP_PRODUCTS = 2**14, 2**22  # fewest numbers of a tap, and products with it, for a product of matrices
_LARGE_KERNEL_NUMBERS = 2**10  # fewest numbers of a tap if there are so many taps that oneDNN's kernel gradient is slow
_MOST_TAPS_OF_A_CONTIGUOUS_KERNEL = 0.5  # largest share that meets a pixel for which its taps are worth a copy
_MOST_TAPS_OF_FEW_POSITIONS = 0.6  # largest share that meets a pixel for which a product of all taps is not faster
_POINTWISE_PIXELS = 64  # of a map from which single taps are fastest as products of matrices


class Operators(NamedTuple):
    """A function that convolves, and the functions that compute its gradients.

    A kernel comes in blocks, each a range of output channels and rows and the kernel there. So does its gradient.

    Attributes:
        convolve: `(input, blocks, bias, geometry)` to the output.
        input_gradient: `(grad_output, blocks, size of the input, geometry)` to the input's gradient.
        kernel_gradient: `(input, grad_output, shape of the kernel, ranges, geometry)` to the kernel's gradient, block
            by block.
        block: Output channels and rows of a block.
        memory_format: Memory format of the kernel, if the operators need one.
        gradient_block: Output channels and rows of a block of the kernel's gradient.
    """

    convolve: Callable[[Tensor, Iterable[Block], Tensor | None, Geometry], Tensor]
    input_gradient: Callable[[Tensor, Iterable[Block], tuple[int, ...], Geometry], Tensor]
    kernel_gradient: Callable[[Tensor, Tensor, tuple[int, ...], Iterable[Range], Geometry], Iterator[Tensor]]
    block: tuple[int, int]
    gradient_block: tuple[int, int]
    memory_format: torch.memory_format | None = None


def choose_operators(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    geometry: Geometry,
    dtype: torch.dtype,
    *,
    strided: bool,
    channels_last: bool,
) -> Operators:
    """Return the fastest operators for a convolution on the CPU.

    Args:
        size: Size of the input, `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        geometry: Geometry of the convolution.
        dtype: Dtype of the convolution.
        strided: Whether the kernel's rows of taps lie apart in memory, as in a cropped or a channels_last kernel.
        channels_last: Whether the input or the kernel is in channels_last.
    """
    out_channels, _, *kernel_size = shape
    whole = (out_channels, kernel_size[0])
    if geometry.groups == out_channels == size[1]:
        forward, backward = (
            _depthwise_format(kernel_size, padding, dtype, channels_last)
            for padding in (geometry.padding, depthwise.flipped_padding(tuple(kernel_size), geometry))
        )
        return Operators(
            partial(depthwise.convolve, memory_format=forward),
            partial(depthwise.input_gradient, memory_format=backward),
            depthwise.kernel_gradient if max(kernel_size) > _SMALL_KERNEL else dense.kernel_gradient,
            whole,
            whole,
        )
    if geometry.groups > 1:
        return _dense(size, kernel_size, dtype, whole)

    pixels = math.prod(output_size(size[2:], tuple(kernel_size), geometry))
    positions = size[0] * pixels
    num_blocks = math.ceil(math.prod(shape) * dtype.itemsize / _BLOCK_BYTES)
    block_channels = math.ceil(out_channels / num_blocks / ONEDNN_CHANNELS) * ONEDNN_CHANNELS
    if math.prod(kernel_size) > _MANY_TAPS:
        block_channels = max(block_channels, _MANY_TAPS_CHANNELS)
    block = (block_channels, kernel_size[0])
    by_rows = (out_channels, 1) if channels_last else block  # rows of a contiguous kernel are too short
    is_pointwise = kernel_size == [1, 1] and geometry.stride == (1, 1) and geometry.padding == (0, 0)
    if is_pointwise and not channels_last and dtype is not torch.bfloat16 and pixels >= _POINTWISE_PIXELS:
        return Operators(pointwise.convolve, pointwise.input_gradient, pointwise.kernel_gradient, block, block)
    # A product of all taps moves a row for each position, oneDNN a reordered kernel for each output channel.
    few_positions = 2 * positions <= out_channels
    limit, gradient_limit = (0.0, 0.0)
    if dtype is not torch.bfloat16:
        limit, gradient_limit = _most_taps(shape, geometry, positions, num_blocks, channels_last)
    share = taps.share_of_taps(size[2:], tuple(kernel_size), geometry)
    if share <= (min(limit, _MOST_TAPS_OF_FEW_POSITIONS) if few_positions else limit):
        convolve, input_gradient = partial(taps.convolve, shape=shape), partial(taps.input_gradient, shape=shape)
        return Operators(convolve, input_gradient, taps.kernel_gradient, by_rows, by_rows, torch.channels_last)
    if not few_positions:
        chosen = _dense(size, kernel_size, dtype, block)
        if share <= gradient_limit:
            return chosen._replace(kernel_gradient=taps.kernel_gradient, gradient_block=by_rows)
        return chosen
    # Rows with gaps between them are too short to be copied one by one.
    memory_format = torch.channels_last if strided else torch.contiguous_format
    kernel_gradient = partial(matmul.kernel_gradient, memory_format=memory_format)
    if dtype is torch.bfloat16 or (not channels_last and not strided):
        return Operators(dense.convolve, dense.input_gradient, kernel_gradient, block, block)
    return Operators(
        partial(matmul.convolve, memory_format=memory_format),
        partial(matmul.input_gradient, memory_format=memory_format),
        kernel_gradient,
        block,
        block,
        memory_format,
    )


def torch_is_fast(input: Tensor) -> bool:
    """Tell whether torch's own convolution is the fastest way to convolve an input with single taps."""
    if type(input) is not Tensor or torch.compiler.is_compiling() or input.dim() != 4 or input.stride(1) != 1:
        return False
    return not torch.is_autocast_enabled("cpu") or computes_in_bfloat16()


def _dense(size: tuple[int, ...], kernel_size: list[int], dtype: torch.dtype, block: tuple[int, int]) -> Operators:
    """Return torch's own operators, in channels_last where oneDNN is faster in it."""
    is_large = math.prod(kernel_size) > _LARGE_KERNEL_TAPS and dtype is torch.float32
    if not is_large or size[1] < _CHANNELS_LAST_CHANNELS or min(size[2:]) < _CHANNELS_LAST_PIXELS:
        return Operators(dense.convolve, dense.input_gradient, dense.kernel_gradient, block, block)
    kernel_gradient = partial(dense.kernel_gradient, memory_format=torch.channels_last)
    return Operators(dense.convolve, dense.input_gradient, kernel_gradient, block, block, torch.channels_last)


def _most_taps(
    shape: tuple[int, ...], geometry: Geometry, positions: int, num_blocks: int, channels_last: bool
) -> tuple[float, float]:
    """Return the largest share of a dense kernel's taps that meet a pixel where `taps` is the fastest.

    Args:
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        geometry: Geometry of the convolution.
        positions: Positions in the outputs of all images.
        num_blocks: Blocks of output channels that the kernel would come in.
        channels_last: Whether input or kernel is in channels_last.

    Returns:
        The share for the output and the input's gradient, and the share for the kernel's gradient.
    """
    numbers = math.prod(shape[:2])  # of a tap
    is_large = math.prod(shape[2:]) > _LARGE_KERNEL_TAPS
    if numbers * positions < _TAP_PRODUCTS or numbers < (_LARGE_KERNEL_NUMBERS if is_large else _TAP_NUMBERS):
        return 0.0, 0.0
    if is_large:
        return 0.8 if numbers >= _TAP_NUMBERS else 0.0, 1.0
    limit, gradient_limit = 0.5, 0.5
    if numbers >= 8 * _TAP_NUMBERS:
        limit, gradient_limit = 0.8, 0.9
    elif max(geometry.stride) > 1:
        limit, gradient_limit = 0.65, 0.65
    elif numbers >= 4 * _TAP_NUMBERS:
        limit, gradient_limit = 0.75 if num_blocks > 1 else 0.6, 0.75
    if not channels_last:
        limit = gradient_limit = min(limit, _MOST_TAPS_OF_A_CONTIGUOUS_KERNEL) if num_blocks == 1 else 0.0
    return limit, gradient_limit


def _depthwise_format(
    kernel_size: list[int], padding: tuple[int, ...], dtype: torch.dtype, channels_last: bool
) -> torch.memory_format:
    """Return the memory format in which oneDNN is fast; the input's own format if it is fast in both."""
    if channels_last or max(padding) > _CONTIGUOUS_PADDING:
        return torch.channels_last
    fast_in_both = dtype is torch.bfloat16 or max(kernel_size) <= _CHANNELS_LAST_KERNEL
    return torch.preserve_format if fast_in_both else torch.contiguous_format
