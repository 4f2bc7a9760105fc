"""The memory format that torch's convolution gives its output."""

import torch
from torch import Tensor


def memory_format_of(*tensors: Tensor) -> torch.memory_format:
    """Return channels_last where one of the tensors, of four dimensions, is in it by its strides."""
    return torch.channels_last if any(map(_is_channels_last, tensors)) else torch.contiguous_format


def _is_channels_last(tensor: Tensor) -> bool:
    """Tell whether, by the strides, channels vary fastest, then columns, then rows, then images.

    Where an extent is 1, the tensor may be contiguous as well, and torch lets the strides decide.
    """
    strides, shape = tensor.stride(), tensor.shape
    least = 1
    for dim in (1, 3, 2, 0):
        if strides[dim] < least:
            return False
        if dim == 0 and strides[0] == strides[1]:
            return False  # a single pixel of a single channel
        least = strides[dim] * shape[dim]
    return True
