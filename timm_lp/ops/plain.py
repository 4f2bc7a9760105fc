"""Lp-convolution as the paper writes it (Kwon et al., ICLR 2025): the mask of Eq. 2, the convolution of Eq. 3.

torch runs this when it compiles, exports or transforms a layer. In eager mode, `kernel` computes the same with fewer
operations on every device, and `fast` sooner on CPUs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import Geometry


def lp_exponent(log2p: Tensor) -> Tensor:
    """Return the exponent p >= 1 of the Lp norm from its trainable logarithm.

    p is `2 ** |log2p|`. A logarithm below zero is reflected, so no optimizer step can bring p under 1. Clipping would
    stop its gradient. The slope of `|log2p|` at 0 is taken as +1.

    Args:
        log2p: Base-2 logarithm of p, any shape.

    Returns:
        p, of the shape of `log2p`, in float32 or wider.
    """
    log2p = log2p.to(torch.promote_types(log2p.dtype, torch.float32))
    return torch.exp2(torch.where(log2p < 0, -log2p, log2p))


def lp_mask(C: Tensor, log2p: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Return the Lp mask that multiplies a convolution kernel (Eq. 2).

    `mask[o, 0, h, w] = exp(-sum_i |C[o] @ d(h, w)|_i ** p[o])`, with `d` the offset from the kernel's centre
    `((Kh - 1) / 2, (Kw - 1) / 2)`. Values and gradients are finite for 1 <= p <= 256, the centre included. Values far
    below the dtype's rounding step, under 2**-40 in float32, are set to 0, so that the taps there need not be
    convolved: a rounded sum would not show them beside the 1 in the centre.

    Args:
        C: Inverse width of the mask, shape `(O, 2, 2)`, 1/pixel.
        log2p: Base-2 logarithm of the norm's exponent, shape `(O,)`; see `lp_exponent`.
        kernel_size: `(Kh, Kw)`, pixels.

    Returns:
        Mask in [0, 1], shape `(O, 1, Kh, Kw)`, in float32 or wider; 1 at the centre of an odd kernel.
    """
    norm = lp_norm(C, log2p, kernel_size)  # |C @ d|_i ** p of each tap and each i
    return mask_of(norm, kernel_size)  # exp(-their sum over i)


def plain_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, C: Tensor, log2p: Tensor, geometry: Geometry
) -> Tensor:
    """Convolve with a masked kernel (Eq. 3).

    Args:
        input: Input, shape `(N, C, H, W)`.
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        bias: Bias, shape `(O,)`.
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        geometry: Stride, zero padding, dilation and groups.

    Returns:
        Output, shape `(N, O, H', W')`.
    """
    mask = lp_mask(C, log2p, (weight.shape[2], weight.shape[3]))
    return F.conv2d(input, (weight * mask).to(input.dtype), bias, *geometry)


@torch.enable_grad()
def plain_gradients(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...], needed: tuple[bool, ...], grad_output: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the needed gradients of a plain function, which can be differentiated again, batched and traced.

    Args:
        function: The function of all tensors.
        tensors: Its arguments.
        needed: Whether the gradient of each is needed.
        grad_output: Gradient of the loss in the function's value.
    """
    # Views, so that what the tensors themselves were computed from is not differentiated here.
    leaves = [tensor.view_as(tensor) for tensor in tensors]
    wanted = [leaf for leaf, is_needed in zip(leaves, needed, strict=True) if is_needed]
    if not wanted:
        return (None,) * len(leaves)
    grads = iter(torch.autograd.grad(function(*leaves), wanted, grad_output, create_graph=True))
    return tuple(next(grads) if is_needed else None for is_needed in needed)


class LpNorm(NamedTuple):
    """The Lp norm of offsets from a kernel's centre, and the steps of its computation.

    Opposite offsets have the same norm, so this holds the first `T = (Kh * Kw + 1) // 2` taps, row by row; the others
    are the same in reverse order.

    Attributes:
        offsets: Offsets along the height and the width, shape `(2, T)`, pixels.
        projection: `C @ d`, shape `(O, 2, T)`.
        log2_distance: Base-2 logarithm of its absolute value, finite where that is 0.
        p: Exponent, shape `(O, 1, 1)`.
        power: `|C @ d| ** p`, shape `(O, 2, T)`.
    """

    offsets: Tensor
    projection: Tensor
    log2_distance: Tensor
    p: Tensor
    power: Tensor


def lp_norm(C: Tensor, log2p: Tensor, kernel_size: tuple[int, int], offsets: Tensor | None = None) -> LpNorm:
    """Return the Lp norm of offsets from the centre of a kernel.

    Args:
        C: As in `lp_mask`.
        log2p: As in `lp_mask`.
        kernel_size: `(Kh, Kw)`, pixels.
        offsets: The kernel's `offsets_of`, None to compute them.
    """
    dtype = torch.promote_types(C.dtype, torch.float32)
    tiny, _ = _tiny_and_eps(dtype)
    # exp(-x) is 0 beyond -log(tiny) and a few denormals; a finite bound there keeps 0 * inf out of the gradients.
    largest = math.log(-2 * math.log(tiny)) / math.log(2)

    if offsets is None:
        offsets = offsets_of(kernel_size, dtype, C.device)
    (dh, dw), (of_dh, of_dw) = offsets.unbind(), C.to(dtype).split(1, dim=2)
    # Products and sums, not a matmul: autocast would lower a matmul's precision.
    projection = torch.addcmul(of_dh * dh, of_dw, dw)
    log2_distance = projection.abs().clamp_min(tiny).log2()
    p = lp_exponent(log2p).to(dtype).view(-1, 1, 1)
    power = torch.exp2((p * log2_distance).clamp_max(largest))  # torch's exp takes twice as long
    return LpNorm(offsets, projection, log2_distance, p, power)


def offsets_of(kernel_size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the offsets of the first half of a kernel's taps from its centre, as in `LpNorm`."""
    kernel_height, kernel_width = kernel_size
    tap = torch.arange((kernel_height * kernel_width + 1) // 2, device=device)
    dh = tap.div(kernel_width, rounding_mode="floor").to(dtype) - (kernel_height - 1) / 2
    dw = (tap % kernel_width).to(dtype) - (kernel_width - 1) / 2
    return torch.stack([dh, dw])


def mask_of(norm: LpNorm, kernel_size: tuple[int, int]) -> Tensor:
    """Return the mask of a kernel of this size from its Lp norm (see `lp_mask`)."""
    first, second = norm.power.unbind(dim=1)
    half = torch.exp2((first + second) * (-1 / math.log(2)))
    half = F.threshold(half, least_mask(half.dtype), 0.0)
    height, width = kernel_size
    mirrored = half[:, : height * width // 2].flip(1)
    return torch.cat([half, mirrored], dim=1).view(-1, 1, height, width)


def least_mask(dtype: torch.dtype) -> float:
    """Return the value up to which a mask is set to 0: a rounded sum would not show it."""
    _, eps = _tiny_and_eps(dtype)
    return 2.0**-17 * eps


def _tiny_and_eps(dtype: torch.dtype) -> tuple[float, float]:
    """Return `torch.finfo`'s of float32 or float64, which `torch.jit.script` cannot ask."""
    return (2.0**-1022, 2.0**-52) if dtype == torch.float64 else (2.0**-126, 2.0**-23)
