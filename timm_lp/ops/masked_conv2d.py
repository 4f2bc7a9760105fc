"""Mask, product and convolution as one differentiable function (Eq. 3)."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .kernel_cache import KernelCache
from .lp_mask import lp_mask, lp_mask_gradients
from .mask_cache import MaskCache
from .masked_kernel import MaskedKernel
from .memory_format import memory_format_of
from .plan import Part, Plan, make_plan
from .window import Geometry, output_size

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64)


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    make_mask: MaskCache,
    kept_kernel: KernelCache,
) -> Tensor:
    """Convolve with a masked kernel (Eq. 3), with the fastest operators and no more taps than are needed.

    For training, the masked kernel is made some output channels at a time, in the forward pass and once more in the
    backward pass, so that a large one is never in memory as a whole. Gradients of gradients are those of the plain
    formula.

    Args:
        input: Input, shape `(N, C, H, W)`, for which `can_mask_fast` holds.
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        bias: Bias, shape `(O,)`.
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        geometry: Stride, zero padding, dilation and groups.
        make_mask: Makes the mask.
        kept_kernel: Keeps the masked kernel while gradients are off.

    Returns:
        Output, shape `(N, O, H', W')`.
    """
    mask = make_mask(C, log2p, tuple(weight.shape[2:]))
    plan = make_plan(
        tuple(input.shape),
        tuple(weight.shape),
        mask.reach,
        mask.is_one,
        geometry,
        input_last=memory_format_of(input) is torch.channels_last,
        kernel_last=memory_format_of(weight) is torch.channels_last,
    )
    if torch.is_grad_enabled():
        kept_kernel.clear()
        output: Tensor = _MaskedConv2d.apply(input, weight, bias, C, log2p, mask.values, mask.wide, plan)
        return output
    kept = None
    if weight.shape[1] > 1 and not plan.main.is_one:  # a depthwise kernel is multiplied sooner than it is checked
        form = tuple((part.window, part.operators.block, part.kernel_format) for part in plan.parts)
        kept = kept_kernel.get(weight, mask.values, form, lambda: _copies(weight, mask.values, mask.wide, plan))
    return _convolve(
        input, kept or _products(_kernels(weight, mask.values, mask.wide, plan), plan), bias, mask.wide, plan
    )


def can_mask_fast(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> bool:
    """Tell whether `masked_conv2d` takes these: batches of plain CPU tensors in one full-precision dtype, run eagerly.

    It has no rule for what torch.compile, torch.export and make_fx trace, for fake tensors, torch.func, forward-mode
    differentiation and autocast; no measurements for other devices and dtypes; and leaves it to torch to refuse what
    does not fit.
    """
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_in_torch_dispatch_mode()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled("cpu")
    ):
        return False
    dtype = input.dtype
    for tensor in (input, weight, C, log2p, bias):
        if tensor is not None and not (type(tensor) in _PLAIN_TYPES and tensor.dtype is dtype and tensor.is_cpu):
            return False
    return (
        dtype in _DTYPES
        and input.dim() == 4
        and input.numel() > 0
        and input.shape[1] == weight.shape[1] * geometry.groups
        and _fits(input.shape[2:], weight.shape[2:], geometry)
    )


@lru_cache(maxsize=4096)
def _fits(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> bool:
    return min(output_size(size, kernel_size, geometry)) > 0


def plain_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> Tensor:
    """Do what `masked_conv2d` does in torch's own operators."""
    masked = weight * lp_mask(C, log2p, tuple(weight.shape[2:])).to(weight.dtype)
    return F.conv2d(input, masked, bias, *geometry)


def _kernels(weight: Tensor, mask: Tensor, wide: Tensor | None, plan: Plan) -> list[MaskedKernel]:
    """Return the masked kernel, in its parts."""
    main = plan.main
    kernels = [MaskedKernel(weight, mask, main.window, main.is_one, main.kernel_format)]
    if plan.rest is not None and wide is not None:
        outer_mask = mask[wide]
        main.window.crop(outer_mask).zero_()
        kernels.append(MaskedKernel(weight[wide], outer_mask, plan.rest.window, False, plan.rest.kernel_format))
    return kernels


def _products(kernels: list[MaskedKernel], plan: Plan) -> list[Iterable[tuple[slice, Tensor]]]:
    return [kernel.blocks(part.blocks) for kernel, part in zip(kernels, plan.parts, strict=True)]


def _copies(weight: Tensor, mask: Tensor, wide: Tensor | None, plan: Plan) -> list[list[tuple[slice, Tensor]]]:
    parts = _products(_kernels(weight, mask, wide, plan), plan)
    return [[(channels, block.clone()) for channels, block in blocks] for blocks in parts]


def _convolve(
    input: Tensor,
    products: Sequence[Iterable[tuple[slice, Tensor]]],
    bias: Tensor | None,
    wide: Tensor | None,
    plan: Plan,
) -> Tensor:
    main, *rest = products
    output = plan.main.operators.convolve(input, main, bias, plan.main.geometry)
    if plan.rest is not None and wide is not None:
        output.index_add_(1, wide, plan.rest.operators.convolve(input, rest[0], None, plan.rest.geometry))
    return output.contiguous(memory_format=plan.output_format)


class _MaskedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        C: Tensor,
        log2p: Tensor,
        mask: Tensor,
        wide: Tensor | None,
        plan: Plan,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, C, log2p, mask, wide)
        ctx.plan = plan
        return _convolve(input, _products(_kernels(weight, mask, wide, plan), plan), bias, wide, plan)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if (
            torch.is_grad_enabled()
            or is_in_torch_dispatch_mode()
            or torch._C._functorch.is_legacy_batchedtensor(grad_output)
        ):
            return _differentiable_gradients(ctx, grad_output)
        input, weight, C, log2p, mask, wide = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
        needs_mask = (needs_C or needs_log2p) and mask[0].numel() > 1  # the mask of a single tap is always 1
        plan: Plan = ctx.plan

        grad_input = grad_weight = grad_mask = grad_C = grad_log2p = None
        for part, kernel in zip(plan.parts, _kernels(weight, mask, wide, plan), strict=True):
            is_main = part is plan.main
            grads = grad_output if is_main else grad_output[:, wide]
            operators, geometry = part.operators, part.geometry
            if needs_input:
                grad = operators.input_gradient(grads, kernel.blocks(part.blocks), tuple(input.shape), geometry)
                grad_input = grad if grad_input is None else grad_input.add_(grad)
            if needs_weight or needs_mask:
                kernel_grads = operators.kernel_gradient(input, grads, kernel.shape, part.blocks, geometry)
                of_weight, of_mask = kernel.gradients(kernel_grads, needs_weight, needs_mask)
                if is_main:
                    grad_weight, grad_mask = of_weight, of_mask
                else:
                    _add_outer(of_weight, grad_weight, wide, plan.main)
                    _add_outer(of_mask, grad_mask, wide, plan.main)
        if grad_input is not None:
            grad_input = grad_input.contiguous(memory_format=plan.output_format)
        if grad_mask is not None:
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
            None,
        )


def _add_outer(grad: Tensor | None, total: Tensor | None, wide: Tensor, main: Part) -> None:
    """Add the gradient of the wide channels, outside of the main part's taps, to that of all."""
    if grad is not None and total is not None:
        main.window.crop(grad).zero_()
        total.index_add_(0, wide, grad)


@torch.enable_grad()
def _differentiable_gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the plain formula, which can be differentiated again, batched, and traced."""
    # Views, so that what the tensors themselves were computed from is not differentiated here.
    input, weight, C, log2p = (tensor.view_as(tensor) for tensor in ctx.saved_tensors[:4])
    needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
    views = {0: (input, needs_input), 1: (weight, needs_weight), 3: (C, needs_C), 4: (log2p, needs_log2p)}
    needed = {place: view for place, (view, needs) in views.items() if needs}
    grads: list[Tensor | None] = [None] * 8
    if needed:
        output = plain_conv2d(input, weight, None, C, log2p, ctx.plan.geometry)
        found = torch.autograd.grad(output, [*needed.values()], grad_output, create_graph=True)
        for place, grad in zip(needed, found, strict=True):
            grads[place] = grad
    if needs_bias:
        grads[2] = grad_output.sum(dim=(0, 2, 3))
    return tuple(grads)
