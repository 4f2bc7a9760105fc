"""What `plain_conv2d` computes (Eq. 3), fast on CPUs: one differentiable function that masks and convolves."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .mask import Mask, MaskCache, lp_mask_gradients
from .masked_kernel import MaskedKernel
from .plain import Geometry, plain_conv2d
from .runtime import (
    computes_in_bfloat16,
    in_dispatch_mode,
    in_forward_mode,
    in_function_transform,
    is_batched_gradient,
    memory_format_of,
)
from .schedule import Part, Schedule, make_schedule
from .window import output_size

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_AUTOCAST_DTYPES = (torch.float32, torch.bfloat16)  # what autocast to bfloat16 takes


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    mask_cache: MaskCache,
) -> Tensor:
    """Compute what `plain_conv2d` computes with the fastest operators, and with no more taps than are needed.

    Under autocast, and where the kernel is in bfloat16 itself, input and output are rounded to bfloat16, and they are
    convolved in bfloat16, or in float32 by a CPU that is faster in it. The product with the mask, and the gradients of
    kernel and mask that follow from its gradient, are computed in float32.

    Training makes the masked kernel a few output channels or rows at a time, in the forward pass and again in the
    backward pass, so that the whole of a large one is never in memory. Second derivatives are those of the plain
    formula.

    Args:
        input: Input, shape `(N, C, H, W)`. `can_mask_fast` must hold for all arguments.
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        bias: Bias, shape `(O,)`.
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        geometry: Stride, zero padding, dilation and groups.
        mask_cache: Keeps the mask.

    Returns:
        Output, shape `(N, O, H', W')`.
    """
    if not torch.is_autocast_enabled("cpu"):
        return _convolve_in(input.dtype, input, weight, bias, C, log2p, geometry, mask_cache)
    dtype = torch.float64 if input.dtype is torch.float64 else torch.bfloat16
    torch.set_autocast_enabled("cpu", False)  # the context manager takes longer than a small convolution
    try:
        return _convolve_in(dtype, input, weight, bias, C, log2p, geometry, mask_cache)
    finally:
        torch.set_autocast_enabled("cpu", True)


def _convolve_in(
    dtype: torch.dtype,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    mask_cache: MaskCache,
) -> Tensor:
    """Return the output in a dtype, to which input and bias are rounded, whatever dtype the CPU computes in."""
    input, bias = input.to(dtype), None if bias is None else bias.to(dtype)
    mask = mask_cache.get(C, log2p, (weight.shape[2], weight.shape[3]))
    schedule = make_schedule(
        tuple(input.shape),
        tuple(weight.shape),
        mask.reach,
        mask.all_ones,
        geometry,
        torch.float32 if dtype is torch.bfloat16 and not computes_in_bfloat16() else dtype,
        input_last=memory_format_of(input) is torch.channels_last,
        kernel_last=memory_format_of(weight) is torch.channels_last,
    )
    if not torch.is_grad_enabled():
        return _convolve(input, weight, bias, mask, schedule)
    output: Tensor = _MaskedConv2d.apply(input, weight, bias, C, log2p, mask, schedule)
    return output


def can_mask_fast(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> bool:
    """Tell whether `masked_conv2d` takes these arguments: plain CPU tensors that run eagerly, in a fast dtype.

    They must all be in float32, in float64 or in bfloat16; under autocast to bfloat16, those in float32 and bfloat16
    may be mixed. It takes nothing under torch.compile, torch.export, make_fx, fake tensors, torch.func or forward-mode
    differentiation, under autocast to another dtype, and on another device. Where shapes do not fit it takes nothing
    either, so that torch's own convolution raises its own error.
    """
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or in_dispatch_mode()
        or in_function_transform()
        or in_forward_mode()
    ):
        return False
    tensors = [tensor for tensor in (input, weight, C, log2p, bias) if tensor is not None]
    for tensor in tensors:
        if not (type(tensor) in _PLAIN_TYPES and tensor.is_cpu):
            return False
    dtypes = _dtypes(input.dtype)
    for tensor in tensors:
        if tensor.dtype not in dtypes:
            return False
    return (
        C.dtype is log2p.dtype
        and input.dim() == 4
        and input.numel() > 0
        and input.shape[1] == weight.shape[1] * geometry.groups
        and _fits(input.shape[2:], weight.shape[2:], geometry)
    )


def _dtypes(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Return the dtypes that may meet an input's in a convolution that is fast."""
    if not torch.is_autocast_enabled("cpu") or dtype is torch.float64:
        return (dtype,) if dtype in _DTYPES else ()
    return _AUTOCAST_DTYPES if torch.get_autocast_dtype("cpu") is torch.bfloat16 else ()


@lru_cache(maxsize=4096)
def _fits(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> bool:
    return min(output_size(size, kernel_size, geometry)) > 0


def _masked_kernels(
    weight: Tensor, mask: Tensor, outlier_channels: Tensor | None, schedule: Schedule
) -> list[MaskedKernel]:
    """Return the masked kernel of each part of the schedule."""
    main, outliers = schedule.main, schedule.outliers
    kernels = [MaskedKernel(weight, mask, main.window, main.all_ones, main.kernel_format, schedule.dtype)]
    if outliers is not None and outlier_channels is not None:
        outer_mask = mask[outlier_channels]
        main.window.crop(outer_mask).zero_()
        outer_weight = weight[outlier_channels]
        kernels.append(
            MaskedKernel(outer_weight, outer_mask, outliers.window, False, outliers.kernel_format, schedule.dtype)
        )
    return kernels


def _convolve(input: Tensor, weight: Tensor, bias: Tensor | None, mask: Mask, schedule: Schedule) -> Tensor:
    """Return the output in the input's dtype; it is no view, which torch would not let anyone change in place."""
    pixels, bias = input.to(schedule.dtype), None if bias is None else bias.to(schedule.dtype)
    kernels = _masked_kernels(weight, mask.values, mask.outlier_channels, schedule)
    main, *outliers = (
        part.operators.convolve(pixels, kernel.blocks(part.ranges), bias_of_part, kernel.shape, part.geometry)
        for part, kernel, bias_of_part in zip(schedule.parts, kernels, (bias, None), strict=False)
    )
    for output in outliers:
        main.index_add_(1, mask.outlier_channels, output)  # type: ignore[arg-type] # not None where there are any
    return main.to(input.dtype, memory_format=schedule.output_format).detach()  # some operators return views


class _MaskedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        C: Tensor,
        log2p: Tensor,
        mask: Mask,
        schedule: Schedule,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, C, log2p, mask.values, mask.outlier_channels)
        ctx.norm, ctx.schedule = mask.norm, schedule
        return _convolve(input, weight, bias, mask, schedule)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or in_dispatch_mode() or is_batched_gradient(grad_output):
            return _differentiable_gradients(ctx, grad_output)
        input, weight, C, log2p, mask, outlier_channels = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
        needs_mask = (needs_C or needs_log2p) and mask[0].numel() > 1  # the mask of a single tap is always 1
        schedule: Schedule = ctx.schedule
        pixels, grads_of_all = input.to(schedule.dtype), grad_output.to(schedule.dtype)

        grad_input = grad_weight = grad_mask = grad_C = grad_log2p = None
        kernels = _masked_kernels(weight, mask, outlier_channels, schedule)
        for part, kernel in zip(schedule.parts, kernels, strict=True):
            is_main = part is schedule.main
            grads = grads_of_all if is_main else grads_of_all[:, outlier_channels]
            operators, geometry = part.operators, part.geometry
            if needs_input:
                blocks = kernel.blocks(part.ranges)
                grad = operators.input_gradient(grads, blocks, tuple(input.shape), kernel.shape, geometry)
                grad_input = grad if grad_input is None else grad_input.add_(grad)
            if needs_weight or needs_mask:
                ranges = part.gradient_ranges
                kernel_grads = operators.kernel_gradient(pixels, grads, kernel.shape, ranges, geometry)
                of_weight, of_mask = kernel.gradients(kernel_grads, ranges, needs_weight, needs_mask)
                if is_main:
                    grad_weight, grad_mask = of_weight, of_mask
                else:
                    _add_outliers(of_weight, grad_weight, outlier_channels, schedule.main)
                    _add_outliers(of_mask, grad_mask, outlier_channels, schedule.main)
        if grad_input is not None:
            grad_input = grad_input.to(input.dtype, memory_format=schedule.output_format)
        if grad_mask is not None:
            grad_C, grad_log2p = lp_mask_gradients(grad_mask, mask, C, log2p, ctx.norm)
        elif needs_C or needs_log2p:
            grad_C, grad_log2p = torch.zeros_like(C), torch.zeros_like(log2p)
        return (
            None if grad_input is None else grad_input.detach(),  # some operators return views
            None if grad_weight is None else grad_weight.detach(),
            grad_output.sum(dim=(0, 2, 3)) if needs_bias else None,
            grad_C if needs_C else None,
            grad_log2p if needs_log2p else None,
            None,
            None,
        )


def _add_outliers(grad: Tensor | None, total: Tensor | None, outlier_channels: Tensor, main: Part) -> None:
    """Add the outlier channels' gradient, outside of the main part's taps, to the gradient of all channels."""
    if grad is not None and total is not None:
        main.window.crop(grad).zero_()
        total.index_add_(0, outlier_channels, grad)


@torch.enable_grad()
def _differentiable_gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the plain formula, which can be differentiated again, batched and traced."""
    # Views, so that what the tensors themselves were computed from is not differentiated here.
    input, weight, C, log2p = (tensor.view_as(tensor) for tensor in ctx.saved_tensors[:4])
    needs_input, needs_weight, needs_bias, needs_C, needs_log2p, *_ = ctx.needs_input_grad
    leaves = {0: (input, needs_input), 1: (weight, needs_weight), 3: (C, needs_C), 4: (log2p, needs_log2p)}
    needed = {argument: leaf for argument, (leaf, is_needed) in leaves.items() if is_needed}
    grads: list[Tensor | None] = [None] * 7
    if needed:
        output = plain_conv2d(input, weight, None, C, log2p, ctx.schedule.geometry)
        needed_grads = torch.autograd.grad(output, [*needed.values()], grad_output, create_graph=True)
        for argument, grad in zip(needed, needed_grads, strict=True):
            grads[argument] = grad
    if needs_bias:
        grads[2] = grad_output.sum(dim=(0, 2, 3))
    return tuple(grads)
