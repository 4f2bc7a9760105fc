"""Dense convolutions of few positions as products of matrices, block by block (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .masked_kernel import Block, Range
from .runtime import padded, scratch
from .window import Geometry, output_size


def convolve(
    input: Tensor,
    blocks: Iterable[Block],
    bias: Tensor | None,
    shape: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return the output, in channels_last, from a kernel in a memory format."""
    size = output_size(tuple(input.shape[2:]), shape[2:], geometry)
    columns = _columns(input, shape, size, geometry, memory_format)
    products = [columns @ _matrix(kernel, memory_format).t() for _, kernel in blocks]
    rows = products[0] if len(products) == 1 else torch.cat(products, dim=1)
    if bias is not None:
        rows += bias
    return rows.view(len(input), *size, -1).permute(0, 3, 1, 2)


def input_gradient(
    grad_output: Tensor,
    blocks: Iterable[Block],
    size: tuple[int, ...],
    shape: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return the input's gradient, in channels_last, from a kernel in a memory format."""
    images, in_channels, height, width = size
    kernel_size = shape[2:]
    grads = grad_output.permute(0, 2, 3, 1).flatten(0, 2)
    remaining = iter(blocks)
    (channels, _), kernel = next(remaining)
    total = grads[:, channels] @ _matrix(kernel, memory_format)
    for (channels, _), kernel in remaining:
        total.addmm_(grads[:, channels], _matrix(kernel, memory_format))
    positions = (images, *grad_output.shape[2:])
    if memory_format is torch.channels_last:
        columns = total.view(*positions, *kernel_size, in_channels)
    else:
        columns = total.view(*positions, in_channels, *kernel_size).permute(0, 1, 2, 4, 5, 3)
    (top, left), (row_stride, column_stride) = geometry.padding, geometry.stride
    result = total.new_zeros(images, height + 2 * top, width + 2 * left, in_channels)
    for i in range(kernel_size[0]):
        rows = result[:, i * geometry.dilation[0] :: row_stride][:, : columns.shape[1]]
        for j in range(kernel_size[1]):
            rows[:, :, j * geometry.dilation[1] :: column_stride][:, :, : columns.shape[2]] += columns[:, :, :, i, j]
    return result[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


def kernel_gradient(
    input: Tensor,
    grad_output: Tensor,
    shape: tuple[int, ...],
    ranges: Iterable[Range],
    geometry: Geometry,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block, in a memory format."""
    out_channels, in_channels, height, width = shape
    columns = _columns(input, shape, tuple(grad_output.shape[2:]), geometry, memory_format)
    grads = grad_output.transpose(0, 1).flatten(1)
    for channels, _ in ranges:
        rows = grads[channels]
        product_shape = (len(rows), columns.shape[1])
        out = scratch("block", product_shape, rows.dtype) if len(rows) < out_channels else None
        product = torch.mm(rows, columns, out=out)
        if memory_format is torch.channels_last:
            yield product.view(-1, height, width, in_channels).permute(0, 3, 1, 2)
        else:
            yield product.view(-1, in_channels, height, width)


def _matrix(kernel: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return a kernel as a matrix in the order of its memory format, shape `(O, I * Kh * Kw)`."""
    return (kernel.permute(0, 2, 3, 1) if memory_format is torch.channels_last else kernel).flatten(1)


def _columns(
    input: Tensor,
    shape: tuple[int, ...],
    positions: tuple[int, ...],
    geometry: Geometry,
    memory_format: torch.memory_format,
) -> Tensor:
    """Return the pixels under the kernel at each position, `(N * H' * W', I * Kh * Kw)` in the kernel's order."""
    pixels = padded(input, geometry, memory_format)
    image, channel, row, column = pixels.stride()
    (row_stride, column_stride), (row_dilation, column_dilation) = geometry.stride, geometry.dilation
    taps = [(shape[1], channel), (shape[2], row * row_dilation), (shape[3], column * column_dilation)]
    if memory_format is torch.channels_last:
        taps = [*taps[1:], taps[0]]
    where = [(len(input), image), (positions[0], row * row_stride), (positions[1], column * column_stride)]
    sizes, strides = zip(*where, *taps, strict=True)
    return pixels.as_strided(sizes, strides).flatten(3).flatten(0, 2)
