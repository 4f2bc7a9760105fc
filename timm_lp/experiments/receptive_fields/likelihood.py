"""The mean negative log-likelihood of the MPND and its gradient, for points and for counts on a lattice.

Parameters are one vector: ln p, then those of `C`, then the centre where it is fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .density import Array, log_normalizer, log_normalizer_slope
from .taps import tap_log_prob

Objective = Callable[[Array], tuple[float, Array]]

_LARGEST_LOG = 230.0  # of |z|^p: where an exponent that the search tries is far off, its square must be finite


@dataclass(frozen=True)
class Sample:
    """Offsets with their weights.

    Attributes:
        points: Offsets, shape `(n, d)`.
        weights: Share of each, shape `(n,)`; they add up to 1.
        tap: Where the offsets are the centres of a lattice's taps: the taps' size along each axis, shape `(d,)`.
    """

    points: Array
    weights: Array
    tap: Array | None = None


def negative_log_likelihood(sample: Sample, form: str, *, fits_mean: bool) -> Objective:
    """Return the function that is minimised, with its gradient.

    Args:
        sample: What is fitted.
        form: `"isotropic"` (`C = exp(c) I`, one parameter), `"diagonal"` (`C = diag(exp(c))`, d) or `"full"` (d x d).
        fits_mean: Whether the last d parameters are the centre; else it is 0.
    """
    d = sample.points.shape[1]
    terms = _point_terms if sample.tap is None else _tap_terms

    def objective(parameters: Array) -> tuple[float, Array]:
        p = float(np.exp(parameters[0]))
        widths, mean = parameters[1 : len(parameters) - d * fits_mean], parameters[len(parameters) - d * fits_mean :]
        C = matrix(widths, form, d)
        value, dp, dC, dmean = terms(sample, p, C, mean if fits_mean else np.zeros(d))
        if form == "full":
            dwidths = dC.ravel()
        else:
            along = np.diag(dC) * np.diag(C)
            dwidths = along.sum(keepdims=True) if form == "isotropic" else along
        return value, np.concatenate([[p * dp], dwidths, dmean[: d * fits_mean]])

    return objective


def matrix(widths: Array, form: str, d: int) -> Array:
    """Return `C`, shape `(d, d)`, of its parameters."""
    if form == "full":
        return widths.reshape(d, d)
    return np.diag(np.exp(np.broadcast_to(widths, d)))


def widths_of(C: Array, form: str) -> Array:
    """Return the parameters of `C`, the inverse of `matrix`."""
    if form == "full":
        return C.ravel()
    logs = np.log(np.diag(C))
    return logs[:1] if form == "isotropic" else logs


def _point_terms(sample: Sample, p: float, C: Array, mean: Array) -> tuple[float, float, Array, Array]:
    """Return the value and its derivatives with respect to p, `C` and the mean, from the density at the points."""
    x = sample.points - mean
    z = x @ C.T
    with np.errstate(divide="ignore"):
        log_z = np.log(np.abs(z))
    power = np.exp(np.minimum(p * log_z, _LARGEST_LOG))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(z == 0, 0.0, p * power / z) * sample.weights[:, None]
        log_slope = np.where(z == 0, 0.0, power * log_z)
    d = len(C)
    sign, log_det = np.linalg.slogdet(C)
    if sign == 0:
        return np.inf, 0.0, np.zeros_like(C), np.zeros(d)
    value = float(sample.weights @ power.sum(1)) + d * log_normalizer(p) - float(log_det)
    dp = float(sample.weights @ log_slope.sum(1)) + d * log_normalizer_slope(p)
    return value, dp, slope.T @ x - np.linalg.inv(C).T, -C.T @ slope.sum(0)


def _tap_terms(sample: Sample, p: float, C: Array, mean: Array) -> tuple[float, float, Array, Array]:
    """Return the same from the integrals over the taps; `C` must be diagonal."""
    d, value, dp = len(C), 0.0, 0.0
    taps = np.zeros(d) if sample.tap is None else sample.tap
    dC, dmean = np.zeros((d, d)), np.zeros(d)
    for axis in range(d):  # the density is a product, so the counts along each axis say all
        centres, place = np.unique(sample.points[:, axis], return_inverse=True)
        weights = np.bincount(place, weights=sample.weights)
        half = taps[axis] / 2
        ends = centres - mean[axis] - half, centres - mean[axis] + half
        log_prob, dlow, dhigh, slope = tap_log_prob(C[axis, axis] * ends[0], C[axis, axis] * ends[1], p)
        value -= float(weights @ log_prob)
        dp -= float(weights @ slope)
        dC[axis, axis] = -weights @ (dlow * ends[0] + dhigh * ends[1])
        dmean[axis] = C[axis, axis] * (weights @ (dlow + dhigh))
    return value, dp, dC, dmean
