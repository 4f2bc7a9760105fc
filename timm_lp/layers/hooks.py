"""The forward and backward hooks of a layer that another layer replaces; torch keeps them in private attributes."""

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OPTIONS = ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
_MAKE_WEIGHT = (BasePruningMethod, SpectralNorm, WeightNorm)  # from parameters that only the layer itself has


def has_hooks(module: nn.Module) -> bool:
    """Tell whether a layer has hooks that `copy_hooks` copies."""
    return any(not isinstance(hook, _MAKE_WEIGHT) for name in _HOOKS for hook in getattr(module, name).values())


def copy_hooks(source: nn.Module, target: nn.Module) -> None:
    """Copy the forward and backward hooks of `source`, with their options, to `target`, which has none.

    This leaves out the hooks with which `torch.nn.utils` makes a weight before each forward pass (pruning, weight and
    spectral norm): `target` already has the weight that they made.
    """
    for name in _HOOKS:
        hooks = getattr(source, name)
        getattr(target, name).update({key: hook for key, hook in hooks.items() if not isinstance(hook, _MAKE_WEIGHT)})
    for name in _OPTIONS:
        getattr(target, name).update(getattr(source, name))
    target._is_full_backward_hook = source._is_full_backward_hook
