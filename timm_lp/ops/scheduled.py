"""A convolution with a masked kernel, and its gradients, computed on the CPU as a schedule says."""

import torch
from torch import Tensor

from .mask import Mask, lp_mask_gradients
from .masked_kernel import MaskedKernel
from .runtime import computes_in_bfloat16, memory_format_of
from .schedule import Part, Schedule, make_schedule
from .window import Geometry


def schedule_for(input: Tensor, weight: Tensor, mask: Mask, geometry: Geometry) -> Schedule:
    """Return how to convolve an input, shape `(N, C, H, W)`, with a kernel, shape `(O, I, Kh, Kw)`, and its mask."""
    in_float32 = input.dtype is torch.bfloat16 and not computes_in_bfloat16()
    return make_schedule(
        tuple(input.shape),
        tuple(weight.shape),
        mask.reach,
        mask.all_ones,
        geometry,
        torch.float32 if in_float32 else input.dtype,
        input_last=memory_format_of(input) is torch.channels_last,
        kernel_last=memory_format_of(weight) is torch.channels_last,
    )


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None, mask: Mask, schedule: Schedule) -> Tensor:
    """Return the output in the input's dtype; it is no view, which torch would not let anyone change in place."""
    pixels, bias = input.to(schedule.dtype), None if bias is None else bias.to(schedule.dtype)
    kernels = _masked_kernels(weight, mask, schedule)
    main, *outliers = (
        part.operators.convolve(pixels, kernel.blocks(part.ranges), bias_of_part, kernel.shape, part.geometry)
        for part, kernel, bias_of_part in zip(schedule.parts, kernels, (bias, None), strict=False)
    )
    for output in outliers:
        main.index_add_(1, mask.outlier_channels, output)  # type: ignore[arg-type] # not None where there are any
    return main.to(input.dtype).contiguous(memory_format=schedule.output_format).detach()  # some are views


def gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    C: Tensor,
    log2p: Tensor,
    mask: Mask,
    schedule: Schedule,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients in input, weight, `C` and `log2p`, None for those that are not needed."""
    needs_input, needs_weight, needs_C, needs_log2p = needed
    needs_mask = (needs_C or needs_log2p) and mask.values[0].numel() > 1  # the mask of a single tap is always 1
    pixels, grads_of_all = input.to(schedule.dtype), grad_output.to(schedule.dtype)

    grad_input = grad_weight = grad_mask = grad_C = grad_log2p = None
    for part, kernel in zip(schedule.parts, _masked_kernels(weight, mask, schedule), strict=True):
        is_main = part is schedule.main
        grads = grads_of_all if is_main else grads_of_all[:, mask.outlier_channels]
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
                _add_outliers(of_weight, grad_weight, mask, schedule.main)
                _add_outliers(of_mask, grad_mask, mask, schedule.main)
    if grad_input is not None:
        grad_input = grad_input.to(input.dtype).contiguous(memory_format=schedule.output_format)
    if grad_mask is not None:
        grad_C, grad_log2p = lp_mask_gradients(grad_mask, mask.values, C, log2p, mask.norm)
    elif needs_C or needs_log2p:
        grad_C, grad_log2p = torch.zeros_like(C), torch.zeros_like(log2p)
    return (
        None if grad_input is None else grad_input.detach(),  # some operators return views
        None if grad_weight is None else grad_weight.detach(),
        grad_C if needs_C else None,
        grad_log2p if needs_log2p else None,
    )


def _masked_kernels(weight: Tensor, mask: Mask, schedule: Schedule) -> list[MaskedKernel]:
    """Return the masked kernel of each part of the schedule."""
    main, outliers, dtype = schedule.main, schedule.outliers, schedule.dtype
    kernels = [MaskedKernel(weight, mask.values, main.window, main.all_ones, main.kernel_format, dtype)]
    if outliers is not None and mask.outlier_channels is not None:
        outer_mask = mask.values[mask.outlier_channels]
        main.window.crop(outer_mask).zero_()
        outer_weight = weight[mask.outlier_channels]
        kernels.append(MaskedKernel(outer_weight, outer_mask, outliers.window, False, outliers.kernel_format, dtype))
    return kernels


def _add_outliers(grad: Tensor | None, total: Tensor | None, mask: Mask, main: Part) -> None:
    """Add the outlier channels' gradient, outside of the main part's taps, to the gradient of all channels."""
    if grad is not None and total is not None:
        main.window.crop(grad).zero_()
        total.index_add_(0, mask.outlier_channels, grad)  # type: ignore[arg-type] # not None where there are any
