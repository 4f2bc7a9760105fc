"""Dense convolutions on small maps as products of matrices, a row of taps at a time (see `operators`).

Each output position meets some rows of the kernel's taps; with the channels as the last axis, such a row and the pixels
under it are matrices as they lie in memory. Taps that meet padding take no time: of a 7x7 kernel on a 4x4 map, two in
three.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .masked_kernel import Block
from .window import Geometry, output_size


class _Row(NamedTuple):
    """Pixels of one row that an output position meets, and the taps that it meets them with."""

    position: tuple[int, int]
    pixel_row: int
    pixel_columns: slice
    tap_row: int
    tap_columns: slice


@lru_cache(maxsize=256)
def _rows(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> tuple[_Row, ...]:
    """Return the rows of all output positions, for an input of size `(H, W)` and dilation 1."""
    (height, width), (top, left), (row_stride, column_stride) = size, geometry.padding, geometry.stride
    rows = []
    output_height, output_width = output_size(size, kernel_size, geometry)
    for i in range(output_height):
        first_row = i * row_stride - top
        for j in range(output_width):
            first = j * column_stride - left
            columns = slice(max(first, 0), min(first + kernel_size[1], width))
            taps = slice(columns.start - first, columns.stop - first)
            rows += [
                _Row((i, j), row, columns, row - first_row, taps)
                for row in range(max(first_row, 0), min(first_row + kernel_size[0], height))
                if columns.start < columns.stop
            ]
    return tuple(rows)


@lru_cache(maxsize=4096)
def share_of_taps(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> float:
    """Return the share of a kernel's taps that meet a pixel, over all positions; for dilation 1.

    Args:
        size: `(H, W)` of the input, pixels.
        kernel_size: `(Kh, Kw)`, pixels.
        geometry: Geometry of the convolution.
    """
    share = 1.0
    for extent, taps, stride, padding in zip(size, kernel_size, geometry.stride, geometry.padding, strict=True):
        starts = range(-padding, extent + padding - taps + 1, stride)
        met = sum(max(min(start + taps, extent) - max(start, 0), 0) for start in starts)
        share *= met / (len(starts) * taps)
    return share


def convolve(input: Tensor, blocks: Iterable[Block], bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return the output, in channels_last, from a kernel in channels_last."""
    pixels = _channels_behind(input)
    images, *size, _ = pixels.shape
    outputs = []
    for channels, kernel in blocks:
        taps = _channels_behind(kernel)
        output = pixels.new_zeros(images, *output_size(tuple(size), taps.shape[1:3], geometry), len(taps))
        if bias is not None:
            output += bias[channels]
        for row in _rows(tuple(size), taps.shape[1:3], geometry):
            _at(output, row).addmm_(_pixels(pixels, row), _taps(taps, row).t())
        outputs.append(output)
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=3)
    return whole.permute(0, 3, 1, 2)


def input_gradient(grad_output: Tensor, blocks: Iterable[Block], size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return the input's gradient, in channels_last, from a kernel in channels_last."""
    images, in_channels, *map_size = size
    grads = _channels_behind(grad_output)
    total = grads.new_zeros(images, *map_size, in_channels)
    for channels, kernel in blocks:
        taps = _channels_behind(kernel)
        for row in _rows(tuple(map_size), taps.shape[1:3], geometry):
            _pixels(total, row).addmm_(_at(grads, row)[:, channels], _taps(taps, row))
    return total.permute(0, 3, 1, 2)


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], ranges: Iterable[slice], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block, in channels_last."""
    pixels, grads = _channels_behind(input), _channels_behind(grad_output)
    _, in_channels, *kernel_size = shape
    rows = _rows(tuple(input.shape[2:]), tuple(kernel_size), geometry)
    for channels in ranges:
        total = pixels.new_zeros(channels.stop - channels.start, *kernel_size, in_channels)
        for row in rows:
            _taps(total, row).addmm_(_at(grads, row)[:, channels].t(), _pixels(pixels, row))
        yield total.permute(0, 3, 1, 2)


def _channels_behind(tensor: Tensor) -> Tensor:
    """Return a tensor, or a kernel, with its channels as the last axis, contiguous."""
    return tensor.permute(0, 2, 3, 1).contiguous()


def _at(outputs: Tensor, row: _Row) -> Tensor:
    """Return a view of outputs, shape `(N, H', W', O)`: those at the position of a row, shape `(N, O)`."""
    return outputs[:, row.position[0], row.position[1]]


def _pixels(maps: Tensor, row: _Row) -> Tensor:
    """Return a view of maps, shape `(N, H, W, I)`: the pixels of a row, shape `(N, pixels * I)`."""
    return maps[:, row.pixel_row, row.pixel_columns].flatten(1)


def _taps(kernel: Tensor, row: _Row) -> Tensor:
    """Return a view of a kernel, shape `(O, Kh, Kw, I)`: the taps of a row, shape `(O, taps * I)`."""
    return kernel[:, row.tap_row, row.tap_columns].flatten(1)
