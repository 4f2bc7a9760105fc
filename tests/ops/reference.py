"""Eq. 2 and Eq. 3 of the paper, loop by loop in float64: the oracle of the layer tests, with autograd's gradients."""

import torch
from torch import Tensor


def lp_mask_reference(C: Tensor, log2p: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Return Eq. 2, shape `(O, 1, Kh, Kw)`, with p = 2 ** |log2p| and |0| ** p = 0, also in the gradient."""
    height, width = kernel_size
    mask = []
    for o in range(len(log2p)):
        p = 2 ** (-log2p[o] if log2p[o] < 0 else log2p[o])
        for h in range(height):
            for w in range(width):
                dh, dw = h - (height - 1) / 2, w - (width - 1) / 2
                norm = torch.zeros((), dtype=torch.float64)
                for i in range(2):
                    distance = (C[o, i, 0] * dh + C[o, i, 1] * dw).abs()
                    if distance > 0:
                        norm = norm + distance**p
                mask.append(torch.exp(-norm))
    return torch.stack(mask).view(len(log2p), 1, height, width)


def lp_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    C: Tensor,
    log2p: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Return Eq. 3, shape `(N, O, H', W')`, for zero padding `((top, bottom), (left, right))`, pixels."""
    out_channels, group_in, *kernel_size = weight.shape
    mask = lp_mask_reference(C, log2p, (kernel_size[0], kernel_size[1]))
    size = [
        (x.shape[2 + i] + sum(padding[i]) - dilation[i] * (kernel_size[i] - 1) - 1) // stride[i] + 1 for i in range(2)
    ]
    outputs = []
    for o in range(out_channels):
        first_in = o // (out_channels // groups) * group_in
        for row in range(size[0]):
            for column in range(size[1]):
                total = x.new_zeros(len(x)) if bias is None else bias[o].expand(len(x))
                for i in range(group_in):
                    for h in range(kernel_size[0]):
                        for w in range(kernel_size[1]):
                            y = row * stride[0] + h * dilation[0] - padding[0][0]
                            z = column * stride[1] + w * dilation[1] - padding[1][0]
                            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                                total = total + mask[o, 0, h, w] * weight[o, i, h, w] * x[:, first_in + i, y, z]
                outputs.append(total)
    return torch.stack(outputs, dim=1).view(len(x), out_channels, *size)
