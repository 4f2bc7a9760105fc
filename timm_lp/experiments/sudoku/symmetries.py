"""The symmetries of the game: they turn a puzzle into another one of the same difficulty.

Digits may be renamed, and bands, stacks, the rows of a band and the columns of a stack change places; a transposition
swaps rows and columns. Training uses them for augmentation, and so no test grid may be a training grid under them.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...models.sudoku.board import Puzzles

_CHUNK = 5000  # a grid takes some 10 KiB on the way


class Symmetries(NamedTuple):
    """One symmetry for each of `n` boards, in `uint8`.

    Attributes:
        digits: What each digit becomes, shape `(n, 10)`; blank cells stay so.
        rows: The row that moves to each row, shape `(n, 9)`.
        columns: The column that moves to each column, shape `(n, 9)`.
        transposed: Whether rows and columns are swapped in the end, shape `(n,)`.
    """

    digits: Tensor
    rows: Tensor
    columns: Tensor
    transposed: Tensor

    def take(self, indices: Tensor) -> "Symmetries":
        """Return the symmetries at these indices."""
        return Symmetries(*(part[indices] for part in self))

    def to(self, device: torch.device) -> "Symmetries":
        """Return them on a device."""
        return Symmetries(*(part.to(device) for part in self))

    def apply(self, grids: Tensor) -> Tensor:
        """Return what becomes of boards, `(n, 9, 9)`, digits 0-9 in any integer format."""
        rows, columns = self.rows.long(), self.columns.long()
        transposed = self.transposed.bool()[:, None, None]
        cells = 9 * rows[:, :, None] + columns[:, None, :]
        cells = torch.where(transposed, cells.mT, cells).flatten(1)
        moved = grids.flatten(1).gather(1, cells)
        return self.digits.to(grids.dtype).gather(1, moved.long()).unflatten(1, (9, 9))


def draw_symmetries(n: int, generator: torch.Generator, *, transpose: bool = False) -> Symmetries:
    """Return a random symmetry for each of `n` boards.

    Args:
        n: How many.
        generator: Draws them; they are on its device.
        transpose: Whether to swap rows and columns half of the time.
    """

    def permutations(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator, device=generator.device).argsort(dim=-1).to(torch.uint8)

    def lines() -> Tensor:
        return (3 * permutations(3)[:, :, None] + permutations(3, 3)).flatten(1)

    digits = torch.nn.functional.pad(permutations(9) + 1, (1, 0))
    rows, columns = lines(), lines()
    transposed = torch.rand(n, generator=generator, device=generator.device) < 0.5 * transpose
    return Symmetries(digits, rows, columns, transposed.to(torch.uint8))


def fingerprints(solutions: np.ndarray) -> np.ndarray:
    """Return what no symmetry changes in full grids, the transposition included.

    One row over another is a permutation of the digits, and the lengths of its cycles depend neither on the digits'
    names nor on the order of the columns. The fingerprint is these lengths, for each pair of rows and of columns, in
    an order that depends on none of the rows and columns. Grids with different fingerprints are therefore no variants
    of each other. (The reverse is all but certain, and nothing relies on it.)

    Args:
        solutions: Full, valid grids, shape `(n, 9, 9)`.

    Returns:
        Bytes, shape `(n,)`.
    """
    chunks = [solutions[start : start + _CHUNK] for start in range(0, len(solutions), _CHUNK)]
    return np.concatenate([_fingerprints_of_chunk(chunk) for chunk in chunks])


def _fingerprints_of_chunk(grids: np.ndarray) -> np.ndarray:
    sides = [_fingerprints_of_rows(side) for side in (grids, grids.swapaxes(1, 2))]
    return _joined(np.sort(np.concatenate(sides, axis=1), axis=1))


def _fingerprints_of_rows(grids: np.ndarray) -> np.ndarray:
    """Return the part of the fingerprint that pairs of rows make, shape `(n, 1)`."""
    codes = _cycle_codes(grids)  # (n, 9, 9) rows by rows
    band = np.arange(9) // 3
    within = np.stack([np.flatnonzero((band == band[row]) & (np.arange(9) != row)) for row in range(9)])
    beyond = np.stack([np.flatnonzero(band != band[row]) for row in range(9)])
    parts = [np.sort(codes[:, np.arange(9)[:, None], others], axis=2) for others in (within, beyond)]
    rows = _joined(np.concatenate(parts, axis=2))
    bands = _joined(np.sort(rows.reshape(-1, 3, 3), axis=2))
    return _joined(np.sort(bands, axis=1))[:, None]


def _cycle_codes(grids: np.ndarray) -> np.ndarray:
    """Return a number from 1 to 81 for the cycles' lengths of each row over each other, shape `(n, 9, 9)`, `uint8`.

    It is the sum of the squared lengths, which tells the eight ways in which 9 digits without a fixed one can cycle.
    """
    positions = grids.argsort(axis=2)  # of each digit in each row
    step = np.take_along_axis(
        np.broadcast_to(grids[:, None] - 1, (len(grids), 9, 9, 9)), positions[:, :, None].repeat(9, axis=2), axis=3
    )  # (n, i, j, d): the digit in row j that stands over digit d of row i
    digits = np.arange(9)
    reached, lengths = step, np.zeros(step.shape, dtype=np.uint8)
    for length in range(1, 10):
        lengths[(reached == digits) & (lengths == 0)] = length
        reached = np.take_along_axis(step, reached, axis=3)
    return lengths.sum(axis=3, dtype=np.uint8)


def _joined(parts: np.ndarray) -> np.ndarray:
    """Return the last axis as one string of bytes, which sorts as its parts do; none of them may be 0."""
    parts = np.ascontiguousarray(parts)
    return parts.view(f"S{parts.itemsize * parts.shape[-1]}")[..., 0]


def hold_out(puzzles: Puzzles, n: int, seed: int) -> tuple[Puzzles, Puzzles]:
    """Return puzzles for training, and `n` others for the test, drawn at random.

    Puzzles that are not drawn, but have the fingerprint of one that is, are left out, so no symmetry leads from a
    training grid to a test grid.

    Raises:
        ValueError: If `n` leaves none for training, or none for the test.
    """
    total = len(puzzles.puzzles)
    chosen = np.random.default_rng(seed).permutation(total)[: max(n, 0)]
    prints = fingerprints(puzzles.solutions)
    training = ~np.isin(prints, prints[chosen])
    if not len(chosen) or not training.any():
        raise ValueError(
            f"`n` must leave puzzles for the training and for the test, got {n} of {total}. Use fewer test puzzles."
        )
    return puzzles.take(training), puzzles.take(np.sort(chosen))
