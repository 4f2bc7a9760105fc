"""The operators that convolve, and the one rule that chooses among them.

An operator is exact for every geometry that it is chosen for; they differ in speed alone. Measured on two cores with
AVX-512 (torch 2.14 and 2.15, float32, milliseconds; `python -m timm_lp.bench --layers` measures them anew):

- depthwise 15x15, 192 channels, 28x28, batch 2: forward 14.8 contiguous, 0.9 with both conversions to channels_last;
  31x31, 64 channels, 56x56: 108.6 and 3.7. oneDNN's contiguous kernel takes up to 6 pixels of padding, and is then
  the faster one where the kernel is large (13x13, 384 channels, 14x14: 0.34 and, in channels_last, 0.80).
- its input gradient by torch, and as a convolution with the turned kernel: the same 13x13: 0.66 and 0.30; 5x5, 256
  channels, 14x14: 0.15 and 0.11.
- its kernel gradient: 31x31, 64 channels, 56x56: 171.9 by torch, 6.0 as a convolution; 7x7, 96 channels: 13.2 and 1.1.
- dense 7x7, 512 to 512 channels, 7x7, batch 4: the kernel gradient 44.3 by torch, 32 as a product of matrices; batch
  16: 90.6 and 122. In channels_last, 4x4 with stride 2, 384 to 768 channels, 14x14, batch 2: training 52.7 by torch,
  28.8 as products of matrices.
- lp2_resnet18, 224 px, batch 4, in blocks of 3, 7, 13 MiB of kernel and all at once, as fractions of the plain network
  with the same kernels: evaluation 0.92, 0.86, 0.86, 1.09; training 1.00, 0.93, 0.95, 1.10.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import dense, depthwise, matmul, pointwise
from .window import Geometry, output_size

Blocks = Iterable[tuple[slice, Tensor]]

_CONTIGUOUS_PADDING = 6  # of depthwise convolutions, on each side
_CHANNELS_LAST_KERNEL = 9
_BLOCK_NUMBERS = 6 * 2**18  # 6 MiB in float32
_BLOCK_CHANNELS = 16  # oneDNN's own blocks of channels
_POINTWISE_PIXELS = 64


class Operators(NamedTuple):
    """How to convolve, and how to differentiate that.

    A kernel comes in blocks, each a range of output channels and the kernel of these, and so does its gradient.

    Attributes:
        convolve: `(input, blocks, bias, geometry)` to the output.
        input_gradient: `(grad_output, blocks, size of the input, geometry)` to the input's gradient.
        kernel_gradient: `(input, grad_output, shape of the kernel, ranges of output channels, geometry)` to the
            kernel's gradient, block by block.
        block: Output channels of a block.
        memory_format: Of the kernel, where the operators need one.
    """

    convolve: Callable[[Tensor, Blocks, Tensor | None, Geometry], Tensor]
    input_gradient: Callable[[Tensor, Blocks, tuple[int, ...], Geometry], Tensor]
    kernel_gradient: Callable[[Tensor, Tensor, tuple[int, ...], Iterable[slice], Geometry], Iterator[Tensor]]
    block: int
    memory_format: torch.memory_format | None = None


def choose_operators(
    size: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry, *, strided: bool, channels_last: bool
) -> Operators:
    """Return the fastest operators for a convolution on the CPU.

    Args:
        size: Size of the input, `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        geometry: Of the convolution.
        strided: Whether the rows of the kernel's taps lie apart in memory, as part of a larger one or in channels_last.
        channels_last: Whether the input or the kernel is in channels_last.
    """
    out_channels, _, *kernel_size = shape
    if geometry.groups == out_channels == size[1]:
        turned = depthwise.turned_padding(tuple(kernel_size), geometry)
        return Operators(
            partial(depthwise.convolve, memory_format=_depthwise_format(kernel_size, geometry.padding)),
            partial(depthwise.input_gradient, memory_format=_depthwise_format(kernel_size, turned)),
            depthwise.kernel_gradient,
            out_channels,
        )
    if geometry.groups > 1:
        return Operators(dense.convolve, dense.input_gradient, dense.kernel_gradient, out_channels)

    blocks = math.ceil(math.prod(shape) / _BLOCK_NUMBERS)
    block = math.ceil(out_channels / blocks / _BLOCK_CHANNELS) * _BLOCK_CHANNELS
    pixels = math.prod(output_size(size[2:], tuple(kernel_size), geometry))
    is_pointwise = kernel_size == [1, 1] and geometry.stride == (1, 1) and geometry.padding == (0, 0)
    if is_pointwise and not channels_last and pixels >= _POINTWISE_PIXELS:
        return Operators(pointwise.convolve, pointwise.input_gradient, pointwise.kernel_gradient, block)
    # A product of matrices moves a row for each position, oneDNN a reordered kernel for each output channel.
    if 2 * size[0] * pixels > out_channels:
        return Operators(dense.convolve, dense.input_gradient, dense.kernel_gradient, block)
    if not channels_last and not strided:
        return Operators(dense.convolve, dense.input_gradient, matmul.kernel_gradient, block)
    # Rows that lie apart are too short to be copied one by one.
    memory_format = torch.channels_last if strided else torch.contiguous_format
    return Operators(
        partial(matmul.convolve, memory_format=memory_format),
        partial(matmul.input_gradient, memory_format=memory_format),
        partial(matmul.kernel_gradient, memory_format=memory_format),
        block,
        memory_format,
    )


def _depthwise_format(kernel_size: list[int], padding: tuple[int, ...]) -> torch.memory_format:
    """Return the memory format in which oneDNN is fast, that of the input where both are."""
    if max(padding) > _CONTIGUOUS_PADDING:
        return torch.channels_last
    return torch.contiguous_format if max(kernel_size) > _CHANNELS_LAST_KERNEL else torch.preserve_format
