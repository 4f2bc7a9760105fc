"""What `plain_conv2d` computes (Eq. 3), fast on CPUs: one differentiable function that masks and convolves."""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernel import apply_mask, make_steps
from .mask import Mask, MaskCache
from .operators import few_operations_are_fast
from .plain import plain_conv2d, plain_gradients
from .runtime import PLAIN_TYPES, in_dispatch_mode, is_batched_gradient, is_traced
from .schedule import Schedule
from .scheduled import convolve, gradients, schedule_for
from .window import Geometry, cropped_geometry, output_size, pixel_window

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
        if torch.is_grad_enabled() and few_operations_are_fast(input, weight, geometry):
            window = pixel_window(input, weight, geometry)
            steps = make_steps(weight, C, log2p, window)
            if steps.mask.amin() > 0:  # or there are taps to leave out
                kernel = apply_mask(weight, C, log2p, window, steps)
                return F.conv2d(input, kernel, bias, *cropped_geometry(window, geometry))
        return _masked_conv2d(input, weight, bias, C, log2p, geometry, mask_cache)
    input, bias = in_autocast_dtype(input, bias)
    torch.set_autocast_enabled("cpu", False)  # the context manager takes longer than a small convolution
    try:
        return _masked_conv2d(input, weight, bias, C, log2p, geometry, mask_cache)
    finally:
        torch.set_autocast_enabled("cpu", True)


def in_autocast_dtype(input: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return input and bias in the dtype to which autocast rounds them."""
    dtype = torch.float64 if input.dtype is torch.float64 else torch.bfloat16
    return input.to(dtype), None if bias is None else bias.to(dtype)


def _masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    mask_cache: MaskCache,
) -> Tensor:
    mask = mask_cache.get(C, log2p, (weight.shape[2], weight.shape[3]))
    schedule = schedule_for(input, weight, mask, geometry)
    if not torch.is_grad_enabled():
        return convolve(input, weight, bias, mask, schedule)
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
    return (
        not is_traced()
        and not in_dispatch_mode()
        and is_fast_on_cpus(input, weight, bias, C, log2p)
        and input.numel() > 0
        and input.shape[1] == weight.shape[1] * geometry.groups
        and _fits(input.shape[2:], weight.shape[2:], geometry)
    )


def is_fast_on_cpus(input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor) -> bool:
    """Tell whether these are plain CPU tensors, a batch of maps among them, in dtypes that are fast together."""
    tensors = [tensor for tensor in (input, weight, C, log2p, bias) if tensor is not None]
    for tensor in tensors:
        if not (type(tensor) in PLAIN_TYPES and tensor.is_cpu):
            return False
    dtypes = _dtypes(input.dtype)
    for tensor in tensors:
        if tensor.dtype not in dtypes:
            return False
    return C.dtype is log2p.dtype and input.dim() == 4


def _dtypes(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Return the dtypes that may meet an input's in a convolution that is fast."""
    if not torch.is_autocast_enabled("cpu") or dtype is torch.float64:
        return (dtype,) if dtype in _DTYPES else ()
    return _AUTOCAST_DTYPES if torch.get_autocast_dtype("cpu") is torch.bfloat16 else ()


@lru_cache(maxsize=4096)
def _fits(size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry) -> bool:
    return min(output_size(size, kernel_size, geometry)) > 0


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
        ctx.of_mask, ctx.schedule = (mask.reach, mask.all_ones, mask.norm), schedule
        return convolve(input, weight, bias, mask, schedule)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, C, log2p, values, outlier_channels = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *needs_mask = ctx.needs_input_grad[:5]
        needed = (needs_input, needs_weight, *needs_mask)
        if torch.is_grad_enabled() or in_dispatch_mode() or is_batched_gradient(grad_output):
            grads = plain_conv2d_gradients(grad_output, input, weight, C, log2p, ctx.schedule.geometry, needed)
        else:
            reach, all_ones, norm = ctx.of_mask
            mask = Mask(values, reach, all_ones, norm, outlier_channels)
            grads = gradients(grad_output, input, weight, C, log2p, mask, ctx.schedule, needed)
        grad_bias = grad_output.sum(dim=(0, 2, 3)) if needs_bias else None
        return *grads[:2], grad_bias, *grads[2:], None, None


def plain_conv2d_gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    C: Tensor,
    log2p: Tensor,
    geometry: Geometry,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return what `gradients` returns, from the plain formula."""

    def convolve(input: Tensor, weight: Tensor, C: Tensor, log2p: Tensor) -> Tensor:
        return plain_conv2d(input, weight, None, C, log2p, geometry)

    return plain_gradients(convolve, (input, weight, C, log2p), needed, grad_output)
