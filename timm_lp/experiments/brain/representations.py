"""What the layers of a network make of images: a similarity matrix for each, taken while the network runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .similarity import Array, rsm_of_gram

_CHUNK = 2**16  # units that are multiplied at once: 60 MB for 118 images


@torch.no_grad()
def layer_rsms(network: nn.Module, images: Tensor, layers: Sequence[str] = (), *, centred: bool) -> dict[str, Array]:
    """Return the similarities of images in the layers of a network, which is put into evaluation mode.

    All images go through the network at once. Nothing is kept of a layer but the products of the images' activities.

    Args:
        network: The network.
        images: Its input, shape `(n, C, H, W)`.
        layers: Names of its modules, all convolutions by default, as in the paper: before norm and activation.
        centred: Whether to subtract each unit's mean over the images.

    Returns:
        A matrix of shape `(n, n)` for each layer, in the order in which they run; a layer that runs again has its
        call's number behind its name.

    Raises:
        ValueError: If there is no such layer, or what one returns cannot be compared.
    """
    rsms: dict[str, Array] = {}
    with ExitStack() as stack:
        for name, module in _chosen(network, layers).items():
            stack.callback(module.register_forward_hook(_Recorder(name, len(images), centred, rsms)).remove)
        network.eval()(images)
    missing = [name for name in layers if name not in rsms]
    if missing:
        raise ValueError(
            f"`--layers` must name modules that the network runs, got {', '.join(missing)}. Leave them out."
        )
    if not rsms:
        raise ValueError(
            "The network must run its convolutions as modules, got none that it calls. Name others by --layers."
        )
    return rsms


class _Recorder:
    """A hook that adds the similarities of a layer's output to those of other layers."""

    def __init__(self, name: str, images: int, centred: bool, rsms: dict[str, Array]) -> None:
        self.name, self.images, self.centred, self.rsms = name, images, centred, rsms
        self.calls = 0

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != self.images:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"`--layers` must name modules whose output has a row for each of {self.images} images, got "
                f"{self.name} with {shape}. Choose another layer."
            )
        self.calls += 1
        rsm = rsm_of_gram(*_gram(output.flatten(1)), self.centred)
        if not np.isfinite(rsm).all():
            raise ValueError(
                f"The network's layers must answer each image with values that are finite and vary, got others from "
                f"{self.name}. Its weights or its input cannot be used."
            )
        self.rsms[self.name if self.calls == 1 else f"{self.name} ({self.calls})"] = rsm


def _gram(activities: Tensor) -> tuple[Array, Array, int]:
    """Return the products of the images' activities and their sums in float64, and the number of units."""
    images, units = activities.shape
    gram = activities.new_zeros((images, images), dtype=torch.float64)
    sums = activities.new_zeros(images, dtype=torch.float64)
    for chunk in activities.split(_CHUNK, dim=1):
        exact = chunk.double()
        gram += exact @ exact.T
        sums += exact.sum(1)
    return gram.cpu().numpy(), sums.cpu().numpy(), units


def _chosen(network: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    modules = dict(network.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    if not layers and not convolutions:
        raise ValueError("The network must have convolutions, got none. Name other modules by --layers.")
    unknown = [name for name in layers if name not in modules or not name]
    if unknown:
        raise ValueError(
            f"`--layers` must name modules of the network, got {', '.join(unknown)}. "
            f"Its convolutions: {', '.join(convolutions[:4])}{', ...' if len(convolutions) > 4 else ''}."
        )
    return {name: modules[name] for name in layers or convolutions}
