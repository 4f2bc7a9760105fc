"""Mask, product and convolution as one differentiable function that keeps no masked kernel (Eq. 3)."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from .lp_mask import lp_mask, lp_mask_gradients
from .mask_cache import MaskCache
from .operators import Operators, choose_operators
from .window import Geometry, Window, cropped_geometry, needed_window, output_size

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_CHUNK_BYTES = 2**19  # what is read twice is read from a core's cache the second time


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    make_mask: MaskCache,
) -> Tensor:
    """Convolve with a masked kernel (Eq. 3), with the fastest operators and no more taps than are needed.

    The masked kernel is made some output channels at a time, in the forward pass and once more in the backward pass, so
    a training step needs no more memory than one without masks. Gradients of gradients are those of the plain formula.

    Args:
        input: Input, shape `(N, C, H, W)`, for which `can_mask_fast` holds.
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        bias: Bias, shape `(O,)`.
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        geometry: Stride, zero padding, dilation and groups.
        make_mask: Makes the mask.

    Returns:
        Output, shape `(N, O, H', W')`.
    """
    output: Tensor = _MaskedConv2d.apply(input, weight, bias, C, log2p, geometry, make_mask)
    return output


def can_mask_fast(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> bool:
    """Tell whether `masked_conv2d` takes these: batches of plain CPU tensors in one full-precision dtype, run eagerly.

    It has no rule for what torch.compile and torch.export trace, for torch.func, forward-mode differentiation and
    autocast; no measurements for other devices and dtypes; and leaves it to torch to refuse what does not fit.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():
        return False
    tensors = (input, weight, C, log2p) if bias is None else (input, weight, bias, C, log2p)
    return (
        all(type(t) in _PLAIN_TYPES and t.is_cpu and t.dtype == input.dtype for t in tensors)
        and input.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and input.dim() == 4
        and input.numel() > 0
        and input.shape[1] == weight.shape[1] * geometry.groups
        and min(output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry)) > 0
        and all(forward_ad.unpack_dual(t).tangent is None for t in tensors)
    )


def plain_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> Tensor:
    """Do what `masked_conv2d` does in torch's own operators."""
    masked = weight * lp_mask(C, log2p, tuple(weight.shape[2:])).to(weight.dtype)
    return F.conv2d(input, masked, bias, *geometry)


class _MaskedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        C: Tensor,
        log2p: Tensor,
        geometry: Geometry,
        make_mask: MaskCache,
    ) -> Tensor:
        kernel_size = tuple(weight.shape[2:])
        mask = make_mask(C, log2p, kernel_size)
        window = needed_window(tuple(input.shape[2:]), mask.support, kernel_size, geometry)
        cropped = cropped_geometry(window, geometry)
        size = window.crop(weight).shape
        operators = choose_operators(input, tuple(size[1:]), len(weight), cropped, size != weight.shape)
        kernel = _MaskedKernel(weight, mask.values, window, mask.is_one and window == mask.support, operators)
        blocks = [
            operators.convolve(input, kernel[channels], None if bias is None else bias[channels], cropped)
            for channels in _slices(len(weight), operators.block)
        ]
        ctx.save_for_backward(input, weight, bias, C, log2p, mask.values)
        ctx.geometry, ctx.cropped, ctx.operators, ctx.window = geometry, cropped, operators, window
        ctx.is_one = kernel.is_one
        output = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        return output.contiguous(memory_format=_memory_format(input, weight))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, grad_output)
        input, weight, _, C, log2p, mask = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
        needs_mask = needs_C or needs_log2p
        cropped, operators = ctx.cropped, ctx.operators
        kernel = _MaskedKernel(weight, mask, ctx.window, ctx.is_one, operators)
        grad_input = grad_weight = grad_mask = None
        if needs_weight or needs_mask:
            grad_kernel = operators.kernel_gradient(input, grad_output, kernel.size, cropped)
            whole = kernel.size == weight.shape
            if needs_weight:
                grad_weight = torch.empty_like(weight) if whole else torch.zeros_like(weight)
            if needs_mask:
                grad_mask = torch.empty_like(mask) if whole else torch.zeros_like(mask)
        for channels in _slices(len(weight), operators.block):
            if needs_input:
                grad = operators.input_gradient(grad_output[:, channels], kernel[channels], input.shape, cropped)
                grad_input = grad if grad_input is None else grad_input.add_(grad)
            if needs_weight or needs_mask:
                _multiply_gradient(grad_kernel(channels), channels, kernel, grad_weight, grad_mask)
        grad_C = grad_log2p = None
        if needs_mask:
            grad_C, grad_log2p = lp_mask_gradients(grad_mask, mask, C, log2p)
        return (
            None if grad_input is None else grad_input.contiguous(memory_format=_memory_format(input)),
            grad_weight,
            grad_output.sum(dim=(0, 2, 3)) if needs_bias else None,
            grad_C if needs_C else None,
            grad_log2p if needs_log2p else None,
            None,
            None,
        )


class _MaskedKernel:
    """The needed taps of a kernel times its mask, made for a range of output channels at a time.

    Args:
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        mask: Mask, shape `(O, 1, Kh, Kw)`.
        window: The needed taps.
        is_one: Whether the mask is 1 there.
        operators: What the kernel is for.
    """

    def __init__(self, weight: Tensor, mask: Tensor, window: Window, is_one: bool, operators: Operators) -> None:
        self.weight = window.crop(weight)
        self.mask = window.crop(mask)
        self.size = tuple(self.weight.shape)
        self.window = window
        self.is_one = is_one
        self._memory_format = operators.memory_format or _memory_format(weight)
        self._scratch: Tensor | None = None

    def __getitem__(self, channels: slice) -> Tensor:
        """Return the masked kernel of some output channels, valid until the next are asked for."""
        weight, mask = self.weight[channels], self.mask[channels]
        if self.is_one:
            return weight
        if self._scratch is None:
            self._scratch = torch.empty(weight.shape, dtype=weight.dtype, memory_format=self._memory_format)
        masked = self._scratch[: len(weight)]
        if self._memory_format is torch.channels_last or weight.is_contiguous() or weight.shape[1] == 1:
            return torch.mul(weight, mask, out=masked)
        # Along the input channels first: the rows of a cropped kernel are too short to be multiplied one by one.
        chunk = _chunk(weight)
        products = torch.empty_like(weight[:chunk], memory_format=torch.channels_last)
        for part in _slices(len(weight), chunk):
            product = torch.mul(weight[part], mask[part], out=products[: part.stop - part.start])
            masked[part].copy_(product)
        return masked


def _multiply_gradient(
    grad_kernel: Tensor,
    channels: slice,
    kernel: _MaskedKernel,
    grad_weight: Tensor | None,
    grad_mask: Tensor | None,
) -> None:
    """Write the gradients of `weight * mask` for a range of output channels, reading their factors once."""
    chunk = _chunk(grad_kernel)
    products = torch.empty_like(grad_kernel[:chunk])
    for part in _slices(len(grad_kernel), chunk):
        grad = grad_kernel[part]
        rows = slice(channels.start + part.start, channels.start + part.stop)
        if grad_mask is not None:
            product = torch.mul(grad, kernel.weight[rows], out=products[: len(grad)])
            torch.sum(product, dim=1, keepdim=True, out=kernel.window.crop(grad_mask)[rows])
        if grad_weight is not None:
            torch.mul(grad, kernel.mask[rows], out=kernel.window.crop(grad_weight)[rows])


def _differentiable_gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the plain formula, which can be differentiated again."""
    tensors: list[Any] = [*ctx.saved_tensors[:-1]]
    # Views, so that what the tensors themselves were computed from is not differentiated here.
    views = [None if tensor is None else tensor.view_as(tensor) for tensor in tensors]
    needed = {i: views[i] for i, needs in enumerate(ctx.needs_input_grad[:5]) if needs}
    output = plain_conv2d(*views, ctx.geometry)
    grads = torch.autograd.grad(output, [*needed.values()], grad_output, create_graph=True)
    by_index = dict(zip(needed, grads, strict=True))
    return tuple(by_index.get(i) for i in range(7))


def _chunk(kernel: Tensor) -> int:
    """Return how many output channels of a kernel to multiply at a time."""
    return max(_CHUNK_BYTES // kernel[0].nbytes, 1)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _memory_format(*tensors: Tensor) -> torch.memory_format:
    """Return channels_last where one of the tensors is in it, as nn.Conv2d's output is."""
    last = torch.channels_last
    in_channels_last = any(t.is_contiguous(memory_format=last) and not t.is_contiguous() for t in tensors)
    return last if in_channels_last else torch.contiguous_format
