"""Convolutions by torch's own operator, block by block (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from .masked_kernel import Block
from .window import Geometry


def convolve(input: Tensor, blocks: Iterable[Block], bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return the output."""
    outputs = [
        F.conv2d(input, kernel, None if bias is None else bias[channels], *geometry) for channels, kernel in blocks
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def input_gradient(grad_output: Tensor, blocks: Iterable[Block], size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return the input's gradient: the sum over the blocks, in float32 or wider until it is complete."""
    grads = (conv2d_input(size, kernel, grad_output[:, channels], *geometry) for channels, kernel in blocks)
    total = first = next(grads)
    for grad in grads:
        if total is first:
            total = first.to(torch.promote_types(first.dtype, torch.float32))
        total += grad
    return total.to(first.dtype)


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], ranges: Iterable[slice], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block."""
    for channels in ranges:
        grad = grad_output[:, channels]
        yield conv2d_weight(input, (grad.shape[1], *shape[1:]), grad, *geometry)
