"""The masks of networks in numbers: layer by layer, of one network or of several trials together (Tables 6 and 7)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers import LpConv2d, lp_mask
from ..ops import lp_exponent
from ..selection import masked_layers
from ._conformation import Conformation, conformation, kernel_rms_radius, left_angle, rms_radius

ROUNDING = 1e-5  # of a mask's numbers, as a fraction: what differs from its start by less has not moved
ORIENTED = 1.2  # a mask of more distortion has a direction that one can see
ELONGATED = 3.0  # the paper's orientation-selective masks have more distortion
NEAR = 15.0  # degrees from horizontal or vertical
BY_CHANCE = 4 * NEAR / 360  # the share of directions drawn at random that are near one of the two


class Spread(NamedTuple):
    """Minimum, median and maximum of some numbers."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Tensor) -> "Spread":
        """Return the spread of all elements of `values`."""
        values = values.detach().to("cpu", torch.float64).flatten()
        return cls(values.min().item(), median(values), values.max().item())

    @classmethod
    def over(cls, tensors: Iterable[Tensor]) -> "Spread":
        """Return the spread of all elements of all `tensors`."""
        return cls.of(torch.cat([tensor.detach().flatten() for tensor in tensors]))

    def __str__(self) -> str:
        low, high = f"{self.min:.3g}", f"{self.max:.3g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True, eq=False)
class LayerMasks:
    """All masks of a layer, of one network or of several.

    Attributes:
        fqn: The layer's qualified name.
        kernel_size: `(Kh, Kw)`, pixels.
        p_init: Exponent that the masks started with.
        sigma_init: Width that they started with, `(height, width)`, pixels.
        C: Their inverse width, shape `(n, 2, 2)`, 1/pixel, float64.
        log2p: Base-2 logarithm of their exponent, shape `(n,)`, float64; see `lp_exponent`.
    """

    fqn: str
    kernel_size: tuple[int, int]
    p_init: float
    sigma_init: tuple[float, ...]
    C: Tensor
    log2p: Tensor

    def __len__(self) -> int:
        return len(self.log2p)

    @cached_property
    def p(self) -> Tensor:
        """Exponent of each mask, shape `(n,)`."""
        return lp_exponent(self.log2p)

    @cached_property
    def sigma(self) -> Tensor:
        """Width of each mask along height and width, shape `(n, 2)`, pixels."""
        return 1 / torch.linalg.vector_norm(self.C, dim=1)

    @cached_property
    def conformation(self) -> Conformation:
        """Scale, distortion and rotation of each mask."""
        return conformation(self.C)

    @cached_property
    def left_angle(self) -> Tensor:
        """Angle of U of each mask, degrees, shape `(n,)`."""
        return left_angle(self.C)

    @cached_property
    def radius(self) -> Tensor:
        """Root mean square radius of each mask, pixels, shape `(n,)`."""
        return rms_radius(self.conformation.alpha, self.p)

    @cached_property
    def radius_in_kernel(self) -> Tensor:
        """The same as the kernel cuts the mask off, pixels, shape `(n,)`."""
        return kernel_rms_radius(self.mask())

    @cached_property
    def p_change(self) -> Tensor:
        """Exponent of each mask over that at its start, shape `(n,)`."""
        return self.p / self.p_init

    @property
    def p_moved(self) -> Tensor:
        """Whether the exponent of each mask is not that of its start, shape `(n,)`."""
        return (self.p_change - 1).abs() > ROUNDING

    @property
    def are_new(self) -> bool:
        """Whether all masks are as they started, up to rounding."""
        start = torch.diag(1 / self.C.new_tensor(self.sigma_init))
        return not bool(self.p_moved.any() or ((self.C - start).abs() > ROUNDING * start.max()).any())

    @cached_property
    def sigma_change(self) -> Tensor:
        """Width of each mask over that at its start, along height and width, shape `(n, 2)`."""
        return self.sigma / self.sigma.new_tensor(self.sigma_init)

    def mask(self) -> Tensor:
        """Return the masks (Eq. 2), shape `(n, 1, Kh, Kw)`."""
        return lp_mask(self.C, self.log2p, self.kernel_size)

    @property
    def are_alike(self) -> bool:
        """Whether all masks are the same, as before training."""
        return bool((self.C == self.C[0]).all() and (self.log2p == self.log2p[0]).all())

    def pick(self, indices: Tensor | Sequence[int]) -> "LayerMasks":
        """Return some of the masks."""
        indices = torch.as_tensor(indices)
        return replace(self, C=self.C[indices], log2p=self.log2p[indices])


@dataclass(frozen=True)
class LayerSummary:
    """The masks of a layer in a line of a table.

    Attributes:
        layer: The layer's qualified name.
        kernel: Its kernel's size, `7x7` for instance, pixels.
        masks: Number of masks.
        p_init: Exponent that they started with.
        p_median: Median exponent.
        p_std: Standard deviation of the exponents (over all of them, so 0 for one mask).
        p_moved: Share of the masks whose exponent is not that of the start.
        alpha: Median scale, pixels.
        radius: Median root mean square radius, pixels.
        radius_in_kernel: The same of the masks as the kernel cuts them off, pixels.
        gamma: Median distortion.
        gamma_max: Largest distortion.
        elongated: Share of masks with a gamma above 3.
        oriented: Number of masks with a gamma above 1.2: those with a direction that one can see.
        horizontal: Share of these whose theta is within 15 degrees of 0; NaN where there are none.
        vertical: Share of these whose theta is within 15 degrees of 90; NaN where there are none.
    """

    layer: str
    kernel: str
    masks: int
    p_init: float
    p_median: float
    p_std: float
    p_moved: float
    alpha: float
    radius: float
    radius_in_kernel: float
    gamma: float
    gamma_max: float
    elongated: float
    oriented: int
    horizontal: float
    vertical: float


def layer_masks(model: nn.Module) -> list[LayerMasks]:
    """Return the masks of each layer that has some, in the network's order; none for a network without masks.

    Raises:
        ValueError: If a mask is not finite.
    """
    return [_masks_of(fqn, layer) for fqn, layer in model.named_modules() if isinstance(layer, LpConv2d)]


def all_masks(model: nn.Module) -> list[LayerMasks]:
    """Return what `layer_masks` returns, if that is anything.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If it has no masks, or one is not finite.
    """
    masked_layers(model)  # refuses a network without any
    return layer_masks(model)


def pool(networks: Sequence[Sequence[LayerMasks]]) -> list[LayerMasks]:
    """Return the masks of several networks together, layer by layer.

    Args:
        networks: What `layer_masks` returned for each.

    Raises:
        ValueError: If they do not have the same layers, with the same kernels and the same start.
    """
    first = networks[0]
    for layers in networks[1:]:
        if [_start(layer) for layer in layers] != [_start(layer) for layer in first]:
            here, there = _first_difference(first, layers)
            raise ValueError(
                f"`networks` must have the same layers with the same start to be pooled, got {here} in one and {there} "
                "in another. Look at them one by one."
            )
    return [
        replace(
            layers[0], C=torch.cat([layer.C for layer in layers]), log2p=torch.cat([layer.log2p for layer in layers])
        )
        for layers in zip(*networks, strict=True)
    ]


def summarize(layers: Sequence[LayerMasks], name: str | None = None) -> LayerSummary:
    """Return the line of a table for all masks of some layers.

    Args:
        layers: One layer, or several with the same start of p.
        name: What the line is called; None for the first layer's name.

    Raises:
        ValueError: If p started at different values.
    """
    starts = {layer.p_init for layer in layers}
    if len(starts) != 1:
        raise ValueError(f"`layers` must have one start of p, got {sorted(starts)}. Summarize them one by one.")
    p, alpha, gamma, theta, moved, radius, in_kernel = (
        torch.cat(values)
        for values in zip(
            *((m.p, *m.conformation, m.p_moved, m.radius, m.radius_in_kernel) for m in layers), strict=True
        )
    )
    horizontal, vertical = orientation_shares(gamma, theta)
    return LayerSummary(
        layer=layers[0].fqn if name is None else name,
        kernel=", ".join(dict.fromkeys("x".join(map(str, layer.kernel_size)) for layer in layers)),
        masks=len(p),
        p_init=layers[0].p_init,
        p_median=median(p),
        p_std=p.std(correction=0).item(),
        p_moved=share(moved),
        alpha=median(alpha),
        radius=median(radius),
        radius_in_kernel=median(in_kernel),
        gamma=median(gamma),
        gamma_max=gamma.max().item(),
        elongated=share(gamma > ELONGATED),
        oriented=int((gamma > ORIENTED).sum()),
        horizontal=horizontal,
        vertical=vertical,
    )


def orientation_shares(gamma: Tensor, theta: Tensor) -> tuple[float, float]:
    """Return the shares of the masks with a direction that are near horizontal and near vertical; NaN for none.

    Args:
        gamma: Distortion of masks, shape `(n,)`.
        theta: Their direction, degrees, shape `(n,)`.
    """
    theta = theta[gamma > ORIENTED]
    from_horizontal = torch.minimum(theta, 180 - theta)
    return share(from_horizontal <= NEAR), share((theta - 90).abs() <= NEAR)


def share(fulfilled: Tensor) -> float:
    """Return the fraction of a tensor's elements that are true; NaN for none at all."""
    return fulfilled.double().mean().item()


def median(values: Tensor) -> float:
    """Return the mean of the two middle values, shape `(n,)`; NaN for none, or where one is NaN."""
    if not len(values):
        return math.nan
    ordered = values.sort().values  # torch.median takes the lower one, torch.quantile makes NaN of two infinite ones
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return math.nan if ordered[-1].isnan() else ((low + high) / 2).item()


def _masks_of(fqn: str, layer: LpConv2d) -> LayerMasks:
    C, log2p = (tensor.detach().to("cpu", torch.float64) for tensor in (layer.C, layer.log2p))
    if not (C.isfinite().all() and log2p.isfinite().all()):
        raise ValueError(f"`model` must have finite masks, got nan or inf in {fqn}. Did its training diverge?")
    return LayerMasks(fqn, layer.kernel_size, float(layer.p_init), tuple(layer.sigma_init), C, log2p)


def _start(layer: LayerMasks) -> tuple[str, int, tuple[int, ...], float, tuple[float, ...]]:
    return layer.fqn, len(layer), layer.kernel_size, layer.p_init, layer.sigma_init


def _first_difference(first: Sequence[LayerMasks], second: Sequence[LayerMasks]) -> tuple[str, str]:
    for one, other in zip(first, second, strict=False):
        if _start(one) != _start(other):
            return _describe(one), _describe(other)
    return f"{len(first)} layers", f"{len(second)}"


def _describe(layer: LayerMasks) -> str:
    kernel, sigma = ("x".join(f"{size:g}" for size in sizes) for sizes in (layer.kernel_size, layer.sigma_init))
    return f"{layer.fqn} ({len(layer)} masks, {kernel}, p from {layer.p_init:g}, sigma from {sigma})"
