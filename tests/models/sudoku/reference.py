"""Slow and obvious versions of what the Sudoku experiment computes."""

import itertools
from collections.abc import Iterator

import numpy as np

# A puzzle of 30 givens and its only solution.
PUZZLE = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


def board(digits: str) -> np.ndarray:
    """Return a board, shape `(9, 9)`."""
    return np.array([int(digit) for digit in digits], dtype=np.int8).reshape(9, 9)


def units(grid: np.ndarray) -> dict[str, list[list[int]]]:
    """Return the digits of each row, column and box."""
    return {
        "row": [[int(grid[i, j]) for j in range(9)] for i in range(9)],
        "column": [[int(grid[i, j]) for i in range(9)] for j in range(9)],
        "box": [[int(grid[3 * (k // 3) + i, 3 * (k % 3) + j]) for i in range(3) for j in range(3)] for k in range(9)],
    }


def share_of_valid(grid: np.ndarray, kind: str) -> float:
    """Return the share of the units of a kind that hold each digit once."""
    return sum(sorted(unit) == list(range(1, 10)) for unit in units(grid)[kind]) / 9


def candidates(grid: np.ndarray, i: int, j: int) -> list[int]:
    """Return the digits that no other cell of the units of a cell has."""
    box = grid[i // 3 * 3 : i // 3 * 3 + 3, j // 3 * 3 : j // 3 * 3 + 3]
    return [digit for digit in range(1, 10) if digit not in grid[i] and digit not in grid[:, j] and digit not in box]


def solutions_of(puzzle: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all the solutions of a puzzle, by trying each digit that the rules leave."""
    blank = [(len(candidates(puzzle, i, j)), i, j) for i, j in zip(*np.nonzero(puzzle == 0), strict=True)]
    if not blank:
        yield puzzle
        return
    _, i, j = min(blank)
    for digit in candidates(puzzle, i, j):
        filled = puzzle.copy()
        filled[i, j] = digit
        yield from solutions_of(filled)


def hidden_single(puzzle: np.ndarray) -> tuple[int, int, int] | None:
    """Return a cell and a digit that has no other place in a unit of that cell, or None."""
    places = {(i, j): candidates(puzzle, i, j) for i, j in zip(*np.nonzero(puzzle == 0), strict=True)}
    for (i, j), digits in places.items():
        for digit in digits:
            others = [cell for cell in places if cell != (i, j) and digit in places[cell]]
            same = (
                [cell for cell in others if cell[0] == i],
                [cell for cell in others if cell[1] == j],
                [cell for cell in others if (cell[0] // 3, cell[1] // 3) == (i // 3, j // 3)],
            )
            if not all(same):
                return int(i), int(j), digit
    return None


def canonical(grid: np.ndarray) -> bytes:
    """Return the smallest board that symmetries make of a full grid, transposition included; of two million."""
    orders = [*itertools.permutations(range(3))]
    lines = [
        [3 * block + line for block, order in zip(blocks, inner, strict=True) for line in order]
        for blocks in orders
        for inner in itertools.product(orders, repeat=3)
    ]
    columns = np.array(lines)
    smallest = []
    for side in (grid, grid.T):
        for first, second, third in itertools.permutations(range(9), 3):
            if not first // 3 == second // 3 == third // 3:
                continue
            moved = side[:, columns].swapaxes(0, 1)
            names = np.zeros((len(columns), 10), dtype=np.uint8)
            names[np.arange(len(columns))[:, None], moved[:, first]] = np.arange(1, 10)
            named = np.take_along_axis(names, moved.reshape(len(columns), 81), axis=1).reshape(-1, 9, 9)
            # The other rows and bands have the smallest order if they are sorted by their first digits.
            top = named[:, [first, second, third]]
            rest = [named[:, 3 * band : 3 * band + 3] for band in range(3) if band != first // 3]
            rest = [np.take_along_axis(part, part[:, :, :1].argsort(axis=1), axis=1) for part in rest]
            swap = (rest[0][:, 0, 0] > rest[1][:, 0, 0])[:, None, None]
            below = [np.where(swap, rest[1], rest[0]), np.where(swap, rest[0], rest[1])]
            smallest.append(min(board.tobytes() for board in np.concatenate([top, *below], axis=1)))
    return min(smallest)
