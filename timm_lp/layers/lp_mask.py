"""The Lp mask of Kwon et al. (ICLR 2025), Eq. 2."""

import math

import torch
from torch import Tensor


def lp_exponent(log2p: Tensor) -> Tensor:
    """Return the exponent p >= 1 of the Lp norm from its trainable logarithm.

    p is `2 ** |log2p|`: below zero the logarithm is reflected instead of clipped, so no optimizer step can bring p
    under 1, the gradient is that of the function that is computed, and it never dies (its slope at 0 is +1).

    Args:
        log2p: Base-2 logarithm of p, any shape.

    Returns:
        p, of the shape of `log2p`, in float32 or wider.
    """
    log2p = log2p.to(torch.promote_types(log2p.dtype, torch.float32))
    return torch.exp2(torch.where(log2p < 0, -log2p, log2p))


def lp_mask(C: Tensor, log2p: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    """Return the Lp mask that multiplies a convolution kernel (Eq. 2).

    `mask[o, 0, h, w] = exp(-sum_i |C[o] @ d(h, w)|_i ** p[o])`, with `d` the offset from the kernel's centre
    `((Kh - 1) / 2, (Kw - 1) / 2)`. Values and gradients are finite for 1 <= p <= 256, the centre included.

    Args:
        C: Inverse width of the mask, shape `(O, 2, 2)`, 1/pixel.
        log2p: Base-2 logarithm of the norm's exponent, shape `(O,)`; see `lp_exponent`.
        kernel_size: `(Kh, Kw)`, pixels.

    Returns:
        Mask in [0, 1], shape `(O, 1, Kh, Kw)`, in float32 or wider; 1 at the centre of an odd kernel.
    """
    dtype = torch.promote_types(C.dtype, torch.float32)
    tiny = torch.finfo(dtype).tiny
    # exp(-x) is 0 beyond -log(tiny) and a few denormals; a finite bound there keeps 0 * inf out of the gradients.
    largest = math.log(-2 * math.log(tiny))

    C = C.to(dtype)
    kernel_height, kernel_width = kernel_size
    dh = torch.arange(kernel_height, dtype=dtype, device=C.device).view(-1, 1) - (kernel_height - 1) / 2
    dw = torch.arange(kernel_width, dtype=dtype, device=C.device).view(1, -1) - (kernel_width - 1) / 2
    # Products and sums, not a matmul: autocast would lower a matmul's precision.
    distance = (C[:, :, 0, None, None] * dh + C[:, :, 1, None, None] * dw).abs()
    p = lp_exponent(log2p).to(dtype).view(-1, 1, 1, 1)
    power = (p * distance.clamp_min(tiny).log()).clamp_max(largest).exp()
    return torch.exp(-power.sum(dim=1, keepdim=True))
