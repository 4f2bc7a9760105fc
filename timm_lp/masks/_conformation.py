"""The conformation of masks: their scale, distortion and rotation (A.6), and their radius, all in float64."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Numbers = Tensor | np.ndarray | Sequence[float] | float

ROUND = 1.001  # a mask of less distortion has no direction
_SAME_ROUNDING = 4 * torch.finfo(torch.float64).eps  # a smaller singular value, as a fraction of the larger, is 0


class Conformation(NamedTuple):
    """Scale, distortion and rotation of masks.

    Attributes:
        alpha: Scale, pixels, shape `(O,)`; infinite where `C` is singular.
        gamma: Distortion, at least 1, shape `(O,)`; infinite where only one singular value of `C` is 0.
        theta: Direction in which the mask is longest, degrees in [0, 180), counter-clockwise from the width axis,
            shape `(O,)`: 0 is horizontal, 90 vertical. NaN where gamma is below 1.001.
    """

    alpha: Tensor
    gamma: Tensor
    theta: Tensor


def conformation(C: Tensor) -> Conformation:
    """Return the conformation of masks, from the singular values l0 >= l1 of `C` (Eq. 7).

    alpha is `sqrt(1 / l0**2 + 1 / l1**2)`, gamma `l0 / l1`, and theta the direction of the right singular vector of l1.
    They are the same at every p: with S(p) of `rms_radius`, `S(p) * inverse(C.T @ C)` is the covariance of the mask.

    Args:
        C: Inverse width of the masks, shape `(O, 2, 2)`, 1/pixel, as `lp_mask` takes it: any sign of the determinant,
            singular ones too.

    Returns:
        Scale, distortion and rotation, each of shape `(O,)`, in float64, on the CPU.

    Raises:
        ValueError: If `C` is of another shape, or not finite.
    """
    C = _checked(C)
    _, values, Vh = torch.linalg.svd(C)
    largest, smallest = values.unbind(dim=1)
    smallest = torch.where(smallest <= _SAME_ROUNDING * largest, 0.0, smallest)
    gamma = torch.where(largest == 0, 1.0, largest / smallest)
    alpha = torch.hypot(1 / largest, 1 / smallest)
    height, width = Vh[:, 1].unbind(dim=1)
    theta = _modulo(torch.rad2deg(torch.atan2(-height, width)), 180)
    return Conformation(alpha, gamma, torch.where(gamma < ROUND, math.nan, theta))


def conformation_matrix(alpha: Numbers, gamma: Numbers, theta: Numbers) -> Tensor:
    """Return matrices `C` of this conformation, those whose left singular vectors are the axes (U = 1 in Eq. 7).

    Args:
        alpha: Scale, pixels, a number or shape `(O,)`.
        gamma: Distortion, at least 1, a number or shape `(O,)`.
        theta: Direction in which the mask is longest, degrees counter-clockwise from the width axis, a number or
            shape `(O,)`; NaN, for any direction, where gamma is below 1.001.

    Returns:
        Inverse width of masks, shape `(O, 2, 2)`, 1/pixel, in float64, on the CPU.

    Raises:
        ValueError: If `alpha` is not positive and finite, `gamma` not finite and at least 1, or `theta` not finite
            where the mask has a direction.
    """
    scale, distortion, rotation = torch.broadcast_tensors(*(_float64(value) for value in (alpha, gamma, theta)))
    _check("alpha", scale, (scale > 0) & scale.isfinite(), "be positive and finite", "No matrix has another scale.")
    elongated = (distortion >= 1) & distortion.isfinite()
    _check("gamma", distortion, elongated, "be finite and at least 1", "Add 90 degrees to theta for its inverse.")
    usable = rotation.isfinite() | (rotation.isnan() & (distortion < ROUND))
    _check("theta", rotation, usable, f"be finite where gamma is at least {ROUND}", "Give degrees.")
    radians = torch.deg2rad(rotation.nan_to_num(0.0))
    cos, sin = radians.cos(), radians.sin()
    largest = torch.hypot(distortion, torch.ones_like(distortion)) / scale
    rows = torch.stack([torch.stack([cos, sin], dim=1), torch.stack([-sin, cos], dim=1)], dim=1)
    return rows * torch.stack([largest, largest / distortion], dim=1)[:, :, None]


def left_angle(C: Tensor) -> Tensor:
    """Return the angle of U in `C = U @ diag(l0, l1) @ V.T` (Eq. 7), degrees in [0, 90).

    At p = 2 it does not change the mask. The further p is from it, the more it does: for a large p the mask is a box
    along the direction theta at 0, and a diamond at 45. Order and signs of `C`'s rows, which never change the mask, do
    not change it. Where theta is not defined, it is the box's own direction.

    Args:
        C: Inverse width of the masks, shape `(O, 2, 2)`, 1/pixel.

    Returns:
        The angles, shape `(O,)`, in float64, on the CPU.

    Raises:
        ValueError: If `C` is of another shape, or not finite.
    """
    C = _checked(C)
    radians = torch.deg2rad(conformation(C).theta.nan_to_num(0.0))
    across = torch.stack([radians.cos(), radians.sin()], dim=1)  # where the mask is narrowest
    first, second = (C @ across[:, :, None]).squeeze(2).unbind(dim=1)
    mirrored = torch.where(torch.linalg.det(C) < 0, -second, second)
    return _modulo(torch.rad2deg(torch.atan2(mirrored, first)), 90)


def rms_radius(alpha: Tensor, p: Tensor) -> Tensor:
    """Return the root mean square distance from the centre of masks without an edge, `alpha * sqrt(S(p))`.

    `S(p) = Gamma(3 / p) / Gamma(1 / p)` is the variance of the density `exp(-|x|**p)`. So this compares sizes of masks
    whose p differ, which alpha does not.

    Args:
        alpha: Scale, pixels, shape `(O,)`.
        p: Exponent, shape `(O,)`.

    Returns:
        The radius, pixels, shape `(O,)`, in float64, on the CPU.
    """
    alpha, p = (tensor.detach().to("cpu", torch.float64) for tensor in (alpha, p))
    return alpha * torch.exp((torch.lgamma(3 / p) - torch.lgamma(1 / p)) / 2)


def kernel_rms_radius(mask: Tensor) -> Tensor:
    """Return the root mean square distance from the centre of masks as the kernel cuts them off.

    Args:
        mask: Masks, shape `(O, 1, Kh, Kw)`, as `lp_mask` returns them.

    Returns:
        The radius, pixels, shape `(O,)`, in float64, on the CPU; NaN for a mask that is 0 at all taps.
    """
    weights = mask.detach().to("cpu", torch.float64).squeeze(1)
    height, width = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in weights.shape[1:])
    squares = height[:, None] ** 2 + width**2
    return torch.sqrt((weights * squares).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)))


def _checked(C: Tensor) -> Tensor:
    if C.ndim != 3 or C.shape[1:] != (2, 2):
        raise ValueError(f"`C` must be of shape (O, 2, 2), got {tuple(C.shape)}. An LpConv2d has such a `C`.")
    C = C.detach().to("cpu", torch.float64)
    if not C.isfinite().all():
        index = int((~C.isfinite()).any(dim=2).any(dim=1).nonzero()[0])
        raise ValueError(f"`C` must be finite, got {C[index].tolist()} for mask {index}. Did its training diverge?")
    return C


def _float64(values: Numbers) -> Tensor:
    """Return a number or several as they are, not by way of torch's default dtype; shape `(n,)`."""
    return torch.as_tensor(values, dtype=torch.float64, device="cpu").detach().reshape(-1)


def _check(name: str, values: Tensor, fulfilled: Tensor, rule: str, advice: str) -> None:
    if not fulfilled.all():
        raise ValueError(f"`{name}` must {rule}, got {values[~fulfilled][0].item():g}. {advice}")


def _modulo(values: Tensor, period: int) -> Tensor:
    """Return values in [0, period): a tiny negative one is 0, which torch's remainder rounds up to the period."""
    remainder = values.remainder(period)
    return torch.where(remainder >= period, 0.0, remainder)
