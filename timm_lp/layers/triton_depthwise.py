"""Depthwise convolutions with large kernels on a GPU, in Triton, whose blocks are the whole kernel (see `operators`).

Checked in Triton's interpreter (bfloat16, which it misreads, only compiled, as all was, for an H100's instructions);
not yet timed on a GPU, so no rule chooses them, and nothing imports this module by default.

A row of taps turns a row of pixels into a row of outputs as a banded matrix does, whose entry (s, j) is tap s - j. So
all is products of small matrices, which use each number that they load many times: on tensor cores in float16 and
bfloat16, in full float32 otherwise. The sums are float32. The zeros outside of the band are the price: with k taps, an
output costs `_columns(k) + k - 1` products, not k, and an infinite or NaN pixel reaches all outputs of its block.

With a dilation, a block's columns lie that far apart, so that a dilated kernel costs no more.
"""

from collections.abc import Iterable, Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from .window import Geometry, output_size

_ROWS = 8  # of an image in a block: enough that the first cache serves most rows again for the next row of taps
_OUTPUTS = 128  # rows of a block, over all of its images
_STEP = 16  # pixels of a product, the fewest that tensor cores take: a wider step would leave the band
_GRADIENT_STEP = 32  # output rows of a product, in the kernel's gradient
_GRADIENT_PIXELS = 128  # columns of pixels of a product, over all of its rows of taps


def convolve(input: Tensor, blocks: Iterable[tuple[slice, Tensor]], bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve with stride 1.

    Args:
        input: Shape `(N, C, H, W)`, float32, float16 or bfloat16.
        blocks: The kernel, shape `(C, 1, Kh, Kw)`, as the only block.
        bias: Shape `(C,)`, or None.
        geometry: Of the convolution; a negative padding leaves pixels out.

    Returns:
        The output, shape `(N, C, H', W')`, contiguous, in the input's dtype.
    """
    ((_, kernel),) = blocks
    _check(input, geometry)
    input, kernel = input.contiguous(), kernel.contiguous()
    images, channels, *size = input.shape
    height, width = output_size(tuple(size), tuple(kernel.shape[2:]), geometry)
    output = input.new_empty(images, channels, height, width)

    columns = _columns(kernel.shape[3])
    block_images, block_rows = _rows(images, height, _OUTPUTS)
    grid = (
        triton.cdiv(images, block_images) * triton.cdiv(height, block_rows),
        geometry.dilation[1] * triton.cdiv(triton.cdiv(width, geometry.dilation[1]), columns),
        channels,
    )
    tensors = (input, kernel, kernel if bias is None else bias, output)
    numbers = (*input.shape, height, width, *kernel.shape[2:], *geometry.padding, *geometry.dilation)
    with torch.cuda.device_of(input):
        _convolve[grid](*tensors, *numbers, bias is not None, block_images, block_rows, columns, _STEP)
    return output


def input_gradient(
    grad_output: Tensor, blocks: Iterable[tuple[slice, Tensor]], size: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the input's gradient, shape `(N, C, H, W)`: a convolution with the turned kernel."""
    ((channels, kernel),) = blocks
    padding = tuple(
        d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel.shape[2:], geometry.padding, strict=True)
    )
    return convolve(grad_output, [(channels, kernel.flip(2, 3))], None, geometry._replace(padding=padding))


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], blocks: Iterable[slice], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient, shape `(C, 1, Kh, Kw)`: the same numbers in each run, as no sum is shared."""
    _check(input, geometry)
    input, grad_output = input.contiguous(), grad_output.contiguous()
    gradient = input.new_empty(shape)
    columns = _columns(shape[3])
    reach = triton.next_power_of_2(columns + shape[3] - 1)
    block = _rows(input.shape[0], 16, _GRADIENT_STEP)
    tap_rows = max(_GRADIENT_PIXELS // reach, 1)  # Rows of taps that share the output's gradient.
    # Programs that run at the same time read the same channel, from the second cache.
    grid = (triton.cdiv(shape[2], tap_rows), shape[0])
    numbers = (*input.shape, *grad_output.shape[2:], *shape[2:], *geometry.padding, *geometry.dilation)
    with torch.cuda.device_of(input):
        _kernel_gradient[grid](input, grad_output, gradient, *numbers, tap_rows, reach, columns, *block)
    yield gradient


def _check(input: Tensor, geometry: Geometry) -> None:
    if max(geometry.stride) > 1:
        raise ValueError(
            f"`geometry` must have a stride of 1, got {geometry.stride}. Use the operators of `depthwise` for others."
        )
    if input.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"`input` must be float32, float16 or bfloat16, got {input.dtype}. Convert it, or use those of `depthwise`."
        )


def _columns(taps: int) -> int:
    """Return a block's columns: about the width of the kernel, where the band fills half of the matrix."""
    return 16 if taps <= 17 else 32


def _rows(images: int, height: int, number: int) -> tuple[int, int]:
    """Return a block's images, and its rows of each."""
    block_images = min(triton.next_power_of_2(max(images, 1)), max(number // _ROWS, 1))
    return block_images, min(triton.next_power_of_2(height), number // block_images)


@triton.jit
def _convolve(
    input: tl.tensor,
    kernel: tl.tensor,
    bias: tl.tensor,
    output: tl.tensor,
    images: int,
    channels: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    kernel_height: int,
    kernel_width: int,
    padding_y: int,
    padding_x: int,
    dilation_y: int,
    dilation_x: int,
    HAS_BIAS: tl.constexpr,
    IMAGES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
) -> None:
    """Write the outputs of some rows and columns of a channel, for some images."""
    row_blocks = tl.cdiv(out_height, ROWS)
    first_row = tl.program_id(0) % row_blocks * ROWS
    m = tl.arange(0, IMAGES * ROWS)
    image = tl.program_id(0) // row_blocks * IMAGES + m // ROWS
    row = first_row + m % ROWS
    phase = tl.program_id(1) % dilation_x
    first = tl.program_id(1) // dilation_x * COLUMNS
    j = tl.arange(0, COLUMNS)
    channel = tl.program_id(2)
    plane = image.to(tl.int64) * channels + channel

    # Taps and pixels outside of these ranges meet no other.
    top = tl.maximum((padding_y - first_row - ROWS + dilation_y) // dilation_y, 0)
    bottom = tl.minimum((height - 1 + padding_y - first_row) // dilation_y + 1, kernel_height)
    left = tl.maximum((padding_x - phase + dilation_x - 1) // dilation_x - first, 0)
    right = tl.minimum((width - 1 + padding_x - phase) // dilation_x + 1 - first, COLUMNS + kernel_width - 1)
    steps = tl.cdiv(tl.maximum(right - left, 0), STEP)

    # Only numbers of 32 bits are left to the loop.
    y = row - padding_y
    x = phase + first * dilation_x - padding_x
    corners = input + (plane * height + y)[:, None] * width + x
    kernel += channel * kernel_height * kernel_width
    result = tl.zeros((IMAGES * ROWS, COLUMNS), tl.float32)
    for t in range((bottom - top) * steps):  # one loop, so that loads overlap products from one row of taps to the next
        tap_row = top + t // steps
        s = left + t % steps * STEP + tl.arange(0, STEP)
        down, across = tap_row * dilation_y, s * dilation_x
        there = (image < images) & (y + down >= 0) & (y + down < height)
        there = there[:, None] & ((x + across >= 0) & (x + across < width))[None, :]
        pixels = tl.load(corners + (down * width + across)[None, :], mask=there, other=0)
        tap = s[:, None] - j[None, :]
        band = tl.load(kernel + (tap_row * kernel_width + tap), mask=(tap >= 0) & (tap < kernel_width), other=0)
        result = tl.dot(pixels, band.to(pixels.dtype), result, input_precision="ieee")

    if HAS_BIAS:
        result += tl.load(bias + channel).to(tl.float32)
    column = phase + (first + j) * dilation_x
    there = ((image < images) & (row < out_height))[:, None] & (column < out_width)[None, :]
    address = output + (plane * out_height + row)[:, None] * out_width + column[None, :]
    tl.store(address, result.to(output.dtype.element_ty), mask=there)


@triton.jit
def _kernel_gradient(
    input: tl.tensor,
    grad_output: tl.tensor,
    gradient: tl.tensor,
    images: int,
    channels: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    kernel_height: int,
    kernel_width: int,
    padding_y: int,
    padding_x: int,
    dilation_y: int,
    dilation_x: int,
    TAP_ROWS: tl.constexpr,
    REACH: tl.constexpr,
    COLUMNS: tl.constexpr,
    IMAGES: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Write some rows of a channel's taps: the sums along the diagonals of pixels times output gradients."""
    first_tap_row = tl.program_id(0) * TAP_ROWS
    channel = tl.program_id(1)
    a = tl.arange(0, TAP_ROWS * REACH)
    down = (first_tap_row + a // REACH) * dilation_y
    s = a % REACH
    j = tl.arange(0, COLUMNS)

    # Output rows outside of this range meet only padding.
    top = tl.maximum(padding_y - (first_tap_row + TAP_ROWS - 1) * dilation_y, 0)
    bottom = tl.minimum(height + padding_y - first_tap_row * dilation_y, out_height)
    row_blocks = tl.cdiv(tl.maximum(bottom - top, 0), ROWS)
    column_blocks = tl.cdiv(tl.cdiv(out_width, dilation_x), COLUMNS) * dilation_x

    m = tl.arange(0, IMAGES * ROWS)
    grad_offsets = (m // ROWS * channels * out_height + m % ROWS)[:, None] * out_width + (j * dilation_x)[None, :]
    offsets = (down * width + s * dilation_x)[:, None] + ((m // ROWS * channels * height + m % ROWS) * width)[None, :]
    products = tl.zeros((TAP_ROWS * REACH, COLUMNS), tl.float32)
    for t in range(tl.cdiv(images, IMAGES) * row_blocks * column_blocks):  # the same rows again, from the first cache
        x = t % column_blocks % dilation_x + t % column_blocks // dilation_x * COLUMNS * dilation_x
        y = top + t // column_blocks % row_blocks * ROWS
        image = t // column_blocks // row_blocks * IMAGES
        plane = image.to(tl.int64) * channels + channel

        alive = (image + m // ROWS < images) & (y + m % ROWS < bottom)
        there = alive[:, None] & (x + j * dilation_x < out_width)[None, :]
        corner = grad_output + (plane * out_height + y) * out_width + x
        grads = tl.load(corner + grad_offsets, mask=there, other=0)

        x, y = x - padding_x, y - padding_y
        rows, columns = (y + m % ROWS)[None, :] + down[:, None], x + s * dilation_x
        there = alive[None, :] & (rows >= 0) & (rows < height) & ((columns >= 0) & (columns < width))[:, None]
        pixels = tl.load(input + (plane * height + y) * width + x + offsets, mask=there, other=0)
        products = tl.dot(pixels, grads.to(pixels.dtype), products, input_precision="ieee")

    written_row = first_tap_row + tl.arange(0, TAP_ROWS)
    for tap in range(kernel_width):
        diagonal = tl.sum(tl.where(s[:, None] - j[None, :] == tap, products, 0.0), axis=1)
        sums = tl.sum(tl.reshape(diagonal, (TAP_ROWS, REACH)), axis=1)
        address = gradient + (channel * kernel_height + written_row) * kernel_width + tap
        tl.store(address, sums.to(gradient.dtype.element_ty), mask=written_row < kernel_height)
