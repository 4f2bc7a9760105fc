"""The one-dimensional p-generalized normal distribution integrated over a lattice's taps, with its derivatives."""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

from .density import Array, log_normalizer

_SERIES_TERMS = np.arange(30)
_SERIES_LIMIT = 2.0  # of z^p: below it the series is exact, above it the quadrature
_NODES, _NODE_WEIGHTS = np.polynomial.laguerre.laggauss(60)
_LARGEST_LOG = 230.0  # of z^p, so that its square is finite


class _LogTail(NamedTuple):
    """Logarithm of the mass beyond a point, and its derivatives with respect to the point and to p."""

    value: Array
    dz: Array
    dp: Array


def tap_log_prob(low: Array, high: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """Return the logarithm of the mass between two points, under the density `exp(-|z|^p) / (2 Gamma(1 + 1/p))`.

    Args:
        low: Lower ends, shape `(n,)`.
        high: Upper ends, above them, shape `(n,)`.
        p: Exponent.

    Returns:
        The logarithm, in the tails too, where the mass itself underflows, and its derivatives with respect to `low`,
        `high` and `p`; each of shape `(n,)`.
    """
    below = high <= 0
    near, far = np.where(below, -high, low), np.where(below, -low, high)  # the density is symmetric
    straddles = near < 0
    inner, outer = _log_tail(np.abs(near), p), _log_tail(far, p)
    # On one side of 0 the mass is tail(near) - tail(far), else 1 - tail(-near) - tail(far).
    ratio = np.exp(np.minimum(outer.value - inner.value, -np.finfo(np.float64).eps))
    tails = np.exp(inner.value), np.exp(outer.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        mass = 1 - tails[0] - tails[1]
        value = np.where(straddles, np.log(mass), inner.value + np.log1p(-ratio))
        inner_share = np.where(straddles, tails[0] / mass, 1 / (1 - ratio))
        outer_share = np.where(straddles, -tails[1] / mass, -ratio / (1 - ratio))
    dnear, dfar = inner_share * inner.dz, outer_share * outer.dz
    dp = np.where(straddles, -inner_share, inner_share) * inner.dp + outer_share * outer.dp
    return value, np.where(below, -dfar, dnear), np.where(below, -dnear, dfar), dp


def _log_tail(z: Array, p: float) -> _LogTail:
    """Return the logarithm of the mass beyond z >= 0: half of Q(1/p, z^p), the upper incomplete gamma function."""
    with np.errstate(divide="ignore"):
        log_z = np.log(z)
    log_y = np.minimum(p * log_z, _LARGEST_LOG)
    small = log_y < np.log(_SERIES_LIMIT)
    near = _series(np.where(small, z, 1.0), p)
    far = _quadrature(np.where(small, 5.0, log_y), np.where(small, 1.0, z), p)
    log_q, dz, da = (np.where(small, *pair) for pair in zip(near, far, strict=True))
    with np.errstate(invalid="ignore"):
        through_y = np.where(z == 0, 0.0, dz * z * log_z / p)  # d/dp of y = z^p, beside that of a = 1/p
    return _LogTail(log_q - np.log(2), dz, through_y - da / p**2)


def _series(z: Array, p: float) -> tuple[Array, Array, Array]:
    """Return ln Q(a, y) at a = 1/p, y = z^p, and its derivatives with respect to z and a, from the series of 1 - Q."""
    a = 1 / p
    with np.errstate(divide="ignore"):
        log_y = p * np.log(z)[..., None]
    order = a + _SERIES_TERMS
    y = np.exp(log_y)
    with np.errstate(invalid="ignore"):
        terms = np.exp(order * log_y - y - gammaln(order + 1))
        q = 1 - terms.sum(-1)
        slope = np.where(terms == 0, 0.0, terms * (log_y - digamma(order + 1))).sum(-1)
    return np.log(q), -2 * np.exp(-y[..., 0] - log_normalizer(p)) / q, -slope / q


def _quadrature(log_y: Array, z: Array, p: float) -> tuple[Array, Array, Array]:
    """Return the same for large y: Q = exp(-y) y^(a-1) / Gamma(a) * G, G the integral of (1 + u/y)^(a-1) exp(-u)."""
    a = 1 / p
    y = np.exp(log_y)
    log_growth = np.log1p(_NODES / y[..., None])
    growth = np.exp((a - 1) * log_growth)
    G, dG = growth @ _NODE_WEIGHTS, (growth * log_growth) @ _NODE_WEIGHTS
    log_q = -y + (a - 1) * log_y - gammaln(a) + np.log(G)
    return log_q, -p * y / (z * G), log_y - digamma(a) + dG / G
