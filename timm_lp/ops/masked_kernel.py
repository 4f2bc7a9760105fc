"""The product of a kernel and its mask, and its gradients, a few output channels at a time."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .memory_format import memory_format_of
from .scratch import scratch
from .slices import slices
from .window import Window

_CHUNK_BYTES = 2**19  # what is read twice is read from a core's cache the second time


class MaskedKernel:
    """The needed taps of a kernel, times their mask.

    Args:
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        mask: Mask, shape `(O, 1, Kh, Kw)`.
        window: The needed taps.
        is_one: Whether the mask is 1 there.
        memory_format: Of the products.
    """

    def __init__(
        self, weight: Tensor, mask: Tensor, window: Window, is_one: bool, memory_format: torch.memory_format
    ) -> None:
        self.weight = weight
        self.mask = mask
        self._needed_weight = window.crop(weight)
        self._needed_mask = window.crop(mask)
        self.shape = tuple(self._needed_weight.shape)
        self._window = window
        self._is_one = is_one
        self._memory_format = memory_format

    def blocks(self, ranges: Iterable[slice]) -> Iterator[tuple[slice, Tensor]]:
        """Return ranges of output channels and their products, each valid until the next is asked for."""
        for channels in ranges:
            weight, mask = self._needed_weight, self._needed_mask
            if channels.stop - channels.start < len(weight):
                weight, mask = weight[channels], mask[channels]
            if self._is_one:
                yield channels, weight
                continue
            product = scratch("block", tuple(weight.shape), weight.dtype, self._memory_format)
            _multiply(weight, mask, product)
            yield channels, product

    def gradients(self, grads: Iterable[Tensor], weight: bool, mask: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of weight and mask, both of them from one reading of the products' gradients.

        Args:
            grads: Gradients in the products, of some output channels after the other; they are overwritten.
            weight: Whether the weight's gradient is wanted.
            mask: Whether the mask's gradient is wanted.

        Returns:
            Gradients of the whole weight and mask, None where they are not wanted.
        """
        cropped = self.shape != self.weight.shape
        empty_like = torch.zeros_like if cropped else torch.empty_like
        grad_mask = empty_like(self.mask) if mask else None
        grad_weight = None
        start = 0
        for grad in grads:
            if weight and grad_weight is None:
                in_place = grad.shape == self.weight.shape and grad.stride() == self.weight.stride()
                grad_weight = grad if in_place else empty_like(self.weight)
            for part in slices(len(grad), _chunk(grad)):
                rows = slice(start + part.start, start + part.stop)
                if grad_mask is not None:
                    self._sum_products(grad[part], rows, grad_mask)
                if grad_weight is not None:
                    _multiply(grad[part], self._needed_mask[rows], self._window.crop(grad_weight)[rows])
            start += len(grad)
        return grad_weight, grad_mask

    def _sum_products(self, grad: Tensor, rows: slice, grad_mask: Tensor) -> None:
        products = scratch("products to sum", grad.shape, grad.dtype, memory_format_of(grad))
        torch.mul(grad, self._needed_weight[rows], out=products)
        torch.sum(products, dim=1, keepdim=True, out=self._window.crop(grad_mask)[rows])


def _multiply(factor: Tensor, mask: Tensor, product: Tensor) -> None:
    """Write `factor * mask`, for kernels of shape `(O, I, Kh, Kw)`."""
    if factor.shape[1] == 1 or (factor.is_contiguous() and product.is_contiguous()):
        torch.mul(factor, mask, out=product)
        return
    # Along the input channels first: the rows of a cropped kernel are too short to be multiplied one by one.
    last = torch.channels_last
    directly = product.is_contiguous(memory_format=last)
    for part in slices(len(factor), _chunk(factor)):
        out = product[part] if directly else scratch("product in channels_last", factor[part].shape, factor.dtype, last)
        torch.mul(factor[part], mask[part], out=out)
        if not directly:
            product[part].copy_(out)


def _chunk(kernel: Tensor) -> int:
    """Return how many output channels of a kernel to multiply at a time."""
    return max(_CHUNK_BYTES // kernel[0].nbytes, 1)
