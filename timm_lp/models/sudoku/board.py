"""The board: its 81 cells, row by row, its 27 units (rows, columns and boxes), and the score of filled boards."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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
        """Return the puzzles at these indices, or where this mask is true."""
        return Puzzles(self.puzzles[indices], self.solutions[indices])


def valid_units(grids: np.ndarray) -> np.ndarray:
    """Return which units hold each of the digits 1 to 9 once.

    Args:
        grids: Digits 0-9, shape `(n, 9, 9)`.

    Returns:
        Booleans, shape `(n, 3, 9)`: the rows, the columns and the boxes.
    """
    bits = np.left_shift(1, grids.reshape(-1, 81).astype(np.int16))
    digits = np.bitwise_or.reduce(bits[:, CELLS_OF_UNITS], axis=2)
    return (digits == 0b11_1111_1110).reshape(-1, 3, 9)


def score(predicted: ArrayLike, puzzles: ArrayLike, solutions: ArrayLike) -> dict[str, float]:
    """Return how good filled boards are, as fractions.

    The authors' measures: `row`, `column` and `box` are the shares of rows, columns and boxes that hold each digit
    once; `sudoku` is the share of boards on which all 27 do, whether or not they keep the puzzle's givens; `number` is
    the share of all cells with the solution's digit. Stricter ones: `blank` is that share among the puzzles' blank
    cells, and `exact` the share of boards that equal the solution.

    Args:
        predicted: Digits in all cells, shape `(n, 9, 9)`; 0 in empty ones.
        puzzles: Digits 1-9, and 0 in the blank cells, of the same shape.
        solutions: Digits, of the same shape.

    Raises:
        ValueError: If the shapes differ or are no boards, a digit is none, or no cell is blank.
    """
    boards = {"predicted": predicted, "puzzles": puzzles, "solutions": solutions}
    grids = {name: np.asarray(board) for name, board in boards.items()}
    _check(grids)
    valid = valid_units(grids["predicted"])
    right = grids["predicted"] == grids["solutions"]
    fractions = dict(zip(KINDS, valid.mean(axis=(0, 2)).tolist(), strict=True))
    return {
        **fractions,
        "sudoku": float(valid.all(axis=(1, 2)).mean()),
        "number": float(right.mean()),
        "blank": float(right[grids["puzzles"] == 0].mean()),
        "exact": float(right.all(axis=(1, 2)).mean()),
    }


def _check(grids: Mapping[str, np.ndarray]) -> None:
    for name, grid in grids.items():
        if grid.ndim != 3 or grid.shape[1:] != (9, 9) or len(grid) != len(grids["puzzles"]) or not len(grid):
            shapes = ", ".join(f"{other} {grids[other].shape}" for other in grids)
            raise ValueError(f"`{name}` must have the shape (n, 9, 9) with one n for all, got {shapes}.")
        if grid.dtype.kind not in "iu" or grid.min() < 0 or grid.max() > 9:
            raise ValueError(
                f"`{name}` must hold the digits 0 to 9 as integers, got {grid.dtype} from {grid.min()} to {grid.max()}."
            )
    if grids["puzzles"].all():
        raise ValueError("`puzzles` must have blank cells, got none. Blank cells are 0.")
