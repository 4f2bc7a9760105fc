"""Fold the masks of a network into plain convolutions, for deployment."""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .layers import LpConv2d, crop_conv2d
from .layers.hooks import has_hooks
from .notes import note_merge
from .selection import masked_layers, tied_parameters, why_left_alone

_MERGES = ("fuse", "reparameterize", "switch_to_deploy")  # what timm's reparameterize_model calls, without arguments


def lp_merge(model: nn.Module, *, crop: bool = False) -> nn.Module:
    """Return a copy of a network for deployment, in which the masks are folded into plain convolutions.

    The convolutions keep the forward and backward hooks of the layers that they replace.

    Args:
        model: A network with `LpConv2d` layers; it is not changed. Put it into evaluation mode first where its blocks
            merge their norms.
        crop: Whether to remove outer rings of taps that are 0 in every channel; masks with a large p have such rings.
            Convolutions with hooks keep theirs. The kernels' sizes then depend on the weights; without it, the state
            dict is that of the "Large" network.

    Returns:
        A network that computes what `model` computes, with nothing of this package in it.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If the model has no `LpConv2d`, cannot be copied (while it is being pruned), or has hooks on layers
            that their block merges with others (RepLKNet's convolutions and norms, for instance), which cannot be kept.
    """
    masked = [*masked_layers(model)]
    merged = copy_network(model)
    # Before the blocks' own merging, which leaves out a bare layer, and a layer's second name.
    merged = replace_convs(merged, {layer: layer.fuse() for layer in map(merged.get_submodule, masked)})
    _merge_blocks(merged)
    _check_hooks(model, merged)
    cropped = {}
    if crop:
        tied = tied_parameters(merged)
        convs = {name: module for name, module in merged.named_modules() if isinstance(module, nn.Conv2d)}
        smaller = {name: crop_conv2d(conv) for name, conv in convs.items() if not why_left_alone(conv, tied)}
        cropped = {name: list(conv.kernel_size) for name, conv in smaller.items() if conv is not convs[name]}
        merged = replace_convs(merged, {convs[name]: conv for name, conv in smaller.items()})
    note_merge(merged, masked, cropped)
    return merged


def fold_masks(model: nn.Module) -> nn.Module:
    """Replace the layers with masks by plain convolutions, in place; unlike `lp_merge`, merge and note nothing else.

    Args:
        model: A network.

    Returns:
        The network, another module where it is a layer with masks itself.
    """
    masked = [module for module in model.modules() if isinstance(module, LpConv2d)]
    return replace_convs(model, {module: module.to_conv2d() for module in masked})


def copy_network(model: Any) -> Any:
    """Return a copy of a network.

    Raises:
        ValueError: If it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # of tensors that were computed, and of what no pickle holds
        raise ValueError(
            f"`model` must be a network that can be copied, got {type(model).__name__} that cannot "
            f"({type(error).__name__}). Where it is pruned, call torch.nn.utils.prune.remove first."
        ) from error


def replace_convs(model: nn.Module, replacements: dict[nn.Conv2d, nn.Conv2d]) -> nn.Module:
    """Put the new layers where the old ones are, under every name that they have there."""
    if model in replacements:
        return replacements[model]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])
    return model


def leave_unmerged(model: nn.Module, replaced: set[nn.Conv2d]) -> None:
    """Keep blocks from merging their own branches for deployment.

    timm's `reparameterize_model` asks a block before the layers in it, and a block reads the kernels as it made them:
    of their old size and without masks. Its layers are then folded one by one.
    """
    for module in model.modules():
        if getattr(module, "merges_lp_conv2d", False) or isinstance(module, LpConv2d):
            continue
        if any(child in replaced for child in module.modules()):
            for name in _merges(module):
                setattr(module, name, partial(_stay, module))


def _check_hooks(model: nn.Module, merged: nn.Module) -> None:
    """Refuse a model with hooks on layers that the merged one lacks."""
    hooked, kept = ([name for name, module in net.named_modules() if has_hooks(module)] for net in (model, merged))
    lost = [repr(name) for name in hooked if name not in kept]
    if lost:
        raise ValueError(
            f"`model` must have no hooks on layers that are merged with others, got some on {', '.join(lost)}. "
            "Remove them first."
        )


def _merge_blocks(model: nn.Module) -> None:
    """Do what timm's `reparameterize_model` does, which fails where an attribute of another kind has such a name."""
    for name, child in model.named_children():
        for merge in [*_merges(child).values()][:1]:
            merged = merge()
            if isinstance(merged, nn.Module):
                setattr(model, name, merged)
        _merge_blocks(child)


def _merges(module: nn.Module) -> dict[str, Callable[[], Any]]:
    """Return the methods with which a block merges its layers: with timm's names, and without arguments."""
    methods: dict[str, Any] = {name: getattr(module, name, None) for name in _MERGES}
    return {name: method for name, method in methods.items() if _takes_nothing(method)}


def _takes_nothing(method: Any) -> bool:
    """Tell whether a method can be called without arguments."""
    if not callable(method) or isinstance(method, nn.Module):
        return False
    try:
        inspect.signature(method).bind()
    except TypeError:
        return False
    return True


def _stay(module: nn.Module) -> nn.Module:
    return module
