"""Depthwise convolutions with large kernels, whose blocks are the whole kernel (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from .padded import padded
from .window import Geometry


def convolve(input: Tensor, blocks: Iterable[tuple[slice, Tensor]], bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve in channels_last, whatever the input's memory format."""
    ((_, kernel),) = blocks
    return F.conv2d(input.contiguous(memory_format=torch.channels_last), kernel, bias, *geometry)


def input_gradient(
    grad_output: Tensor, blocks: Iterable[tuple[slice, Tensor]], size: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the input's gradient, in channels_last: with stride 1, a convolution with the turned kernel."""
    ((_, kernel),) = blocks
    grad_output = grad_output.contiguous(memory_format=torch.channels_last)
    padding = tuple(
        d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel.shape[2:], geometry.padding, strict=True)
    )
    if max(geometry.stride) > 1 or min(padding) < 0:
        return conv2d_input(size, kernel, grad_output, *geometry)
    return F.conv2d(grad_output, kernel.flip(2, 3), None, *geometry._replace(padding=padding))


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], blocks: Iterable[slice], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient as a depthwise convolution of the input with the output's gradient.

    Each image's channels become channels of one image; stride and dilation change places. The padding is made before,
    since oneDNN is slow where it has to pad by more than 6 pixels.
    """
    images, channels = input.shape[:2]
    pixels = padded(input, geometry)
    taps = F.conv2d(
        pixels.view(1, images * channels, *pixels.shape[2:]),
        grad_output.reshape(images * channels, 1, *grad_output.shape[2:]),
        stride=geometry.dilation,
        dilation=geometry.stride,
        groups=images * channels,
    )
    # Where the stride does not divide the padded size, rows are left that no tap meets.
    yield taps[..., : shape[2], : shape[3]].reshape(images, *shape).sum(dim=0)
