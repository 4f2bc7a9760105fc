"""The product of a kernel and its mask, and the product's gradients, a few output channels or rows at a time."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .runtime import memory_format_of, scratch
from .window import Window

_CHUNK_BYTES = 2**20  # what is read twice is read from a core's cache the second time


class Range(NamedTuple):
    """A range of a kernel's output channels and rows."""

    channels: slice
    rows: slice

    def of(self, kernel: Tensor) -> Tensor:
        """Return a view of a kernel or mask, shape `(O, I, Kh, Kw)`, or itself if the range is whole."""
        (channels, rows), (out_channels, _, height, _) = self, kernel.shape
        if channels.start == rows.start == 0 and channels.stop == out_channels and rows.stop == height:
            return kernel
        return kernel[channels, :, rows]


Block = tuple[Range, Tensor]  # and the kernel there


def block_ranges(out_channels: int, height: int, block: tuple[int, int]) -> tuple[Range, ...]:
    """Return the ranges of at most as many output channels and rows as `block` says that cover a kernel."""
    block_channels, block_rows = block
    return tuple(
        Range(channels, rows)
        for channels in channel_ranges(out_channels, block_channels)
        for rows in channel_ranges(height, block_rows)
    )


def channel_ranges(channels: int, step: int) -> Iterator[slice]:
    """Return the ranges of at most `step` channels that cover all channels."""
    return (slice(start, min(start + step, channels)) for start in range(0, channels, step))


class MaskedKernel:
    """The taps of a kernel that are needed, times their mask. Products and sums are those of the mask's dtype.

    Args:
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        mask: Mask, shape `(O, 1, Kh, Kw)`.
        window: The needed taps.
        all_ones: Whether the mask is 1 at all of them.
        memory_format: Memory format of the blocks.
        dtype: Dtype of the blocks, to which the products are rounded.
    """

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor,
        window: Window,
        all_ones: bool,
        memory_format: torch.memory_format,
        dtype: torch.dtype,
    ) -> None:
        self.weight = weight
        self.mask = mask
        self._needed_weight = window.crop(weight)
        self._needed_mask = window.crop(mask)
        self.shape = tuple(self._needed_weight.shape)
        self._window = window
        self._all_ones = all_ones
        self._memory_format = memory_format
        self._dtype = dtype

    def blocks(self, ranges: Iterable[Range]) -> Iterator[Block]:
        """Return a block for each range; it is valid until the next one is asked for."""
        for part in ranges:
            weight, mask = part.of(self._needed_weight), part.of(self._needed_mask)
            if self._all_ones and weight.dtype is self._dtype:
                yield part, weight
                continue
            product = scratch("block", tuple(weight.shape), self._dtype, self._memory_format)
            if self._all_ones:
                product.copy_(weight)
            else:
                _multiply(weight, mask, product)
            yield part, product

    def gradients(
        self, grads: Iterable[Tensor], ranges: Iterable[Range], weight: bool, mask: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of weight and mask. The gradients of the product are read once for both.

        Args:
            grads: Gradients of the blocks in any dtype; they are overwritten.
            ranges: Range of each block.
            weight: Whether the weight's gradient is wanted.
            mask: Whether the mask's gradient is wanted.

        Returns:
            Gradients of the whole weight and the whole mask, None for those that are not wanted.
        """
        cropped = self.shape != self.weight.shape
        empty_like = torch.zeros_like if cropped else torch.empty_like
        grad_mask = empty_like(self.mask) if mask else None
        grad_weight = None
        memory_format = memory_format_of(self.weight)
        for grad, part in zip(grads, ranges, strict=True):
            if weight and grad_weight is None:
                in_place = grad.shape == self.weight.shape and grad.stride() == self.weight.stride()
                grad_weight = grad if in_place and grad.dtype is self.weight.dtype else empty_like(self.weight)
            needed_weight, needed_mask = part.of(self._needed_weight), part.of(self._needed_mask)
            of_weight, of_mask = (
                None if whole is None else part.of(self._window.crop(whole)) for whole in (grad_weight, grad_mask)
            )
            for channels in channel_ranges(len(grad), _chunk_channels(grad)):
                exact = _converted("exact gradient", grad[channels], self.mask.dtype, memory_format)
                if of_mask is not None:
                    products = scratch("products to sum", tuple(exact.shape), exact.dtype, memory_format)
                    torch.mul(exact, needed_weight[channels], out=products)
                    torch.sum(products, dim=1, keepdim=True, out=of_mask[channels])
                if of_weight is not None:
                    _multiply(exact, needed_mask[channels], of_weight[channels])
        return grad_weight, grad_mask


def _multiply(factor: Tensor, mask: Tensor, product: Tensor) -> None:
    """Write `factor * mask`, for kernels of shape `(O, I, Kh, Kw)`, rounded from the mask's dtype to the product's."""
    in_rows = factor.shape[1] == 1 or (factor.is_contiguous() and product.is_contiguous())
    one_dtype = factor.dtype is mask.dtype is product.dtype
    if in_rows and one_dtype:
        torch.mul(factor, mask, out=product)
        return
    # Along the input channels first: the rows of a cropped kernel are too short to be multiplied one by one.
    memory_format = torch.contiguous_format if in_rows else torch.channels_last
    directly = one_dtype and memory_format_of(product) is memory_format
    for chunk in channel_ranges(len(factor), _chunk_channels(factor)):
        exact = _converted("exact factor", factor[chunk], mask.dtype, memory_format_of(factor))
        out = product[chunk] if directly else scratch("product", exact.shape, mask.dtype, memory_format)
        torch.mul(exact, mask[chunk], out=out)
        if not directly:
            product[chunk].copy_(out)


def _converted(name: str, kernel: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    """Return a kernel in a dtype and a memory format: itself, or a copy in the `scratch` memory of that name."""
    if kernel.dtype is dtype and memory_format_of(kernel) is memory_format:
        return kernel
    return scratch(name, tuple(kernel.shape), dtype, memory_format).copy_(kernel)


def _chunk_channels(kernel: Tensor) -> int:
    """Return how many output channels of a kernel to multiply at a time."""
    return max(_CHUNK_BYTES // kernel[0].nbytes, 1)
