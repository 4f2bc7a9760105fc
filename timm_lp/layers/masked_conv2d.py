"""Mask, product and convolution as one differentiable function that keeps no masked kernel (Eq. 3)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from .lp_mask import lp_mask, lp_mask_gradients
from .mask_cache import MaskCache
from .masked_kernel import MaskedKernel, memory_format_of, slices
from .operators import choose_operators
from .window import Geometry, cropped_geometry, needed_window, output_size

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


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
        shape = window.crop(weight).shape
        operators = choose_operators(input, tuple(shape), cropped, shape != weight.shape)
        is_one = mask.is_one and window == mask.support
        memory_format = operators.memory_format or memory_format_of(weight)
        kernel = MaskedKernel(weight, mask.values, window, is_one, memory_format)
        blocks = [
            operators.convolve(input, kernel.block(channels), None if bias is None else bias[channels], cropped)
            for channels in slices(len(weight), operators.block)
        ]
        ctx.save_for_backward(input, weight, bias, C, log2p, mask.values)
        ctx.geometry, ctx.cropped, ctx.operators = geometry, cropped, operators
        ctx.kernel_arguments = (window, is_one, memory_format)
        output = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        return output.contiguous(memory_format=memory_format_of(input, weight))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, grad_output)
        input, weight, _, C, log2p, mask = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
        needs_mask = (needs_C or needs_log2p) and mask[0].numel() > 1  # the mask of a single tap is always 1
        geometry, operators = ctx.cropped, ctx.operators
        kernel = MaskedKernel(weight, mask, *ctx.kernel_arguments)
        blocks = [*slices(len(weight), operators.block)]

        grad_input = grad_weight = grad_mask = grad_C = grad_log2p = None
        if needs_input:
            for channels in blocks:
                grad = operators.input_gradient(
                    grad_output[:, channels], kernel.block(channels), tuple(input.shape), geometry
                )
                grad_input = grad if grad_input is None else grad_input.add_(grad)
            grad_input = grad_input.contiguous(memory_format=memory_format_of(input))
        if needs_weight or needs_mask:
            grad_kernel = operators.kernel_gradient(input, grad_output, kernel.shape, geometry)
            grads = (grad_kernel(channels) for channels in blocks)
            grad_weight, grad_mask = kernel.gradients(grads, needs_weight, needs_mask)
        if needs_mask:
            grad_C, grad_log2p = lp_mask_gradients(grad_mask, mask, C, log2p)
        elif needs_C or needs_log2p:
            grad_C, grad_log2p = torch.zeros_like(C), torch.zeros_like(log2p)
        return (
            grad_input,
            grad_weight,
            grad_output.sum(dim=(0, 2, 3)) if needs_bias else None,
            grad_C if needs_C else None,
            grad_log2p if needs_log2p else None,
            None,
            None,
        )


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
