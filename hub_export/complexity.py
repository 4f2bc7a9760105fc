"""Parameters and multiply-accumulates of a network, counted without data or arithmetic."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        parameters: Numbers that it holds, the masks' included.
        macs: Multiply-accumulates of its convolutions and matrix products for one image.
    """

    parameters: int
    macs: int


def to_meta(model: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device, in evaluation mode; the weights are never copied."""
    twins = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in model.parameters()
    }
    buffers = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    return copy.deepcopy(model, {**twins, **buffers}).eval()


def complexity(model: nn.Module, input_size: tuple[int, ...]) -> Complexity:
    """Count a network's parameters and multiply-accumulates.

    Args:
        model: The network; it is not changed.
        input_size: `(C, H, W)` of an image, pixels.

    Returns:
        The counts. Taps that meet only padding, or that a mask has set to 0, count like all others.
    """
    on_meta = to_meta(model)
    dtype = next((p.dtype for p in on_meta.parameters()), torch.float32)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        on_meta(torch.empty(1, *input_size, device="meta", dtype=dtype))
    return Complexity(sum(p.numel() for p in on_meta.parameters()), counter.get_total_flops() // 2)
