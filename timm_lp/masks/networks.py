"""The networks whose masks are looked at, each by itself or the trials of one network together."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from tqdm.auto import tqdm

from ..layers import LpConv2d
from ..trials.networks import Subject, find_networks, short_names
from ._conformation import conformation_matrix
from .group import Group
from .history import pool_histories
from .statistics import LayerMasks, layer_masks, pool

_ALL = "all networks"

_SMALL: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64), "num_classes": 10}
_SEEDS = (1, 2, 3)

_logger = logging.getLogger(__name__)


def load_groups(names: Sequence[str], pooling: str = "trials", *, with_history: bool = False) -> list[Group]:
    """Load networks, and return their masks.

    Args:
        names: As `find_networks` takes them. Of a run, trials without masks are left out.
        pooling: "trials" takes those together that differ in nothing but the seed: trials of one run, data set, network
            and variant; "all" takes all together, "none" none.
        with_history: Whether to read the masks of each epoch too.

    Raises:
        ValueError: If there is no such network, one that is named or all of a run have no masks, or those that are
            pooled do not have the same layers, or are the same trial, or did not keep the masks of each epoch.
        OSError: If a network cannot be fetched.
    """
    subjects = find_networks(names, see_images=False).networks
    bar = tqdm(subjects, desc="networks", unit="network", disable=None)
    masks = {subject: layers for subject in bar if (layers := _masks_of(subject))}
    if not masks:
        raise ValueError(f"`NETWORK` must be a run with masks, got {', '.join(names)} without any. Name another.")
    pooled: dict[str, list[Subject]] = {}
    for subject in masks:
        pooled.setdefault(_pool_of(subject, pooling), []).append(subject)
    if pooling == "trials":
        _check_seeds(pooled)
    titles = short_names(pooled)
    return [
        Group(
            titles[key],
            tuple(member.name for member in members),
            pool([masks[member] for member in members]),
            history=pool_histories([Path(member.path or member.name) for member in members]) if with_history else {},
        )
        for key, members in pooled.items()
    ]


def _masks_of(subject: Subject) -> list[LayerMasks]:
    layers = layer_masks(subject.load())
    if not layers and not subject.is_of_run:
        raise ValueError(f"`NETWORK` must have Lp-convolutions, got {subject.name}, which has none. Leave it out.")
    if not layers:
        _logger.warning("%s is left out: it has no masks.", subject.name)
    return layers


def _pool_of(subject: Subject, pooling: str) -> str:
    if pooling == "all":
        return _ALL
    if pooling == "none" or subject.record is None or subject.path is None:
        return subject.name
    path, trial = Path(os.path.abspath(subject.path)), Path(subject.record.folder)
    is_in_place = path.parts[-len(trial.parts) :] == trial.parts
    run = path.parents[len(trial.parts) - 1] if is_in_place else path.parent
    return str(run / trial.parent / subject.variant)


def _check_seeds(pooled: dict[str, list[Subject]]) -> None:
    for members in pooled.values():
        first: dict[int | None, Subject] = {}
        for member in members:
            if (other := first.setdefault(member.seed, member)) is not member:
                raise ValueError(
                    f"`NETWORK` must be trials of several seeds to be pooled, got seed {member.seed} in {other.name} "
                    f"and in {member.name}. Leave one out, or give --pool none."
                )


def demonstration() -> Group:
    """Return the masks of small untrained networks, moved at random: what they show, nothing has learned."""
    networks = tuple(f"small untrained lp2_resnet18, masks moved at random, seed {seed}" for seed in _SEEDS)
    layers = pool([layer_masks(_moved_network(seed)) for seed in _SEEDS])
    return Group("demonstration (untrained, masks moved at random)", networks, layers, is_demonstration=True)


def _moved_network(seed: int) -> nn.Module:
    """Return an untrained network whose masks are moved: the further the deeper the layer."""
    network = timm.create_model("lp2_resnet18", **_SMALL)
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in network.modules() if isinstance(module, LpConv2d)]
    for depth, layer in enumerate(layers, start=1):
        _move(layer, depth / len(layers), generator)
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
