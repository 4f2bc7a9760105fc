"""Depthwise convolutions, with the whole kernel as a single block (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dense
from .masked_kernel import Block, Range
from .runtime import padded, scratch
from .window import Geometry

_SLOW_WIDTHS = range(11, 14)  # columns of a kernel for which oneDNN is slower in channels_last than for 14 or 15


def convolve(
    input: Tensor,
    blocks: Iterable[Block],
    bias: Tensor | None,
    shape: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """Return the output, computed in a memory format that need not be the input's."""
    ((_, kernel),) = blocks
    return _convolve(_converted("input", input, memory_format), kernel, bias, geometry, memory_format)


def input_gradient(
    grad_output: Tensor,
    blocks: Iterable[Block],
    size: tuple[int, ...],
    shape: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """Return the input's gradient, computed in a memory format.

    With stride 1 it is a convolution with the flipped kernel.
    """
    ((_, kernel),) = blocks
    grad_output = _converted("output gradient", grad_output, memory_format)
    padding = flipped_padding(shape[2:], geometry)
    if max(geometry.stride) > 1 or min(padding) < 0:
        return dense.input_gradient_of(kernel, grad_output, size, geometry)
    return _convolve(grad_output, kernel.flip(2, 3), None, geometry._replace(padding=padding), memory_format)


def flipped_padding(kernel_size: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Return the padding with which the output's gradient and the flipped kernel give the input's gradient."""
    return tuple(d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel_size, geometry.padding, strict=True))


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], ranges: Iterable[Range], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient as a depthwise convolution of the input with the output's gradient.

    The channels of all images become channels of one image, and stride and dilation change places. The input is padded
    first, because oneDNN is slow if it has to pad by more than 6 pixels. It is computed in float32 or wider.
    """
    images, channels = input.shape[:2]
    exact = torch.promote_types(input.dtype, torch.float32)
    pixels = padded(input, geometry, dtype=exact)
    grads = _converted("output gradient", grad_output, torch.contiguous_format, exact)
    taps = F.conv2d(
        pixels.view(1, images * channels, *pixels.shape[2:]),
        grads.view(images * channels, 1, *grads.shape[2:]),
        stride=geometry.dilation,
        dilation=geometry.stride,
        groups=images * channels,
    )
    # If the stride does not divide the padded size, some of the last rows meet no tap.
    yield taps[..., : shape[2], : shape[3]].reshape(images, *shape).sum(dim=0)


def _convolve(
    input: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry, memory_format: torch.memory_format
) -> Tensor:
    """Return the output of an input in a memory format, with columns of zeros beside a kernel that is slow without."""
    *shape, width = kernel.shape
    steps = (*geometry.stride, *geometry.dilation)
    in_last = memory_format is torch.channels_last
    if in_last and kernel.dtype is torch.float32 and width in _SLOW_WIDTHS and max(steps) == 1:
        added = (_SLOW_WIDTHS.stop - width + 1) // 2
        wide = scratch("wide kernel", (*shape, width + 2 * added), kernel.dtype).zero_()
        wide[..., added : added + width] = kernel
        top, left = geometry.padding
        kernel, geometry = wide, geometry._replace(padding=(top, left + added))
    return F.conv2d(input, kernel, bias, *geometry)


def _converted(
    name: str, tensor: Tensor, memory_format: torch.memory_format, dtype: torch.dtype | None = None
) -> Tensor:
    """Return a tensor in a memory format and a dtype: itself, or a copy in the `scratch` memory of that name."""
    laid_out = memory_format is torch.preserve_format or tensor.is_contiguous(memory_format=memory_format)
    if laid_out and dtype in (None, tensor.dtype):
        return tensor
    return scratch(name, tuple(tensor.shape), dtype or tensor.dtype, memory_format).copy_(tensor)
