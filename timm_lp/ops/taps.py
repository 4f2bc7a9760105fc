"""Dense convolutions as products of matrices, a tap of the kernel at a time (see `operators`).

A tap that meets padding at some positions takes no time there: of a 7x7 kernel on a 7x7 map, that is 43 % of the time.
Maps lie in memory by columns, images, rows, channels, and the taps of a row share a copy of the map's rows that they
meet. Then the pixels that a tap meets are a matrix as they lie in memory, and so is the tap itself in a kernel with its
channels as the last axis.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .masked_kernel import Block, Range
from .runtime import scratch
from .window import Geometry, output_size


class _Met(NamedTuple):
    """Along one axis, what a tap meets: positions of the output, and the pixels that it meets there."""

    positions: slice
    pixels: slice


@lru_cache(maxsize=1024)
def _met(size: int, positions: int, taps: int, stride: int, padding: int, dilation: int) -> tuple[_Met, ...]:
    """Return what each tap meets along one axis; empty slices for a tap that meets no pixel."""
    met = []
    for tap in range(taps):
        offset = tap * dilation - padding  # position i meets pixel i * stride + offset
        first, stop = max(0, -(offset // stride)), min(positions, (size - 1 - offset) // stride + 1)
        if first < stop:
            pixel, last = first * stride + offset, (stop - 1) * stride + offset
            met.append(_Met(slice(first, stop), slice(pixel, last + 1, stride)))
        else:
            met.append(_Met(slice(0, 0), slice(0, 0)))
    return tuple(met)


def _rows_and_columns(
    size: tuple[int, ...], positions: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry
) -> list[tuple[_Met, ...]]:
    return [_met(*axis) for axis in zip(size, positions, kernel_size, *geometry[:3], strict=True)]


@lru_cache(maxsize=4096)
def share_of_taps(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> float:
    """Return the share of a kernel's taps that meet a pixel, over all positions.

    Args:
        size: `(H, W)` of the input, pixels.
        kernel_size: `(Kh, Kw)`, pixels.
        geometry: Geometry of the convolution.
    """
    share = 1.0
    positions = output_size(size, kernel_size, geometry)
    for met, extent in zip(_rows_and_columns(size, positions, kernel_size, geometry), positions, strict=True):
        share *= sum(positions.stop - positions.start for positions, _ in met) / (extent * len(met))
    return share


def convolve(
    input: Tensor, blocks: Iterable[Block], bias: Tensor | None, shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the output, in channels_last."""
    pixels, (out_channels, _, *kernel_size) = _columns_first(input), shape
    height, width = output_size(tuple(input.shape[2:]), tuple(kernel_size), geometry)
    rows, columns = _rows_and_columns(tuple(input.shape[2:]), (height, width), tuple(kernel_size), geometry)
    output = pixels.new_zeros(width, len(input), height, out_channels)
    if bias is not None:
        output += bias
    for (channels, block_rows), kernel in blocks:
        backwards = ([met[::-1] for met in along] for along in (rows[block_rows], columns))
        _add_products(output[..., channels], pixels, kernel.permute(2, 3, 1, 0), *backwards)
    return output.permute(1, 3, 2, 0)


def input_gradient(
    grad_output: Tensor, blocks: Iterable[Block], size: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the input's gradient, in channels_last."""
    images, in_channels, height, width = size
    grads = _columns_first(grad_output)
    rows, columns = _rows_and_columns((height, width), tuple(grad_output.shape[2:]), shape[2:], geometry)
    grad_input = grads.new_zeros(width, images, height, in_channels)
    for (channels, block_rows), kernel in blocks:
        _add_products(grad_input, grads[..., channels], kernel.permute(2, 3, 0, 1), rows[block_rows], columns)
    return grad_input.permute(1, 3, 2, 0)


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], ranges: Iterable[Range], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block, in channels_last."""
    pixels, grads = _columns_first(input), _columns_first(grad_output)
    _, in_channels, *kernel_size = shape
    rows, columns = _rows_and_columns(
        tuple(input.shape[2:]), tuple(grad_output.shape[2:]), tuple(kernel_size), geometry
    )
    for channels, block_rows in ranges:
        of_block = grads[..., channels]
        block_shape = (of_block.shape[3], in_channels, block_rows.stop - block_rows.start, kernel_size[1])
        if block_shape == shape:
            block = torch.empty(block_shape, dtype=grads.dtype, memory_format=torch.channels_last)
        else:
            block = scratch("block", block_shape, grads.dtype, torch.channels_last)
        for row, taps in zip(rows[block_rows], block.permute(2, 3, 0, 1), strict=True):
            met, of_row = _rows("met", pixels, row.pixels), _rows("gradients", of_block, row.positions)
            for column, tap in zip(columns, taps, strict=True):
                torch.mm(_matrix(of_row[column.positions]).t(), _matrix(met[column.pixels]), out=tap)
        yield block


def _columns_first(maps: Tensor) -> Tensor:
    """Return maps of shape `(N, C, H, W)` in the shape `(W, N, H, C)`, contiguous."""
    return maps.permute(3, 0, 2, 1).contiguous()


def _rows(name: str, maps: Tensor, rows: slice) -> Tensor:
    """Return some rows of maps, shape `(W, N, H, C)`, contiguous, in the `scratch` memory of that name."""
    chosen = maps[:, :, rows]
    return chosen if chosen.is_contiguous() else scratch(name, tuple(chosen.shape), chosen.dtype).copy_(chosen)


def _zeros(maps: Tensor, rows: slice) -> Tensor:
    """Return zeros in the shape of some rows of maps, in `scratch` memory."""
    return scratch("total", tuple(maps[:, :, rows].shape), maps.dtype).zero_()


def _add_products(
    target: Tensor,
    source: Tensor,
    taps: Tensor,
    rows: Sequence[tuple[slice, slice]],
    columns: Sequence[tuple[slice, slice]],
) -> None:
    """Add the products of maps and the taps of a block of the kernel to other maps.

    Args:
        target: Maps that are added to, shape `(W', N, H', C')`.
        source: Maps that are multiplied, shape `(W, N, H, C)`.
        taps: A matrix for each tap, shape `(Kh, Kw, C, C')`.
        rows: For each row of taps, the rows of `source` that they meet, and the rows of `target` where they do.
        columns: The same for each column of taps.
    """
    for (of_source, of_target), of_row in zip(rows, taps, strict=True):
        met, total = _rows("met", source, of_source), _zeros(target, of_target)
        for (met_columns, total_columns), tap in zip(columns, of_row, strict=True):
            _add_product(total[total_columns], met[met_columns], tap)
        target[:, :, of_target] += total


def _add_product(total: Tensor, columns: Tensor, matrix: Tensor) -> None:
    """Add the product of columns of maps and a matrix to columns of other maps."""
    if total.is_contiguous():
        _matrix(total).addmm_(_matrix(columns), matrix)
    else:
        total += (_matrix(columns) @ matrix).view(total.shape)


def _matrix(columns: Tensor) -> Tensor:
    """Return columns of maps, shape `(W, N, H, C)`, as a matrix, shape `(W * N * H, C)`; a copy if they lie apart."""
    return columns.flatten(0, 2)
