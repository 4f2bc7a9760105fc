"""The network, the variants that the paper compares (A.5), and their folders."""

import json
import math
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...command import first_line
from ...convert import lp_convert
from ...files import failures_name, write_json
from ...layers import LpConv2d
from ...variants import (
    BASE,
    PAPER,
    PUBLISHED,
    REINIT,
    SUDOKU_CONVERSIONS,
    SUDOKU_INPUTS,
    SUDOKU_VARIANTS,
    variant_prefix,
)
from ..loading import CONFIG_FILE, WEIGHTS_FILE
from .solving import Solution, solve

ARCHITECTURE = "sudoku"
_SHIPPED = Path(__file__).parent / "shipped"


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
        if inputs not in SUDOKU_INPUTS:
            raise ValueError(f"`inputs` must be {' or '.join(SUDOKU_INPUTS)}, got {inputs!r}.")
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

    def solve(self, puzzle: str | ArrayLike) -> Solution:
        """Return what the network makes of a puzzle, filled cell by cell, the surest first.

        Args:
            puzzle: 81 cells row by row, as text or as integers; see `solving.parse_puzzle`.

        Raises:
            ValueError: If it is no puzzle, or the network is in training mode.
        """
        if self.training:
            raise ValueError("the network must be in evaluation mode to solve a puzzle. Call `network.eval()` before.")
        return solve(self, puzzle)

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
    function, and their taps outside the small kernel at 0, but for
    - `-paper`, where the masks damp the base network's kernels;
    - `-reinit`, where the large kernels start at random as torch starts them, and the base network's are gone;
    - `-published`, as the authors' Sudoku code does: the base network's kernels in the centre of large ones that start
      at random as torch starts them, and masks damp all of it.

    Args:
        variant: One of `SUDOKU_VARIANTS`.
        channels: See `SudokuNet`.
        depth: See `SudokuNet`.
        inputs: See `SudokuNet`.

    Raises:
        ValueError: If there is no such variant or network.
    """
    if variant not in SUDOKU_VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(SUDOKU_VARIANTS)}, got {variant!r}.")
    network = SudokuNet(channels, depth, inputs)
    if variant == BASE:
        return network
    prefix = variant_prefix(variant)
    damped: dict[str, Any] = {"preserve": False} if variant in (prefix + PAPER, prefix + PUBLISHED) else {}
    small = [conv.weight.detach() for conv in (*network.convs, network.head)]
    lp_convert(network, filter_fn=lambda module, fqn: True, **SUDOKU_CONVERSIONS[prefix].conversion, **damped)
    for conv, kernel in zip((*network.convs, network.head), small, strict=True):
        if variant == prefix + REINIT:
            conv.reset_parameters()
        elif variant == prefix + PUBLISHED:
            _surround(conv, kernel)
    return network


@torch.no_grad()
def _surround(conv: nn.Conv2d, kernel: Tensor) -> None:
    """Draw a convolution's kernel as torch starts it, but for its centre, which is a smaller kernel."""
    bias = conv.bias.clone()  # type: ignore[union-attr] # all of them have one
    conv.reset_parameters()
    top, left = ((large - small) // 2 for large, small in zip(conv.kernel_size, kernel.shape[2:], strict=True))
    conv.weight[:, :, top : top + kernel.shape[2], left : left + kernel.shape[3]] = kernel
    conv.bias.copy_(bias)  # type: ignore[union-attr]


@torch.no_grad()
def keep_exponents(network: nn.Module, lowest: float = 2.0) -> None:
    """Raise the masks' exponents p that are below the lowest one allowed to it, as the paper does (A.5: p >= 2).

    Call it after each optimizer step.
    """
    for module in network.modules():
        if isinstance(module, LpConv2d):
            module.log2p.clamp_(min=math.log2(lowest))


def save_network(folder: Path, network: SudokuNet, arguments: dict[str, Any]) -> None:
    """Save a network as `load_sudoku` loads it.

    Args:
        folder: The folder; it is there.
        network: The network, on any device.
        arguments: What `create_network` made it of.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    num_bytes = sum(tensor.nbytes for tensor in state.values())
    with failures_name(folder / WEIGHTS_FILE, SafetensorError, num_bytes=num_bytes):
        save_file(state, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, {"architecture": ARCHITECTURE, "model_args": arguments})
    (folder / WEIGHTS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode)  # safetensors lets nobody else read


def is_sudoku(folder: Path) -> bool:
    """Return whether a folder says that it holds a Sudoku network."""
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("architecture") == ARCHITECTURE


def load_sudoku(folder: str | Path = _SHIPPED) -> SudokuNet:
    """Return a trained network, in evaluation mode.

    Args:
        folder: A trial's folder; if not given, it is the network that ships with the package.

    Raises:
        ValueError: If there is no Sudoku network in it, or a damaged one.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        raise ValueError(
            f"`folder` must hold {CONFIG_FILE} and {WEIGHTS_FILE}, got {str(folder)!r}. A trial's folder has them if "
            "it ended well and its network was saved."
        )
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if content["architecture"] != ARCHITECTURE:
            raise ValueError(f"it is of the architecture {content['architecture']!r}")
        with torch.random.fork_rng(devices=[]):  # its random weights are replaced
            network = create_network(**content["model_args"])
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"`folder` must hold a Sudoku network, got {str(folder)!r}: {first_line(error)}") from error
    return network.eval()
