"""Eq. 3 on every device: the needed taps of a kernel, masked in few operations, and torch's own convolution."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .plain import least_mask, lp_mask, plain_gradients
from .runtime import PLAIN_TYPES, in_dispatch_mode, is_batched_gradient, is_traced, without_autocast
from .window import Geometry, Window, cropped_geometry, pixel_window


def lp_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> Tensor:
    """Compute what `plain_conv2d` computes, with its arguments, without the taps that meet only padding."""
    window = pixel_window(input, weight, geometry)
    kernel = mask_weight(weight, C, log2p, window).to(weight.dtype)
    return F.conv2d(input, kernel, bias, *cropped_geometry(window, geometry))


def mask_weight(weight: Tensor, C: Tensor, log2p: Tensor, window: Window) -> Tensor:
    """Return `weight * lp_mask(C, log2p)` at the taps of a window, in float32 or wider.

    In eager mode this is one differentiable function of few operations. Its second derivatives, and what is traced or
    transformed, are those of the plain formula.

    Args:
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        window: The taps.
    """
    if is_traced() or not all(type(tensor) in PLAIN_TYPES for tensor in (weight, C, log2p)):
        return _plain_kernel(weight, C, log2p, window)
    return apply_mask(weight, C, log2p, window, make_steps(weight, C, log2p, window))


def _plain_kernel(weight: Tensor, C: Tensor, log2p: Tensor, window: Window) -> Tensor:
    return window.crop(weight) * window.crop(lp_mask(C, log2p, (weight.shape[2], weight.shape[3])))


class Steps(NamedTuple):
    """The steps of `lp_mask` at the taps of a window.

    Attributes:
        projection: `C @ d`, shape `(O, 2, taps)`.
        distance: Its absolute value.
        p: Exponent, shape `(O, 1, 1)`.
        power: `distance ** p`.
        mask: The mask, shape `(O, 1, height, width)`.
    """

    projection: Tensor
    distance: Tensor
    p: Tensor
    power: Tensor
    mask: Tensor


@torch.no_grad()
def make_steps(weight: Tensor, C: Tensor, log2p: Tensor, window: Window) -> Steps:
    """Return the mask of a kernel, shape `(O, I, Kh, Kw)`, in few operations; the arguments are `mask_weight`'s."""
    dtype = torch.promote_types(C.dtype, torch.float32)
    (dh, dw), (of_dh, of_dw) = _constants(weight, window, dtype).offsets.unbind(), C.to(dtype).split(1, dim=2)
    projection = torch.addcmul(of_dh * dh, of_dw, dw)
    distance = projection.abs()
    p = log2p.to(dtype).abs().exp2().view(-1, 1, 1)
    power = distance.pow(p)
    mask = torch.pow(math.exp(-1), power.sum(dim=1))  # in one operation less than exp(-sum)
    mask = F.threshold(mask, least_mask(dtype), 0.0).view(-1, 1, *window.size)
    return Steps(projection, distance, p, power, mask)


def apply_mask(weight: Tensor, C: Tensor, log2p: Tensor, window: Window, steps: Steps) -> Tensor:
    """Return what `mask_weight` returns, from the steps of its mask, in eager mode."""
    kernel: Tensor = _MaskedKernel.apply(weight, C, log2p, window, steps)
    return kernel


class _MaskedKernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, C: Tensor, log2p: Tensor, window: Window, steps: Steps) -> Tensor:
        ctx.save_for_backward(weight, C, log2p, *steps)
        ctx.window = window
        return window.crop(weight) * steps.mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, C, log2p, projection, distance, p, power, mask = ctx.saved_tensors
        window, needed = ctx.window, ctx.needs_input_grad[:3]
        if torch.is_grad_enabled() or is_batched_gradient(grad):
            return *plain_gradients(partial(_plain_kernel, window=window), (weight, C, log2p), needed, grad), None, None
        grad_weight = _weight_gradient(grad, mask, weight, window) if needed[0] else None
        if not any(needed[1:]):
            return grad_weight, None, None, None, None
        constants = _constants(weight, window, p.dtype)
        grad_mask = (grad * window.crop(weight)).sum(dim=1, keepdim=True)
        # |z| ** p / z is no number at z = 0, where the mask's slope is taken as 0, and infinite far out, where it is.
        ratio = (power / projection).nan_to_num_()
        minus_grad = (grad_mask * mask).flatten(2) * p * ratio  # in the projection
        with without_autocast(grad.device):
            grad_C = minus_grad @ constants.minus_offsets
        minus_grad_of_log_p = torch.xlogy(minus_grad * projection, distance).sum(dim=(1, 2))
        grad_log2p = minus_grad_of_log_p * torch.where(log2p < 0, *constants.minus_slopes)
        return grad_weight, grad_C.to(C.dtype), grad_log2p.to(log2p.dtype), None, None


def _weight_gradient(grad: Tensor, mask: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return the gradient of the whole weight from that of the masked kernel at a window's taps."""
    product = (grad * mask).to(weight.dtype)
    if window.size == weight.shape[2:]:
        return product
    whole = torch.zeros_like(weight)
    window.crop(whole).copy_(product)
    return whole


class _Constants(NamedTuple):
    """What depends on a kernel's size alone, on a device.

    Attributes:
        offsets: Offsets of the needed taps from the kernel's centre, shape `(2, taps)`, pixels.
        minus_offsets: Minus their transpose.
        minus_slopes: Minus the slope of `ln(p)` in `log2p`, for `log2p` below 0, and from 0 on.
    """

    offsets: Tensor
    minus_offsets: Tensor
    minus_slopes: tuple[Tensor, Tensor]


_MOST_KEPT = 1024  # images of ever new sizes need ever new windows
_kept: dict[Any, _Constants] = {}


def _constants(weight: Tensor, window: Window, dtype: torch.dtype) -> _Constants:
    """Return the constants in a dtype. They are copied to the weight's device once: no later call waits for that."""
    kernel_size = tuple(weight.shape[2:])
    key = kernel_size, window, dtype, weight.device
    constants = _kept.get(key)
    if constants is None:
        with torch.inference_mode(False):  # what inference mode makes could not be saved outside of it
            constants = _make_constants(kernel_size, window, dtype, weight.device)
        if not in_dispatch_mode():  # which might have made something else of them
            if len(_kept) >= _MOST_KEPT:
                _kept.clear()
            _kept[key] = constants
    return constants


def _make_constants(
    kernel_size: tuple[int, ...], window: Window, dtype: torch.dtype, device: torch.device
) -> _Constants:
    (height, width), (top, bottom, left, right) = kernel_size, window
    dh = torch.arange(top, bottom, dtype=dtype, device="cpu") - (height - 1) / 2
    dw = torch.arange(left, right, dtype=dtype, device="cpu") - (width - 1) / 2
    offsets = torch.stack(torch.meshgrid(dh, dw, indexing="ij")).flatten(1).to(device)
    below, above = torch.tensor([math.log(2), -math.log(2)], dtype=dtype, device="cpu").to(device).unbind()
    return _Constants(offsets, -offsets.t(), (below, above))
