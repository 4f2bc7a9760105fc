"""Inputs with the padding of a convolution around them."""

import torch
from torch import Tensor

from .scratch import scratch
from .window import Geometry


def padded(input: Tensor, geometry: Geometry, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Return the input with its padding, in a memory format, in memory that is this thread's until it asks again."""
    images, channels, height, width = input.shape
    top, left = geometry.padding
    shape = (images, channels, height + 2 * top, width + 2 * left)
    result = scratch("padded", shape, input.dtype, memory_format).zero_()
    result[:, :, top : top + height, left : left + width] = input
    return result
