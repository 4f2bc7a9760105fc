"""What a network's masks look like, in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers import LpConv2d


class Spread(NamedTuple):
    """Minimum, median and maximum of some numbers."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Tensor) -> "Spread":
        """Return the spread of all elements of `values`."""
        values = values.detach().float().flatten()
        return cls(values.min().item(), values.quantile(0.5).item(), values.max().item())

    @classmethod
    def over(cls, tensors: Iterable[Tensor]) -> "Spread":
        """Return the spread of all elements of all `tensors`."""
        return cls.of(torch.cat([tensor.detach().flatten() for tensor in tensors]))

    def __str__(self) -> str:
        low, high = f"{self.min:.3g}", f"{self.max:.3g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class MaskStatistics:
    """The masks of one layer.

    Attributes:
        fqn: The layer's qualified name.
        kernel_size: `(Kh, Kw)`, pixels.
        channels: Number of masks.
        p: Exponents.
        sigma: Widths along height and width, pixels, of all masks.
    """

    fqn: str
    kernel_size: tuple[int, ...]
    channels: int
    p: Spread
    sigma: Spread


def mask_statistics(model: nn.Module) -> list[MaskStatistics]:
    """Return the statistics of each layer with masks, in the network's order; none for a network without masks."""
    return [
        MaskStatistics(fqn, layer.kernel_size, layer.out_channels, Spread.of(layer.p), Spread.of(layer.sigma))
        for fqn, layer in lp_layers(model)
    ]


def lp_layers(model: nn.Module) -> list[tuple[str, LpConv2d]]:
    """Return the layers with masks, each with its qualified name, in the network's order."""
    return [(fqn, module) for fqn, module in model.named_modules() if isinstance(module, LpConv2d)]
