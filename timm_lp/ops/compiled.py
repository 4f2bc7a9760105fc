"""What `fast` computes, as operators of torch's library: torch.compile calls them as they are, forward and backward.

What torch.export and torch.jit.trace record has to run without this package, and is the plain formula.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from .fast import in_autocast_dtype, is_fast_on_cpus, plain_conv2d_gradients
from .mask import Mask, MaskCache
from .runtime import in_forward_mode, in_function_transform, memory_format_of
from .schedule import Schedule
from .scheduled import convolve, gradients, schedule_for
from .window import Geometry


def can_compile(input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor) -> bool:
    """Tell whether torch.compile sees these arguments of `compiled_conv2d`, on a CPU and in fast dtypes."""
    return (
        torch.compiler.is_dynamo_compiling()
        and not torch.compiler.is_exporting()
        and not in_function_transform()
        and not in_forward_mode()
        and is_fast_on_cpus(input, weight, bias, C, log2p)
    )


def compiled_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> Tensor:
    """Compute what `masked_conv2d` computes, with its arguments; the mask is kept for as long as there is `C`."""
    return _masked_conv2d(input, weight, bias, C, log2p, *geometry)


_caches = WeakIdKeyDictionary()  # of masks, by `C`


def _planned(input: Tensor, weight: Tensor, C: Tensor, log2p: Tensor, *geometry: Any) -> tuple[Mask, Schedule]:
    """Return the mask, and how to convolve with it."""
    cache = _caches.get(C)
    if cache is None:
        cache = _caches[C] = MaskCache()
    mask = cache.get(C, log2p, (weight.shape[2], weight.shape[3]))
    stride, padding, dilation, groups = geometry
    return mask, schedule_for(input, weight, mask, Geometry(tuple(stride), tuple(padding), tuple(dilation), groups))


@torch.library.custom_op("timm_lp::masked_conv2d", mutates_args=(), device_types="cpu")
def _masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return convolve(input, weight, bias, *_planned(input, weight, C, log2p, stride, padding, dilation, groups))


@_masked_conv2d.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, *geometry: Any) -> Tensor:
    output = F.conv2d(input, weight.to(input.dtype), bias, *geometry)  # for its shape, and torch's own errors
    return torch.empty_like(output, memory_format=memory_format_of(input, weight))


@torch.library.impl("timm_lp::masked_conv2d", "AutocastCPU")
def _(input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        input, bias = in_autocast_dtype(input, bias)
        return _masked_conv2d(input, weight, bias, *arguments)


@torch.library.custom_op("timm_lp::masked_conv2d_backward", mutates_args=(), device_types="cpu")
def _masked_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    C: Tensor,
    log2p: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> list[Tensor]:
    """Return the needed ones of the gradients in input, weight, `C` and `log2p`."""
    planned = _planned(input, weight, C, log2p, stride, padding, dilation, groups)
    grads = gradients(grad_output, input, weight, C, log2p, *planned, tuple(needed))
    return [grad for grad in grads if grad is not None]


@_masked_conv2d_backward.register_fake
def _(grad_output: Tensor, input: Tensor, weight: Tensor, C: Tensor, log2p: Tensor, *arguments: Any) -> list[Tensor]:
    grad_input = torch.empty_like(input, memory_format=memory_format_of(input, weight))
    grads = [grad_input, *map(torch.empty_like, (weight, C, log2p))]
    return [grad for grad, is_needed in zip(grads, arguments[-1], strict=True) if is_needed]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, _, C, log2p, *ctx.geometry = inputs
    ctx.save_for_backward(input, weight, C, log2p)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    input, weight, C, log2p = ctx.saved_tensors
    needs_input, needs_weight, needs_bias, *needs_mask = ctx.needs_input_grad[:5]
    needed = (needs_input, needs_weight, *needs_mask)
    if torch.is_grad_enabled():
        grads = plain_conv2d_gradients(grad_output, input, weight, C, log2p, Geometry(*ctx.geometry), needed)
    else:
        found = iter(_masked_conv2d_backward(grad_output, input, weight, C, log2p, *ctx.geometry, needed))
        grads = tuple(next(found) if is_needed else None for is_needed in needed)
    grad_bias = grad_output.sum(dim=(0, 2, 3)) if needs_bias else None
    return *grads[:2], grad_bias, *grads[2:], None, None, None, None


_masked_conv2d.register_autograd(_differentiate, setup_context=_save)
