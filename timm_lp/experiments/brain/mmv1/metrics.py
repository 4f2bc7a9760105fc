"""Metrics of predicted spike counts."""

import sys

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMOOTHING = 41  # bins, 2 seconds

_ONE = 1 + 1e-9  # rounding may pass 1
LIMITS = {"cc": (-_ONE, _ONE), "mse": (0.0, sys.float_info.max), "raw_cc": (-_ONE, _ONE)}  # of the scores


def scores(predicted: Array, spikes: Array) -> dict[str, float]:
    """Return the correlations of predictions with spike counts, means over the neurons, and the squared error.

    Args:
        predicted: Expected counts, shape `(T, neurons)`.
        spikes: Counts, shape `(T, neurons)`.

    Returns:
        `cc` and `mse` after both are averaged over 2 seconds, as in Table 5, and `raw_cc` of the bins as they are.
    """
    smooth = smoothed(predicted), smoothed(spikes)
    return {
        "cc": mean_correlation(*smooth),
        "mse": float(np.mean((smooth[0] - smooth[1]) ** 2)),
        "raw_cc": mean_correlation(predicted, spikes),
    }


def smoothed(values: Array) -> Array:
    """Return the means over 41 bins; beyond the ends there is nothing, which counts as 0."""
    box = np.full(SMOOTHING, 1 / SMOOTHING)
    return np.stack([np.convolve(column, box, mode="same") for column in values.T], axis=1)


def mean_correlation(predicted: Array, spikes: Array) -> float:
    """Return the mean over the neurons of Pearson's correlation; one that does not vary counts as 0."""
    one, other = predicted - predicted.mean(0), spikes - spikes.mean(0)
    norms = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    return float(np.mean((one * other).sum(0) / np.where(norms > 0, norms, np.inf)))
