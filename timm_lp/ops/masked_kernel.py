"""The product of a kernel and its mask, and the product's gradients, a few output channels at a time."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .memory import memory_format_of, scratch
from .window import Window

Block = tuple[slice, Tensor]  # a range of output channels, and their kernel

_CHUNK_BYTES = 2**20  # what is read twice is read from a core's cache the second time


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

    def blocks(self, ranges: Iterable[slice]) -> Iterator[Block]:
        """Return a block for each range of output channels; it is valid until the next one is asked for."""
        for channels in ranges:
            weight, mask = self._needed_weight, self._needed_mask
            if channels.stop - channels.start < len(weight):
                weight, mask = weight[channels], mask[channels]
            if self._all_ones and weight.dtype is self._dtype:
                yield channels, weight
                continue
            product = scratch("block", tuple(weight.shape), self._dtype, self._memory_format)
            if self._all_ones:
                product.copy_(weight)
            else:
                _multiply(weight, mask, product)
            yield channels, product

    def gradients(self, grads: Iterable[Tensor], weight: bool, mask: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of weight and mask. The gradients of the product are read once for both.

        Args:
            grads: Gradients of the blocks, in the order of their channels, in any dtype; they are overwritten.
            weight: Whether the weight's gradient is wanted.
            mask: Whether the mask's gradient is wanted.

        Returns:
            Gradients of the whole weight and the whole mask, None for those that are not wanted.
        """
        cropped = self.shape != self.weight.shape
        empty_like = torch.zeros_like if cropped else torch.empty_like
        grad_mask = empty_like(self.mask) if mask else None
        grad_weight = None
        start = 0
        for grad in grads:
            if weight and grad_weight is None:
                in_place = grad.shape == self.weight.shape and grad.stride() == self.weight.stride()
                grad_weight = grad if in_place and grad.dtype is self.weight.dtype else empty_like(self.weight)
            for chunk in channel_ranges(len(grad), _chunk_channels(grad)):
                channels = slice(start + chunk.start, start + chunk.stop)
                exact = _converted("exact gradient", grad[chunk], self.mask.dtype)
                if grad_mask is not None:
                    self._sum_products(exact, channels, grad_mask)
                if grad_weight is not None:
                    _multiply(exact, self._needed_mask[channels], self._window.crop(grad_weight)[channels])
            start += len(grad)
        return grad_weight, grad_mask

    def _sum_products(self, grad: Tensor, channels: slice, grad_mask: Tensor) -> None:
        products = scratch("products to sum", grad.shape, grad.dtype, memory_format_of(grad))
        torch.mul(grad, self._needed_weight[channels], out=products)
        torch.sum(products, dim=1, keepdim=True, out=self._window.crop(grad_mask)[channels])


def _multiply(factor: Tensor, mask: Tensor, product: Tensor) -> None:
    """Write `factor * mask`, for kernels of shape `(O, I, Kh, Kw)`, rounded from the mask's dtype to the product's."""
    in_rows = factor.shape[1] == 1 or (factor.is_contiguous() and product.is_contiguous())
    one_dtype = factor.dtype is mask.dtype is product.dtype
    if in_rows and one_dtype:
        torch.mul(factor, mask, out=product)
        return
    # Along the input channels first: the rows of a cropped kernel are too short to be multiplied one by one.
    memory_format = torch.contiguous_format if in_rows else torch.channels_last
    directly = one_dtype and product.is_contiguous(memory_format=memory_format)
    for chunk in channel_ranges(len(factor), _chunk_channels(factor)):
        exact = _converted("exact factor", factor[chunk], mask.dtype)
        out = product[chunk] if directly else scratch("product", exact.shape, mask.dtype, memory_format)
        torch.mul(exact, mask[chunk], out=out)
        if not directly:
            product[chunk].copy_(out)


def _converted(name: str, kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a kernel in a dtype: itself, or a copy in the `scratch` memory of that name."""
    if kernel.dtype is dtype:
        return kernel
    return scratch(name, tuple(kernel.shape), dtype, memory_format_of(kernel)).copy_(kernel)


def _chunk_channels(kernel: Tensor) -> int:
    """Return how many output channels of a kernel to multiply at a time."""
    return max(_CHUNK_BYTES // kernel[0].nbytes, 1)
