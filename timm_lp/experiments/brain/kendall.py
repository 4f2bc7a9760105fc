"""Kendall's tau-b between two lists of values whose entries carry weights, for many sets of weights at once."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_Ranks = NDArray[np.intp]
_Weights = NDArray[np.float32]

_BATCH = 64  # sets of weights that are counted together; products of larger matrices wait for BLAS's threads


def weighted_tau(x: Array, y: Array, weights: NDArray[np.number]) -> Array:
    """Return Kendall's tau-b of `x` and `y`, each entry repeated as often as its weight says.

    Both lists are cut into chunks along their order. Two entries that lie in different chunks of both are counted by
    chunk, the others one by one in small products of matrices.

    Args:
        x: Values, shape `(m,)`.
        y: Values, shape `(m,)`.
        weights: Counts, shape `(m, B)`, zeros included.

    Returns:
        Tau of each set of weights, shape `(B,)`; NaN where one of the lists is constant.
    """
    x_ranks, y_ranks = _dense_ranks(x), _dense_ranks(y)
    batches = [weights[:, start : start + _BATCH] for start in range(0, weights.shape[1], _BATCH)]
    return np.concatenate([_tau(x_ranks, y_ranks, batch.astype(np.float32)) for batch in batches])


def _tau(x_ranks: _Ranks, y_ranks: _Ranks, weights: _Weights) -> Array:
    x_chunks, y_chunks = _chunks(x_ranks), _chunks(y_ranks)
    concordant = (
        _across_chunks(x_chunks, y_chunks, weights)
        + _within_chunks(x_chunks, x_ranks, y_ranks, weights)
        + _within_chunks(y_chunks, x_chunks, y_ranks, weights)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return concordant / np.sqrt(_untied_pairs(x_ranks, weights) * _untied_pairs(y_ranks, weights))


def _dense_ranks(values: Array) -> _Ranks:
    """Return ranks from 0 that equal values share."""
    return np.unique(values, return_inverse=True)[1]


def _chunks(ranks: _Ranks) -> _Ranks:
    """Return the number of each entry's chunk; equal entries share a chunk."""
    size = max(1, round(1.5 * len(ranks) ** 0.5))
    below = np.searchsorted(np.sort(ranks), ranks)  # entries of a lower rank
    return _dense_ranks(below // size)


def _across_chunks(x_chunks: _Ranks, y_chunks: _Ranks, weights: _Weights) -> Array:
    """Return concordant minus discordant pairs among those of different chunks of both lists."""
    shape = (x_chunks.max() + 1, y_chunks.max() + 1)
    cells = np.ravel_multi_index((x_chunks, y_chunks), shape)
    order = np.argsort(cells)
    occupied, starts = np.unique(cells[order], return_index=True)
    counts = np.zeros((shape[0] * shape[1], weights.shape[1]), np.float32)
    counts[occupied] = np.add.reduceat(weights[order], starts, axis=0)
    counts = counts.reshape(*shape, -1)
    lower_x = np.cumsum(counts, axis=0) - counts
    lower_x_up_to_y = np.cumsum(lower_x, axis=1)
    difference = 2 * lower_x_up_to_y - lower_x - lower_x_up_to_y[:, -1:]
    return np.einsum("xyb,xyb->b", counts, difference, dtype=np.float64)


def _within_chunks(chunks: _Ranks, x: _Ranks, y: _Ranks, weights: _Weights) -> Array:
    """Return concordant minus discordant pairs among those that share a chunk."""
    total = np.zeros(weights.shape[1])
    order = np.argsort(chunks)
    for members in np.split(order, np.flatnonzero(np.diff(chunks[order])) + 1):
        signs = np.sign(np.subtract.outer(x[members], x[members])) * np.sign(np.subtract.outer(y[members], y[members]))
        of_chunk = weights[members]
        total += (of_chunk * (signs.astype(np.float32) @ of_chunk)).sum(0) / 2
    return total


def _untied_pairs(ranks: _Ranks, weights: _Weights) -> Array:
    """Return how many pairs of entries differ."""
    order = np.argsort(ranks)
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    of_rank = weights if len(starts) == len(ranks) else np.add.reduceat(weights[order], starts, axis=0)
    total = weights.sum(0, dtype=np.float64)
    return (total**2 - np.einsum("rb,rb->b", of_rank, of_rank, dtype=np.float64)) / 2
