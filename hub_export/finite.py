"""What a network must be to be published: finite weights of the kept types, which compute finite numbers."""

import math

import torch
from torch import nn

from .errors import first_line
from .untrusted import BUILD_ERRORS
from .verification import reference_logits

_KEPT_TYPES = (torch.float32, torch.int64)


def check_weight_numbers(network: nn.Module) -> None:
    """Refuse weights that are not finite float32 numbers.

    Raises:
        ValueError: If there are such.
    """
    for name, tensor in network.state_dict().items():
        if tensor.dtype not in _KEPT_TYPES or tensor.is_meta:
            kind = "no data" if tensor.is_meta else tensor.dtype
            raise ValueError(f"`model` must have float32 weights, got {kind} in {name}. Convert it with model.float().")
        if not tensor.isfinite().all():
            raise ValueError(f"`model` must have finite weights, got nan or inf in {name}. Train it again.")


def finite_logits(network: nn.Module, name: str) -> list[float]:
    """Return what a network computes, as `reference_logits` does.

    Args:
        network: The network.
        name: What a message calls it.

    Raises:
        ValueError: If it does not run, or computes nan or inf.
    """
    try:
        logits = reference_logits(network)
    except BUILD_ERRORS as error:
        raise ValueError(
            f"`model` must run on an image of the size in its configuration, got {name} with {type(error).__name__}: "
            f"{first_line(error)}."
        ) from error
    if not all(math.isfinite(logit) for logit in logits):
        raise ValueError(f"`model` must compute finite numbers, got {name} that gives nan or inf. Train it again.")
    return logits
