"""Mask, product and convolution as one differentiable function (Eq. 3)."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from .kernel_cache import KernelCache
from .lp_mask import lp_mask, lp_mask_gradients
from .mask_cache import MaskCache
from .masked_kernel import MaskedKernel
from .memory_format import memory_format_of
from .operators import Operators, choose_operators
from .slices import slices
from .window import Geometry, Window, cropped_geometry, needed_window, output_size

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
    channels_last = memory_format_of(input, weight) is torch.channels_last
    plan = _make_plan(
        tuple(input.shape), tuple(weight.shape), mask.support, mask.is_one, geometry, channels_last=channels_last
    )
    if torch.is_grad_enabled():
        kept_kernel.clear()
        output: Tensor = _MaskedConv2d.apply(input, weight, bias, C, log2p, mask.values, plan)
        return output
    return _convolve(input, weight, bias, mask.values, plan, kept_kernel)


def can_mask_fast(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> bool:
    """Tell whether `masked_conv2d` takes these: batches of plain CPU tensors in one full-precision dtype, run eagerly.

    It has no rule for what torch.compile and torch.export trace, for torch.func, forward-mode differentiation and
    autocast; no measurements for other devices and dtypes; and leaves it to torch to refuse what does not fit.
    """
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
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


class _Plan(NamedTuple):
    """How to convolve an input of one size with a kernel and mask.

    Attributes:
        geometry: Of the convolution with the whole kernel.
        cropped: Of the convolution with the needed taps.
        window: The needed taps.
        is_one: Whether the mask is 1 there.
        operators: What convolves them.
        blocks: Ranges of output channels to convolve one after the other.
        kernel_format: Memory format of the masked kernel.
        output_format: Memory format of the output, and of the input's gradient.
    """

    geometry: Geometry
    cropped: Geometry
    window: Window
    is_one: bool
    operators: Operators
    blocks: tuple[slice, ...]
    kernel_format: torch.memory_format
    output_format: torch.memory_format


@lru_cache(maxsize=4096)
def _make_plan(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    support: Window,
    is_one: bool,
    geometry: Geometry,
    *,
    channels_last: bool,
) -> _Plan:
    """Return the plan for an input of `size`, `(N, C, H, W)`, and a kernel of `shape`, `(O, I, Kh, Kw)`."""
    window = needed_window(size[2:], support, shape[2:], geometry)
    cropped = cropped_geometry(window, geometry)
    needed = (*shape[:2], window.bottom - window.top, window.right - window.left)
    operators = choose_operators(size, needed, cropped, cropped=needed != shape, channels_last=channels_last)
    output_format = torch.channels_last if channels_last else torch.contiguous_format
    return _Plan(
        geometry,
        cropped,
        window,
        is_one and _is_within(window, support),
        operators,
        tuple(slices(shape[0], operators.block)),
        operators.memory_format or output_format,
        output_format,
    )


def _is_within(inner: Window, outer: Window) -> bool:
    rows = outer.top <= inner.top and inner.bottom <= outer.bottom
    return rows and outer.left <= inner.left and inner.right <= outer.right


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor,
    plan: _Plan,
    kept_kernel: KernelCache | None = None,
) -> Tensor:
    kernel = MaskedKernel(weight, mask, plan.window, plan.is_one, plan.kernel_format)
    kept = None
    if kept_kernel is not None and not plan.is_one:
        kept = kept_kernel.blocks(kernel, plan.blocks, (plan.window, plan.operators.block, plan.kernel_format))
    blocks = kernel.blocks(plan.blocks) if kept is None else iter(kept)
    output = plan.operators.convolve(input, blocks, bias, plan.cropped)
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
        plan: _Plan,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, C, log2p, mask)
        ctx.plan = plan
        return _convolve(input, weight, bias, mask, plan)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(grad_output):
            return _differentiable_gradients(ctx, grad_output)
        input, weight, C, log2p, mask = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
        needs_mask = (needs_C or needs_log2p) and mask[0].numel() > 1  # the mask of a single tap is always 1
        plan: _Plan = ctx.plan
        kernel = MaskedKernel(weight, mask, plan.window, plan.is_one, plan.kernel_format)
        operators, geometry = plan.operators, plan.cropped

        grad_input = grad_weight = grad_mask = grad_C = grad_log2p = None
        if needs_input:
            grad_input = operators.input_gradient(
                grad_output, kernel.blocks(plan.blocks), tuple(input.shape), geometry
            ).contiguous(memory_format=plan.output_format)
        if needs_weight or needs_mask:
            grads = operators.kernel_gradient(input, grad_output, kernel.shape, plan.blocks, geometry)
            grad_weight, grad_mask = kernel.gradients(grads, needs_weight, needs_mask)
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
        )


@torch.enable_grad()
def _differentiable_gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the plain formula, which can be differentiated again, and batched."""
    # Views, so that what the tensors themselves were computed from is not differentiated here.
    input, weight, C, log2p = (tensor.view_as(tensor) for tensor in ctx.saved_tensors[:4])
    needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
    views = {0: (input, needs_input), 1: (weight, needs_weight), 3: (C, needs_C), 4: (log2p, needs_log2p)}
    needed = {place: view for place, (view, needs) in views.items() if needs}
    grads: list[Tensor | None] = [None] * 7
    if needed:
        output = plain_conv2d(input, weight, None, C, log2p, ctx.plan.geometry)
        found = torch.autograd.grad(output, [*needed.values()], grad_output, create_graph=True)
        for place, grad in zip(needed, found, strict=True):
            grads[place] = grad
    if needs_bias:
        grads[2] = grad_output.sum(dim=(0, 2, 3))
    return tuple(grads)
