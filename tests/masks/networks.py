"""Networks with masks that could be trained ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from timm_lp import LpConv2d

from ..trials.records import record, write_trial

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
    """Save a tiny network with moved masks, and return it."""
    network = trained(timm.create_model(name, **TINY), seed)
    save_for_hf(network, str(folder), model_args=SIZES, safe_serialization=True)
    return network


def save_trial(run: Path, variant: str = "lp2", seed: int = 1, data: str = "digits", folder: Path | None = None) -> str:
    """Save a tiny network as a trial does, and return its folder.

    Args:
        run: The run's folder.
        variant: The variant.
        seed: The seed.
        data: The data set's folder.
        folder: Where the trial was moved to, None for its place in the run.
    """
    trial = replace(record(variant, seed, 50.0, data), model="resnet18")
    place = write_trial(run, trial)
    save(place, trial.network, seed)
    return str(place if folder is None else place.rename(folder))
