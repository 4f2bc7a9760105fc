"""timm's optimizers and schedules of the learning rate, with separate parameter groups for masks."""

from typing import Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from ...command import first_line
from ...layers import LpConv2d
from .config import FinetuneConfig

# Their fused forms take the same steps up to rounding, in less than half of the time.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
_FUSED_DEVICES = {"cpu", "cuda"}


def create_optimizer(config: FinetuneConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over timm's parameter groups, the masks split off.

    Raises:
        ValueError: If timm has no such optimizer, or it does not take the settings.
    """
    chosen = {"eps": config.opt_eps, "betas": tuple(config.opt_betas) or None}
    arguments: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    devices = {parameter.device.type for parameter in network.parameters()}
    try:
        kind = get_optimizer_class(config.opt.lower().rpartition("_")[-1], bind_defaults=False)
        if kind in _FUSED and devices <= _FUSED_DEVICES:
            arguments["fused"] = True
        optimizer = create_optimizer_v2(
            network,
            opt=config.opt,
            lr=config.lr,
            momentum=config.momentum,
            param_group_fn=lambda network: parameter_groups(config, network),
            **arguments,
        )
        for name, value in arguments.items():  # timm leaves out what an optimizer does not take
            if optimizer.defaults.get(name) != value:
                raise ValueError(f"it does not take {name} = {value}")
    except (AssertionError, ImportError, LookupError, TypeError, ValueError) as error:
        reason = "it takes more betas" if isinstance(error, IndexError) else first_line(error)
        raise ValueError(
            f"`opt`, `opt_eps` and `opt_betas` must fit one of timm's optimizers, got {config.opt!r}: {reason}. "
            "timm.optim.list_optimizers() lists them."
        ) from error
    return optimizer


def parameter_groups(config: FinetuneConfig, network: nn.Module) -> list[dict[str, Any]]:
    """Return timm's parameter groups, with the masks of each in a separate group.

    Masks have no weight decay, and the learning rate of their layer times `config.mask_lr_scale`; timm's schedulers
    read `lr_scale`.
    """
    arguments: dict[str, Any] = {"weight_decay": config.weight_decay}
    if hasattr(network, "no_weight_decay"):
        arguments["no_weight_decay_list"] = network.no_weight_decay()  # type: ignore[operator] # a method
    if config.layer_decay is None:
        groups = param_groups_weight_decay(network, **arguments)
    else:
        groups = param_groups_layer_decay(network, **arguments, layer_decay=config.layer_decay)
    layers = [module for module in network.modules() if isinstance(module, LpConv2d)]
    masks = {id(parameter) for layer in layers for parameter in (layer.C, layer.log2p)}
    split = []
    for group in groups:
        of_masks = [parameter for parameter in group["params"] if id(parameter) in masks]
        others = [parameter for parameter in group["params"] if id(parameter) not in masks]
        if others:
            split.append({**group, "params": others})
        if of_masks:
            scale = group.get("lr_scale", 1.0) * config.mask_lr_scale
            split.append({**group, "params": of_masks, "weight_decay": 0.0, "lr_scale": scale})
    return split


def create_scheduler(config: FinetuneConfig, optimizer: torch.optim.Optimizer, updates_per_epoch: int) -> Scheduler:
    """Return timm's cosine schedule after a linear warm-up, which changes with each update."""
    warmup_epochs = min(config.warmup_epochs, config.epochs // 2)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=config.epochs - warmup_epochs,
        warmup_epochs=warmup_epochs,
        warmup_lr=config.lr / 100 if config.warmup_lr is None else config.warmup_lr,
        min_lr=config.min_lr,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler
