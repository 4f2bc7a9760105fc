"""Convolutions by torch's own operator, block by block (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .masked_kernel import Block, Range
from .runtime import memory_format_of
from .window import Geometry


def convolve(
    input: Tensor, blocks: Iterable[Block], bias: Tensor | None, shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the output."""
    outputs = [
        F.conv2d(input, kernel, None if bias is None else bias[channels], *geometry) for (channels, _), kernel in blocks
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def input_gradient(
    grad_output: Tensor, blocks: Iterable[Block], size: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the input's gradient: the sum over the blocks, in float32 or wider until it is complete."""
    grads = (input_gradient_of(kernel, grad_output[:, channels], size, geometry) for (channels, _), kernel in blocks)
    total = first = next(grads)
    for grad in grads:
        if total is first:
            total = first.to(torch.promote_types(first.dtype, torch.float32))
        total += grad
    return total.to(first.dtype)


def kernel_gradient(
    input: Tensor,
    grad_output: Tensor,
    shape: tuple[int, ...],
    ranges: Iterable[Range],
    geometry: Geometry,
    memory_format: torch.memory_format | None = None,
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block, computed in a memory format, or in the input's."""
    memory_format = memory_format or memory_format_of(input)
    input = input.contiguous(memory_format=memory_format)
    for channels, _ in ranges:
        grad = grad_output[:, channels]
        kernel = torch.empty((grad.shape[1], *shape[1:]), dtype=grad.dtype, memory_format=memory_format)
        yield _gradients(grad, input, kernel, geometry, wanted=[False, True, False])[1]


def input_gradient_of(kernel: Tensor, grad_output: Tensor, size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """Return the input's gradient by a whole kernel, shape `(O, I, Kh, Kw)`, for an input of a size."""
    input = torch.empty(size, dtype=grad_output.dtype, memory_format=memory_format_of(kernel, grad_output))
    return _gradients(grad_output, input, kernel, geometry, wanted=[True, False, False])[0]


def _gradients(
    grad_output: Tensor, input: Tensor, kernel: Tensor, geometry: Geometry, *, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """Return the wanted gradients of input, kernel and bias; of what has the wanted gradient only the shape counts.

    torch.nn.grad does the same with a tensor of one number, expanded, which the operator copies to its whole size.
    """
    stride, padding, dilation, groups = geometry
    arguments = (None, stride, padding, dilation, False, [0, 0], groups, wanted)
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(grad_output, input, kernel, *arguments)
    return gradients
