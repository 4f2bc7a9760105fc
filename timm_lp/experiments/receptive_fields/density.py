"""The multivariate p-generalized normal distribution, MPND (Eq. 1)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, gammaln

Array = NDArray[np.float64]


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
    """Draw offsets from the MPND.

    Args:
        n: Number of offsets.
        C: Inverse width, shape `(d, d)`, 1 / unit of the offsets.
        p: Exponent, above 0.
        mean: Centre, shape `(d,)` or a number.
        seed: What settles the draw.

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
