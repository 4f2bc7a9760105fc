"""The operators that convolve, and the one rule that chooses among them.

An operator is exact for every geometry that it is chosen for; they differ in speed alone. Measured on two cores with
AVX-512 (torch 2.15, float32, milliseconds; `python -m timm_lp.bench --layers` measures them anew):

- depthwise 15x15, 192 channels, 28x28, batch 2: forward 14.8 contiguous, 0.9 with both conversions to channels_last;
  31x31, 64 channels, 56x56: 108.6 and 3.7. oneDNN's contiguous kernel takes up to 6 pixels of padding, and is then
  the faster one (13x13, 384 channels, 14x14: 0.29 and 0.75).
- its kernel gradient: 31x31, 64 channels, 56x56: 171.9 by torch, 6.0 as a convolution; 7x7, 96 channels: 13.2 and 1.1.
- dense 7x7, 512 to 512 channels, 7x7, batch 4: the kernel gradient 44.3 by torch, 32 as a product of matrices; batch
  16: 90.6 and 122. Forward, all output channels at once: 28.9, in blocks of 3 to 6 MiB of kernel: 20 to 22.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from .scratch import scratch
from .window import Geometry, output_size

Convolve = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]
InputGradient = Callable[[Tensor, Tensor, tuple[int, ...], Geometry], Tensor]
KernelGradient = Callable[[Tensor, Tensor, tuple[int, ...], Geometry], Callable[[slice], Tensor]]

_CONTIGUOUS_DEPTHWISE_PADDING = 6
_BLOCK_BYTES = 7 * 2**20
_BLOCK_CHANNELS = 16  # oneDNN's own blocks of channels
_POINTWISE_PIXELS = 64


class Operators(NamedTuple):
    """How to convolve, and how to differentiate that.

    Attributes:
        convolve: `(input, kernel, bias, geometry)` to the output.
        input_gradient: `(grad_output, kernel, size of the input, geometry)` to the input's gradient.
        kernel_gradient: `(input, grad_output, size of the kernel, geometry)` to a function that returns the gradient of
            a range of the kernel's output channels.
        block: Output channels to convolve at a time.
        memory_format: Of the kernel, where the operators need one.
    """

    convolve: Convolve
    input_gradient: InputGradient
    kernel_gradient: KernelGradient
    block: int
    memory_format: torch.memory_format | None = None


def choose_operators(input: Tensor, shape: tuple[int, ...], geometry: Geometry, cropped: bool) -> Operators:
    """Return the fastest operators for a convolution on the CPU.

    Args:
        input: Input, shape `(N, C, H, W)`.
        shape: Shape of the kernel, `(O, I, Kh, Kw)`.
        geometry: Of the convolution.
        cropped: Whether the kernel is part of a larger one in memory.
    """
    out_channels, _, *kernel_size = shape
    if geometry.groups == out_channels == input.shape[1]:
        if max(geometry.padding) > _CONTIGUOUS_DEPTHWISE_PADDING:
            return Operators(
                channels_last_convolve, channels_last_input_gradient, depthwise_kernel_gradient, out_channels
            )
        return Operators(torch_convolve, torch_input_gradient, depthwise_kernel_gradient, out_channels)
    if geometry.groups > 1:
        return Operators(torch_convolve, torch_input_gradient, torch_kernel_gradient, out_channels)

    block = _BLOCK_BYTES // (math.prod(shape[1:]) * input.element_size())
    block = max(block // _BLOCK_CHANNELS, 1) * _BLOCK_CHANNELS
    if out_channels <= 2 * block:
        block = out_channels
    pixels = math.prod(output_size(tuple(input.shape[2:]), tuple(kernel_size), geometry))
    if kernel_size == [1, 1] and geometry.stride == (1, 1) and input.is_contiguous() and pixels >= _POINTWISE_PIXELS:
        return Operators(pointwise_convolve, pointwise_input_gradient, pointwise_kernel_gradient, block)
    # A product of matrices moves a row for each position, oneDNN a reordered kernel for each output channel.
    if 2 * len(input) * pixels > out_channels:
        return Operators(torch_convolve, torch_input_gradient, torch_kernel_gradient, block)
    if input.is_contiguous() and not cropped:
        return Operators(torch_convolve, torch_input_gradient, matmul_kernel_gradient, block)
    last = torch.channels_last
    kernel_gradient = partial(matmul_kernel_gradient, memory_format=last)
    return Operators(matmul_convolve, matmul_input_gradient, kernel_gradient, block, last)


def torch_convolve(input: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve as torch does."""
    return F.conv2d(input, kernel, bias, *geometry)


def torch_input_gradient(grad_output: Tensor, kernel: Tensor, size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return the input's gradient as torch does."""
    return conv2d_input(size, kernel, grad_output, *geometry)


def torch_kernel_gradient(
    input: Tensor, grad_output: Tensor, size: tuple[int, ...], geometry: Geometry
) -> Callable[[slice], Tensor]:
    """Return the kernel's gradient as torch does."""

    def gradient(channels: slice) -> Tensor:
        grad = grad_output[:, channels]
        return conv2d_weight(input, (grad.shape[1], *size[1:]), grad, *geometry)

    return gradient


def channels_last_convolve(input: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve in channels_last, whatever the input's memory format."""
    return F.conv2d(input.contiguous(memory_format=torch.channels_last), kernel, bias, *geometry)


def channels_last_input_gradient(
    grad_output: Tensor, kernel: Tensor, size: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return a depthwise convolution's input gradient: with stride 1, a convolution with the turned kernel."""
    grad_output = grad_output.contiguous(memory_format=torch.channels_last)
    padding = tuple(
        d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel.shape[2:], geometry.padding, strict=True)
    )
    if max(geometry.stride) > 1 or min(padding) < 0:
        return conv2d_input(size, kernel, grad_output, *geometry)
    return F.conv2d(grad_output, kernel.flip(2, 3), None, *geometry._replace(padding=padding))


def depthwise_kernel_gradient(
    input: Tensor, grad_output: Tensor, size: tuple[int, ...], geometry: Geometry
) -> Callable[[slice], Tensor]:
    """Return a depthwise kernel's gradient as a depthwise convolution of the input with the output's gradient.

    Each image's channels become channels of one image; stride and dilation change places. The padding is made before,
    since oneDNN is slow where it has to pad by more than 6 pixels.
    """
    images, channels = input.shape[:2]
    taps = F.conv2d(
        _padded(input, geometry).view(1, images * channels, *_padded_size(input, geometry)),
        grad_output.reshape(images * channels, 1, *grad_output.shape[2:]),
        stride=geometry.dilation,
        dilation=geometry.stride,
        groups=images * channels,
    )
    # Where the stride does not divide the padded size, rows are left that no tap meets.
    gradient = taps[..., : size[2], : size[3]].reshape(images, channels, 1, *size[2:]).sum(dim=0)
    return lambda channels: gradient[channels]


def matmul_convolve(input: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve by one product of matrices; the kernel is in channels_last."""
    size = output_size(tuple(input.shape[2:]), tuple(kernel.shape[2:]), geometry)
    columns = _columns(input, tuple(kernel.shape), size, geometry, torch.channels_last)
    rows = F.linear(columns, kernel.permute(0, 2, 3, 1).flatten(1), bias)
    return rows.view(len(input), *size, -1).permute(0, 3, 1, 2)


def matmul_input_gradient(grad_output: Tensor, kernel: Tensor, size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return a dense convolution's input gradient by one product of matrices; the kernel is in channels_last."""
    grads = grad_output.permute(0, 2, 3, 1).flatten(0, 2)
    columns = (grads @ kernel.permute(0, 2, 3, 1).flatten(1)).view(
        len(grad_output), *grad_output.shape[2:], *kernel.shape[2:], -1
    )
    (height, width), (row_stride, column_stride) = geometry.padding, geometry.stride
    padded = columns.new_zeros(size[0], size[2] + 2 * height, size[3] + 2 * width, size[1])
    for i in range(kernel.shape[2]):
        top = i * geometry.dilation[0]
        for j in range(kernel.shape[3]):
            left = j * geometry.dilation[1]
            met = padded[:, top::row_stride, left::column_stride][:, : columns.shape[1], : columns.shape[2]]
            met += columns[:, :, :, i, j]
    return padded[:, height : height + size[2], width : width + size[3]].permute(0, 3, 1, 2)


def matmul_kernel_gradient(
    input: Tensor,
    grad_output: Tensor,
    size: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[slice], Tensor]:
    """Return a dense kernel's gradient, in a memory format, as a product of the output's gradient and the columns."""
    last = memory_format is torch.channels_last
    columns = _columns(input, size, tuple(grad_output.shape[2:]), geometry, memory_format)
    grads = grad_output.transpose(0, 1).flatten(1)

    def gradient(channels: slice) -> Tensor:
        rows = grads[channels]
        shape = (len(rows), columns.shape[1])
        is_part = len(rows) < size[0]
        product = torch.mm(rows, columns, out=scratch("gradient", shape, rows.dtype) if is_part else None)
        return product.view(-1, *size[2:], size[1]).permute(0, 3, 1, 2) if last else product.view(-1, *size[1:])

    return gradient


def _columns(
    input: Tensor,
    kernel_size: tuple[int, ...],
    output_size: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format,
) -> Tensor:
    """Return what the kernel meets at each position, shape `(N * H' * W', I * Kh * Kw)`, in the kernel's order."""
    padded = _padded(input, geometry, memory_format)
    images, channels, row, column = padded.stride()
    (row_stride, column_stride), (row_dilation, column_dilation) = geometry.stride, geometry.dilation
    positions = ((len(input), images), (output_size[0], row * row_stride), (output_size[1], column * column_stride))
    taps = [
        (kernel_size[1], channels),
        (kernel_size[2], row * row_dilation),
        (kernel_size[3], column * column_dilation),
    ]
    if memory_format is torch.channels_last:
        taps = [*taps[1:], taps[0]]
    sizes, strides = zip(*positions, *taps, strict=True)
    return padded.as_strided(sizes, strides).flatten(3).flatten(0, 2)


def pointwise_convolve(input: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve with one tap by a product of matrices for each image."""
    pixels = input.flatten(2)
    matrix = kernel.flatten(1).expand(len(input), -1, -1)
    output = torch.bmm(matrix, pixels) if bias is None else torch.baddbmm(bias.view(1, -1, 1), matrix, pixels)
    return output.view(len(input), -1, *input.shape[2:])


def pointwise_input_gradient(grad_output: Tensor, kernel: Tensor, size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return the input's gradient of `pointwise_convolve`."""
    return pointwise_convolve(grad_output, kernel.transpose(0, 1), None, geometry)


def pointwise_kernel_gradient(
    input: Tensor, grad_output: Tensor, size: tuple[int, ...], geometry: Geometry
) -> Callable[[slice], Tensor]:
    """Return the kernel's gradient of `pointwise_convolve`."""
    pixels, grads = input.flatten(2), grad_output.flatten(2)

    def gradient(channels: slice) -> Tensor:
        total = grads[0, channels] @ pixels[0].t()
        for image in range(1, len(input)):
            total.addmm_(grads[image, channels], pixels[image].t())
        return total.view(*total.shape, 1, 1)

    return gradient


def _padded(input: Tensor, geometry: Geometry, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Return the input with its padding, in a memory format."""
    height, width = geometry.padding
    padded = scratch("padded", (*input.shape[:2], *_padded_size(input, geometry)), input.dtype, memory_format).zero_()
    padded[:, :, height : height + input.shape[2], width : width + input.shape[3]] = input
    return padded


def _padded_size(input: Tensor, geometry: Geometry) -> tuple[int, ...]:
    return tuple(extent + 2 * padding for extent, padding in zip(input.shape[2:], geometry.padding, strict=True))
