"""What the command shows where no network is named: masks that were moved at random."""

import math
from typing import Any

import timm
import torch
from torch import nn

from ..layers import LpConv2d
from ._conformation import conformation_matrix
from .networks import Group
from .statistics import layer_masks, pool

_SMALL: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64), "num_classes": 10}
_SEEDS = (1, 2, 3)


def demonstration() -> Group:
    """Return the masks of small untrained networks, moved at random: what they show, nothing has learned."""
    networks = tuple(f"small untrained lp2_resnet18, masks moved at random, seed {seed}" for seed in _SEEDS)
    layers = pool([layer_masks(_network(seed)) for seed in _SEEDS])
    return Group("demonstration (untrained, masks moved at random)", networks, layers, is_demonstration=True)


def _network(seed: int) -> nn.Module:
    """Return an untrained network whose masks are moved: the further the deeper the layer."""
    network = timm.create_model("lp2_resnet18", **_SMALL)
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in network.modules() if isinstance(module, LpConv2d)]
    for place, layer in enumerate(layers, start=1):
        _move(layer, place / len(layers), generator)
    return network


@torch.no_grad()
def _move(layer: LpConv2d, amount: float, generator: torch.Generator) -> None:
    """Make masks wider, longer in any direction, and change their exponents, all at random."""
    width, length, exponent = amount * torch.randn(3, layer.out_channels, generator=generator)
    alpha = math.hypot(*layer.sigma_init) * torch.exp(0.15 * (amount + width))
    gamma = torch.exp(0.5 * length.abs())
    theta = 180 * torch.rand(layer.out_channels, generator=generator)
    layer.C.copy_(conformation_matrix(alpha, gamma, theta))
    layer.log2p.add_(0.15 * exponent)
