"""Metrics of filled boards: the paper's measures, and stricter ones."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .board import KINDS, valid_units


def score(predicted: ArrayLike, puzzles: ArrayLike, solutions: ArrayLike) -> dict[str, float]:
    """Return how good filled boards are, as fractions.

    `row`, `column` and `box` are the shares of the rows, columns and boxes that hold each digit once; `sudoku` is the
    share of boards on which all 27 do, whatever the puzzle was; `number` is the share of all cells with the
    solution's digit. So far the authors' measures. `blank` is that share among the puzzles' blank cells, and `exact`
    the share of boards that equal the solution.

    Args:
        predicted: Digits in all cells, shape `(n, 9, 9)`; 0 where there is none.
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
