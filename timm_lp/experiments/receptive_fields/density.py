"""The multivariate p-generalized normal distribution, MPND (Eq. 1), and its integral over the taps of a lattice."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, gammaln

Array = NDArray[np.float64]

_SERIES_TERMS = np.arange(30)
_SERIES_LIMIT = 2.0  # of z^p: below it the series is exact, above it the quadrature
_NODES, _NODE_WEIGHTS = np.polynomial.laguerre.laggauss(60)
_LARGEST_LOG = 230.0  # of z^p, so that its square is finite


def mpnd_log_prob(offsets: ArrayLike, C: ArrayLike, p: float, mean: ArrayLike = 0.0) -> Array:
    """Return the logarithm of the MPND's density (Eq. 1).

    The density is `|det C| / (2 Gamma(1 + 1/p))^d * exp(-|C (x - mean)|_p^p)`. Footnote 1 of the paper has `det C` on
    the wrong side: with its factor the density integrates to `1 / det(C)^2`.

    Args:
        offsets: Points, shape `(..., d)`.
        C: Inverse width, shape `(d, d)`, 1 / unit of the offsets.
        p: Exponent, above 0; 2 is a normal distribution with covariance `(C^T C)^-1 / 2`.
        mean: Centre, shape `(d,)` or a number.

    Returns:
        Log density, nats, shape `(...)`, float64.

    Raises:
        ValueError: If `C` is not a square matrix with an inverse, `p` is not a finite number above 0, or the last axis
            of `offsets` does not have as many entries as `C` has columns.
    """
    points, matrix = np.asarray(offsets, dtype=np.float64), _checked_matrix(C, p)
    if points.ndim == 0 or points.shape[-1] != len(matrix):
        raise ValueError(
            f"`offsets` must have shape (..., {len(matrix)}), as `C` is {len(matrix)} x {len(matrix)}, "
            f"got {points.shape}. Put the coordinates on the last axis."
        )
    z = np.abs((points - np.asarray(mean, dtype=np.float64)) @ matrix.T)
    return float(np.linalg.slogdet(matrix)[1]) - len(matrix) * log_normalizer(p) - (z**p).sum(-1)


def sample_mpnd(n: int, C: ArrayLike, p: float, mean: ArrayLike = 0.0, *, seed: int) -> Array:
    """Sample offsets from the MPND.

    Args:
        n: Number of offsets.
        C: Inverse width, shape `(d, d)`, 1 / unit of the offsets.
        p: Exponent, above 0.
        mean: Centre, shape `(d,)` or a number.
        seed: Seed of the sample.

    Returns:
        Offsets, shape `(n, d)`, float64.

    Raises:
        ValueError: As `mpnd_log_prob` for `C` and `p`.
    """
    matrix, generator = _checked_matrix(C, p), np.random.default_rng(seed)
    size = n, len(matrix)
    z = generator.gamma(1 / p, size=size) ** (1 / p) * generator.choice((-1.0, 1.0), size=size)
    return z @ np.linalg.inv(matrix).T + np.asarray(mean, dtype=np.float64)


def variance(p: float) -> float:
    """Return the variance of one coordinate of `C (x - mean)`: `Gamma(3/p) / Gamma(1/p)`, 0.5 at p = 2."""
    return math.exp(gammaln(3 / p) - gammaln(1 / p))


def log_normalizer(p: float) -> float:
    """Return the logarithm of the integral of `exp(-|z|^p)` over the line: `ln(2 Gamma(1 + 1/p))`."""
    return math.log(2) + float(gammaln(1 + 1 / p))


def log_normalizer_slope(p: float) -> float:
    """Return the derivative of `log_normalizer` with respect to p."""
    return -float(digamma(1 + 1 / p)) / p**2


def _checked_matrix(C: ArrayLike, p: float) -> Array:
    matrix = np.asarray(C, dtype=np.float64)
    is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not (is_square and np.isfinite(matrix).all() and np.linalg.slogdet(matrix)[0]):  # a determinant may underflow
        raise ValueError(
            f"`C` must be a square matrix with an inverse, got {matrix.tolist()}. Use the identity divided by sigma."
        )
    if not (math.isfinite(p) and p > 0):
        raise ValueError(f"`p` must be a finite number above 0, got {p}. Use 2 for a normal distribution.")
    return matrix


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
