"""Representational similarity matrices: Pearson's correlation between what units answer to two images (A.11)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-10  # of an image's mean square; what varies by less is constant


def rsm_of_responses(responses: NDArray[np.floating], centred: bool) -> Array:
    """Return the similarities of images by the responses to them.

    Args:
        responses: Shape `(n, trials, units)`; trials are averaged.
        centred: Whether to subtract each unit's mean over the images first.

    Returns:
        Shape `(n, n)`; NaN for images whose units all answer the same.
    """
    means = responses.mean(1, dtype=np.float64)
    return rsm_of_gram(means @ means.T, means.sum(1), means.shape[1], centred)


def rsm_of_gram(gram: Array, sums: Array, units: int, centred: bool) -> Array:
    """Return Pearson's correlations between images from the products of their activities, which need little memory.

    Args:
        gram: Sums over the units of the products of two images' activities, shape `(n, n)`.
        sums: Sums of each image's activities over the units, shape `(n,)`.
        units: Number of the units.
        centred: Whether to subtract each unit's mean over the images first.

    Returns:
        Shape `(n, n)`; NaN for images whose units all answer the same.
    """
    covariance = covariance_of_gram(gram, sums, units, centred)
    variance = np.where(np.diag(covariance) > _ROUNDING * np.diag(gram), np.diag(covariance), np.nan)
    return covariance / np.sqrt(np.outer(variance, variance))


def covariance_of_gram(gram: Array, sums: Array, units: int, centred: bool) -> Array:
    """Return the covariances of images over the units, times the number of the units; arguments as `rsm_of_gram`."""
    if centred:
        gram = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
        sums = sums - sums.mean()
    return gram - np.outer(sums, sums) / units


def pairs_of(rsm: Array) -> Array:
    """Return the entries below the diagonal, one for each pair of images."""
    return rsm[np.tril_indices(len(rsm), -1)]
