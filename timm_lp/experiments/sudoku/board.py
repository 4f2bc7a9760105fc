"""The board: its 81 cells, row by row, and its 27 units, the rows, columns and boxes."""

from typing import NamedTuple

import numpy as np

KINDS = ("row", "column", "box")

_CELLS = np.arange(81)
_ROWS, _COLUMNS = _CELLS // 9, _CELLS % 9
# The unit that each cell is in, of each kind: (3, 81), units counted 0-8 rows, 9-17 columns, 18-26 boxes.
UNITS_OF_CELLS = np.stack([_ROWS, 9 + _COLUMNS, 18 + 3 * (_ROWS // 3) + _COLUMNS // 3])
# The cells of each unit: (27, 9).
CELLS_OF_UNITS = np.stack([np.flatnonzero((UNITS_OF_CELLS == unit).any(axis=0)) for unit in range(27)])


class Puzzles(NamedTuple):
    """Puzzles and their solutions, digits 1-9 and 0 for a blank cell, each `(n, 9, 9)` in `int8`."""

    puzzles: np.ndarray
    solutions: np.ndarray

    def take(self, indices: np.ndarray) -> "Puzzles":
        """Return the puzzles at these places, or those that are marked."""
        return Puzzles(self.puzzles[indices], self.solutions[indices])


def valid_units(grids: np.ndarray) -> np.ndarray:
    """Return which units hold each of the digits 1 to 9 once.

    Args:
        grids: Digits 0-9, shape `(n, 9, 9)`.

    Returns:
        Booleans, shape `(n, 3, 9)`: the rows, the columns and the boxes.
    """
    bits = np.left_shift(1, grids.reshape(-1, 81).astype(np.int16))
    found = np.bitwise_or.reduce(bits[:, CELLS_OF_UNITS], axis=2)
    return (found == 0b11_1111_1110).reshape(-1, 3, 9)
