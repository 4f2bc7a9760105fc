"""A puzzle as people write it, filled cell by cell by a network, and what the rules say of the result."""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .board import CELLS_OF_UNITS, KINDS, UNITS_OF_CELLS, valid_units

_BLANKS = "0._*"
_RULER = re.compile(r"[-+=|\s]*")  # a line between boxes
_BETWEEN = re.compile(r"[|\s]")  # what may stand between cells


class Filled(NamedTuple):
    """Boards that a network has filled cell by cell.

    Attributes:
        boards: Digits, shape `(N, 9, 9)`.
        cells: The cells that were blank, in the order in which they were filled, 0-80 row by row, shape `(N, most)`
            with the largest number of blank cells; -1 behind a board's last one.
        confidences: The network's probability of each digit when it was filled, of the same shape; 0 behind the last.
    """

    boards: Tensor
    cells: Tensor
    confidences: Tensor


class Step(NamedTuple):
    """A cell that was filled: its row and column, from 1, its digit, and the network's probability of that digit."""

    row: int
    column: int
    digit: int
    confidence: float


@dataclass(frozen=True)
class Solution:
    """What a network made of a puzzle.

    Attributes:
        puzzle: The puzzle, digits with 0 in blank cells, shape `(9, 9)`.
        board: The filled board, of the same shape; the givens stay.
        steps: The cells that were filled, in their order, the surest first.
    """

    puzzle: np.ndarray
    board: np.ndarray
    steps: list[Step]

    @property
    def is_solved(self) -> bool:
        """Whether each row, column and box holds each digit once."""
        return bool(valid_units(self.board[None]).all())

    @property
    def verdict(self) -> str:
        """Whether the board is right by the rules, and if not, whether the puzzle or the network is the reason."""
        solutions = count_solutions(self.puzzle)
        if not solutions:
            return "Not solved: the puzzle has no solution."
        if self.is_solved and solutions == 1:
            return "Solved: every row, column and box has each digit once, and the puzzle has no other solution."
        if self.is_solved:
            return "Solved: every row, column and box has each digit once. The puzzle has other solutions too."
        lacking = int((~valid_units(self.board[None])).sum())
        has = "has one solution" if solutions == 1 else "has several solutions"
        return (
            f"Not solved: {lacking} of the 27 rows, columns and boxes lack a digit. The puzzle {has}: the network went "
            "wrong."
        )

    def __str__(self) -> str:
        """The filled board, with lines between the boxes."""
        ruler = "+".join(["-------"] * 3)
        rows = [" |".join("".join(f" {digit}" for digit in part) for part in row.reshape(3, 3)) for row in self.board]
        return "\n".join(f"{row}\n{ruler}" if index in (2, 5) else row for index, row in enumerate(rows))


def parse_puzzle(puzzle: str | ArrayLike) -> np.ndarray:
    """Return a puzzle's digits, 0 in blank cells, shape `(9, 9)` in `int8`.

    Args:
        puzzle: 81 cells row by row: as text, in which 0, `.`, `_` and `*` are blank cells, and white space, `|` and
            lines of `-`, `+` and `=` separate cells; or as integers, shape `(9, 9)` or `(81,)`, 0 in blank cells.

    Raises:
        ValueError: If these are no 81 cells, or a row, column or box holds a digit twice.
    """
    board = _digits_of(puzzle) if isinstance(puzzle, str) else np.asarray(puzzle)
    if board.size != 81 or board.dtype.kind not in "iu" or board.min() < 0 or board.max() > 9:
        raise ValueError(
            f"`puzzle` must be 81 integers from 0 to 9, 0 in blank cells, got {board.dtype} of the shape {board.shape}."
        )
    board = board.reshape(81).astype(np.int8)
    for unit, cells in enumerate(CELLS_OF_UNITS):
        digits, counts = np.unique(board[cells][board[cells] > 0], return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"`puzzle` must not hold a digit twice in a row, column or box, got {digits[counts.argmax()]} twice in "
                f"{KINDS[unit // 9]} {unit % 9 + 1}. Compare it with where it came from."
            )
    return board.reshape(9, 9)


def _digits_of(text: str) -> np.ndarray:
    lines = [line for line in text.splitlines() if not _RULER.fullmatch(line)]
    cells = _BETWEEN.sub("", "".join(lines))
    strange = sorted({*cells} - {*_BLANKS, *"123456789"})
    if len(cells) != 81 or strange:
        found = f"{len(cells)} cells" if not strange else f"{', '.join(map(repr, strange))} among {len(cells)} cells"
        raise ValueError(
            f"`puzzle` must be 81 cells, the digits 1 to 9 or one of {' '.join(_BLANKS)} for a blank, got {found}."
        )
    return np.array([0 if cell in _BLANKS else int(cell) for cell in cells])


def solve(network: nn.Module, puzzle: str | ArrayLike) -> Solution:
    """Return what a network makes of a puzzle, cell by cell, the surest first.

    Args:
        network: Maps puzzles to logits of the digits 1-9, as `SudokuNet` does; in evaluation mode.
        puzzle: See `parse_puzzle`.

    Raises:
        ValueError: If it is no puzzle.
    """
    board = parse_puzzle(puzzle)
    device = next(network.parameters()).device
    filled = fill_one_at_a_time(network, torch.from_numpy(board)[None].to(device))
    solved, cells, confidences = (part[0].cpu().numpy() for part in filled)
    steps = [
        Step(cell // 9 + 1, cell % 9 + 1, int(solved.flat[cell]), confidence)
        for cell, confidence in zip(cells.tolist(), confidences.tolist(), strict=True)
    ]
    return Solution(board, solved, steps)


@torch.no_grad()
def fill_one_at_a_time(network: nn.Module, puzzles: Tensor) -> Filled:
    """Return puzzles filled cell by cell: each time the blank cell and digit of which the network is surest.

    Args:
        network: Maps puzzles to logits of the digits 1-9, `(N, 9, 9, 9)`, digits first.
        puzzles: Digits 1-9, 0 in blank cells, shape `(N, 9, 9)`.
    """
    boards = puzzles.flatten(1).clone()
    most = int((boards == 0).sum(dim=1).max())
    order = torch.full((len(boards), most), -1, device=boards.device)
    confidences = torch.zeros(order.shape, device=boards.device)
    for step in range(most):
        sureness, digits = network(boards.unflatten(1, (9, 9))).float().softmax(dim=1).flatten(2).max(dim=1)
        cells = sureness.masked_fill(boards != 0, -1).argmax(dim=1, keepdim=True)
        there = boards.gather(1, cells)
        is_blank = there == 0  # not on boards that are full already
        boards.scatter_(1, cells, torch.where(is_blank, digits.gather(1, cells).to(boards.dtype) + 1, there))
        order[:, step] = torch.where(is_blank, cells, -1)[:, 0]
        confidences[:, step] = torch.where(is_blank, sureness.gather(1, cells), 0)[:, 0]
    return Filled(boards.unflatten(1, (9, 9)), order, confidences)


def count_solutions(puzzle: np.ndarray, most: int = 2) -> int:
    """Return how many solutions a puzzle has by the rules of the game, `most` if there are more.

    Args:
        puzzle: Digits, 0 in blank cells, shape `(9, 9)`; no digit stands twice in a unit.
        most: Where to stop counting.
    """
    # An exact cover (Knuth's algorithm X): each cell needs a digit, and each unit each digit, 81 + 27 * 9 needs.
    fills = {
        (cell, digit): [("cell", cell), *((int(unit), digit) for unit in UNITS_OF_CELLS[:, cell])]
        for cell in range(81)
        for digit in range(1, 10)
    }
    open_needs: dict[tuple, set[tuple[int, int]]] = {}
    for fill, needs in fills.items():
        for need in needs:
            open_needs.setdefault(need, set()).add(fill)
    for cell, digit in enumerate(puzzle.reshape(81).tolist()):
        if digit:
            _take(open_needs, fills, (cell, digit))
    return _count(open_needs, fills, most)


def _count(open_needs: dict, fills: dict, most: int) -> int:
    if not open_needs:
        return 1
    found = 0
    for fill in [*min(open_needs.values(), key=len)]:
        closed = _take(open_needs, fills, fill)
        found += _count(open_needs, fills, most - found)
        _give_back(open_needs, fills, fill, closed)
        if found >= most:
            break
    return found


def _take(open_needs: dict, fills: dict, fill: tuple[int, int]) -> list[set[tuple[int, int]]]:
    """Fill a cell: close what needs it met, and forget the fills that meet one of these again."""
    closed = []
    for need in fills[fill]:
        for rival in open_needs[need]:
            for other in fills[rival]:
                if other != need:
                    open_needs[other].discard(rival)
        closed.append(open_needs.pop(need))
    return closed


def _give_back(open_needs: dict, fills: dict, fill: tuple[int, int], closed: list[set[tuple[int, int]]]) -> None:
    """Undo `_take`, last need first."""
    for need in reversed(fills[fill]):
        open_needs[need] = closed.pop()
        for rival in open_needs[need]:
            for other in fills[rival]:
                if other != need:
                    open_needs[other].add(rival)
