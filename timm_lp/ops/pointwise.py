"""Convolutions with a single tap as products of matrices, image by image and block by block (see `operators`)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .masked_kernel import Block, Range
from .window import Geometry


def convolve(
    input: Tensor, blocks: Iterable[Block], bias: Tensor | None, shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the output."""
    pixels = input.flatten(2)
    products = [_multiply(kernel.flatten(1), pixels) for _, kernel in blocks]
    output = products[0] if len(products) == 1 else torch.cat(products, dim=1)
    if bias is not None:
        output += bias.view(-1, 1)
    return output.view(len(input), shape[0], *input.shape[2:])


def input_gradient(
    grad_output: Tensor, blocks: Iterable[Block], size: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    """Return the input's gradient."""
    grads = grad_output.flatten(2)
    products = (_multiply(kernel.flatten(1).t(), grads[:, channels]) for (channels, _), kernel in blocks)
    total = next(products)
    for product in products:
        total += product
    return total.view(size)


def kernel_gradient(
    input: Tensor, grad_output: Tensor, shape: tuple[int, ...], ranges: Iterable[Range], geometry: Geometry
) -> Iterator[Tensor]:
    """Return the kernel's gradient, block by block: the sum over the images."""
    pixels, grads = input.flatten(2), grad_output.flatten(2)
    for channels, _ in ranges:
        total = grads[0, channels] @ pixels[0].t()
        for image in range(1, len(input)):
            total.addmm_(grads[image, channels], pixels[image].t())
        yield total.view(-1, shape[1], 1, 1)


def _multiply(matrix: Tensor, pixels: Tensor) -> Tensor:
    """Return `matrix @ pixels` image by image; `torch.matmul` would move the images' pixels into one matrix first."""
    return torch.bmm(matrix.expand(len(pixels), -1, -1), pixels)
