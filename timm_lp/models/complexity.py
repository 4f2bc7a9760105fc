"""Parameters and multiply-accumulates of a network, counted without data or arithmetic."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..merge import fold_masks
from ..selection import NormsLeftOut


def to_meta(model: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device, in evaluation mode; the weights are never copied."""
    twins = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in model.parameters()
    }
    buffers = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    return copy.deepcopy(model, {**twins, **buffers}).eval()


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers a network holds as parameters, the masks' included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of a network's convolutions and matrix products for one image.

    Taps that meet only padding, or that a mask has set to 0, count like all others.

    Args:
        model: The network; it is not changed.
        input_size: `(C, H, W)` of the image, pixels.
    """
    on_meta = fold_masks(to_meta(model))  # the layers with masks leave out taps that meet only padding
    dtype = next((parameter.dtype for parameter in on_meta.parameters()), torch.float32)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), NormsLeftOut():
        on_meta(torch.empty(1, *input_size, device="meta", dtype=dtype))
    return counter.get_total_flops() // 2
