"""The paper's Sudoku network and the variants that it compares (A.5)."""

import math
from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...convert import lp_convert
from ...layers import LpConv2d
from ...variants import BASE, PAPER, REINIT, variant_prefix
from .config import CONVERSIONS, INPUTS, VARIANT_NAMES


class SudokuNet(nn.Module):
    """The base network: blocks of a 3x3 convolution behind reflection padding, and a 1x1 convolution to nine digits.

    Args:
        channels: Channels of each block; the paper has 256.
        depth: Number of blocks; the paper has 10.
        inputs: `"scalar"` for one channel with the digit as a number from -0.5 (blank) to 0.5, as the authors do, or
            `"one-hot"` for ten channels.

    Shape:
        Puzzles `(N, 9, 9)`, digits 0-9 as integers, to logits of the digits 1-9, `(N, 9, 9, 9)`, digits first.

    Raises:
        ValueError: If `channels` or `depth` is not positive, or there is no such input.
    """

    def __init__(self, channels: int = 256, depth: int = 10, inputs: str = "scalar") -> None:
        for name, value in (("channels", channels), ("depth", depth)):
            if value < 1:
                raise ValueError(f"`{name}` must be positive, got {value}. The paper's networks have 256 and 10.")
        if inputs not in INPUTS:
            raise ValueError(f"`inputs` must be {' or '.join(INPUTS)}, got {inputs!r}.")
        super().__init__()
        self.inputs = inputs
        widths = [1 if inputs == "scalar" else 10] + depth * [channels]
        self.blocks = nn.Sequential(*(_block(*pair) for pair in pairwise(widths)))
        self.head = nn.Conv2d(channels, 9, 1)

    @property
    def convs(self) -> list[nn.Conv2d]:
        """The convolutions of the blocks, the paper's layers 1 to `depth`."""
        return [block.get_submodule("conv") for block in self.blocks]  # type: ignore[misc] # Conv2d, each of them

    def forward(self, puzzles: Tensor) -> Tensor:
        """Return logits `(N, 9, 9, 9)` of puzzles `(N, 9, 9)`."""
        return self.head(self.blocks(self._encode(puzzles)))

    def _encode(self, puzzles: Tensor) -> Tensor:
        dtype = self.head.weight.dtype
        if self.inputs == "scalar":
            return puzzles[:, None].to(dtype) / 9 - 0.5
        digits = torch.arange(10, device=puzzles.device)[:, None, None]
        return (puzzles[:, None] == digits).to(dtype)


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            pad=nn.ReflectionPad2d(1),
            conv=nn.Conv2d(in_channels, out_channels, 3),
            norm=nn.BatchNorm2d(out_channels),
            act=nn.ReLU(inplace=True),
        )
    )


def create_network(variant: str, channels: int = 256, depth: int = 10, inputs: str = "scalar") -> SudokuNet:
    """Return a new network: the base network, or what a variant makes of it.

    The conversion takes all convolutions, as the authors' does: 3x3 becomes 7x7, the last 1x1 becomes 3x3, and the
    padding grows by zeros around the reflected ring. With one state of torch's generator all variants start as one
    function, but for `-paper`, where the masks damp the base network's kernels, and `-reinit`. Taps outside the small
    kernel start at 0; in the authors' Sudoku code they start at random, as in `large-reinit`.

    Args:
        variant: One of `VARIANT_NAMES`.
        channels: See `SudokuNet`.
        depth: See `SudokuNet`.
        inputs: See `SudokuNet`.

    Raises:
        ValueError: If there is no such variant or network.
    """
    if variant not in VARIANT_NAMES:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANT_NAMES)}, got {variant!r}.")
    network = SudokuNet(channels, depth, inputs)
    if variant == BASE:
        return network
    prefix = variant_prefix(variant)
    options = {"preserve": False} if variant == prefix + PAPER else {}
    lp_convert(network, filter_fn=lambda module, fqn: True, **CONVERSIONS[prefix].conversion, **options)
    if variant == prefix + REINIT:
        for conv in (*network.convs, network.head):
            conv.reset_parameters()
    return network


@torch.no_grad()
def keep_exponents(network: nn.Module, lowest: float = 2.0) -> None:
    """Raise the masks' exponents p that are below the lowest one allowed to it, as the paper does (A.5: p >= 2).

    Call it after each optimizer step.
    """
    for module in network.modules():
        if isinstance(module, LpConv2d):
            module.log2p.clamp_(min=math.log2(lowest))
