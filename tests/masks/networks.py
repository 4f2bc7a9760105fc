"""Networks with masks that could be trained ones."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from timm_lp import LpConv2d

SIZES: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
TINY: dict[str, Any] = {**SIZES, "num_classes": 3}


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move the masks of a network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LpConv2d):
                layer.C.add_(0.1 * layer.C.abs().max() * torch.randn(layer.C.shape, generator=generator))
                layer.log2p.add_(0.1 * torch.randn(layer.log2p.shape, generator=generator))
    return model


def save(folder: Path, name: str = "lp2_resnet18", seed: int = 0) -> nn.Module:
    """Save a tiny network as a trial does, and return it."""
    network = trained(timm.create_model(name, **TINY), seed)
    save_for_hf(network, str(folder), model_args=SIZES, safe_serialization=True)
    return network
