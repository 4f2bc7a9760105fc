import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.models.sudoku import SudokuNet, create_network
from timm_lp.models.sudoku.solving import count_solutions, fill_one_at_a_time, parse_puzzle, solve

from .reference import PUZZLE, SOLUTION, board, solutions_of

ROWS = [PUZZLE[start : start + 9] for start in range(0, 81, 9)]
OTHER_WAY = "".join(str(10 - int(digit)) for digit in SOLUTION)  # the solution with other names of its digits


class Knows(nn.Module):
    """Is the surer of a board's digits the further down they are."""

    def __init__(self, solution: str) -> None:
        super().__init__()
        right = nn.functional.one_hot(torch.from_numpy(board(solution)).long() - 1, 9).permute(2, 0, 1)
        self.logits = nn.Parameter(right * torch.linspace(1, 9, 81).view(9, 9))

    def forward(self, puzzles: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(puzzles), -1, -1, -1)


def _pretty() -> str:
    """Return the puzzle as people draw it."""
    lines = [" | ".join(" ".join(row[part : part + 3]) for part in (0, 3, 6)) for row in ROWS]
    for place in (6, 3):
        lines.insert(place, "------+-------+------")
    return "\n".join(lines).replace("0", "_")


@pytest.mark.parametrize(
    "puzzle",
    [
        PUZZLE,
        PUZZLE.replace("0", "."),
        PUZZLE.replace("0", "*") + "\n",
        "\n".join(ROWS),
        _pretty(),
        board(PUZZLE),
        [int(digit) for digit in PUZZLE],
    ],
    ids=["zeros", "dots", "stars", "lines", "drawn", "array", "list"],
)
def test_reads_a_puzzle_as_people_write_it(puzzle: object) -> None:
    found = parse_puzzle(puzzle)
    assert found.dtype == np.int8
    assert (found == board(PUZZLE)).all()


@pytest.mark.parametrize(
    ("puzzle", "sentence"),
    [
        (PUZZLE[1:], r"must be 81 cells, the digits 1 to 9 or one of 0 \. _ \* for a blank, got 80 cells\."),
        ("", "got 0 cells"),
        (PUZZLE.replace("7", "x"), "got 'x' among 81 cells"),
        (PUZZLE.replace("7", "\u0667"), "got '\u0667' among 81 cells"),
        (PUZZLE[:80] + "8", "got 8 twice in row 9"),
        ("5" + "0" * 8 + "5" + "0" * 71, "got 5 twice in column 1"),
        ("50000000000000000050" + "0" * 61, "twice in a row, column or box, got 5 twice in column 1"),
        ("5000000000500" + "0" * 68, "got 5 twice in box 1"),
        (np.full((9, 9), 10), "must be 81 integers from 0 to 9, 0 in blank cells, got int64 of the shape"),
        (np.zeros((9, 9)), "got float64"),
        (np.zeros((9, 8), int), r"got int64 of the shape \(9, 8\)"),
    ],
)
def test_refuses_what_is_no_puzzle(puzzle: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_puzzle(puzzle)


def test_counts_the_solutions_of_a_puzzle() -> None:
    puzzle = board(PUZZLE)
    assert count_solutions(puzzle) == 1
    assert count_solutions(board(SOLUTION)) == 1
    several = board(SOLUTION)
    several[several <= 3] = 0
    all_of_them = len(list(solutions_of(several)))
    assert all_of_them > 3
    assert [count_solutions(several, most=most) for most in (1, 2, 3, all_of_them, all_of_them + 1)] == [
        *(1, 2, 3),
        *(all_of_them, all_of_them),
    ]
    none = parse_puzzle("123456780000000009" + "0" * 63)
    assert count_solutions(none) == 0


def test_published_puzzles_have_one_solution() -> None:
    assert [count_solutions(puzzle) for puzzle in generate_puzzles(5, seed=3).puzzles] == [1] * 5


def test_fills_the_surest_cell_first() -> None:
    torch.manual_seed(0)
    network = create_network("lp2", channels=4, depth=2, inputs="one-hot").double().eval()
    puzzles, solutions = (part.copy() for part in generate_puzzles(3, seed=0))
    puzzles[1] = solutions[1]  # full already
    puzzles[2, :6] = solutions[2, :6]
    filled = fill_one_at_a_time(network, torch.from_numpy(puzzles))
    assert filled.boards.dtype == torch.int8
    for index, puzzle in enumerate(puzzles):
        expected, steps = _fill_by_hand(network, puzzle)
        assert (filled.boards[index].numpy() == expected).all()
        assert filled.cells[index].tolist() == [cell for cell, _ in steps] + [-1] * (filled.cells.shape[1] - len(steps))
        found = filled.confidences[index, : len(steps)]
        torch.testing.assert_close(found, torch.tensor([sureness for _, sureness in steps]))
        assert not filled.confidences[index, len(steps) :].any()
        assert ((puzzle == 0) | (puzzle == expected)).all()


def _fill_by_hand(network: nn.Module, puzzle: np.ndarray) -> tuple[np.ndarray, list[tuple[int, float]]]:
    grid, steps = puzzle.copy(), []
    while (grid == 0).any():
        with torch.no_grad():
            probabilities = network(torch.from_numpy(grid[None]))[0].softmax(dim=0)
        sureness = {
            (digit + 1, i, j): float(probabilities[digit, i, j])
            for digit in range(9)
            for i in range(9)
            for j in range(9)
            if grid[i, j] == 0
        }
        digit, i, j = max(sureness, key=lambda key: sureness[key])
        grid[i, j] = digit
        steps.append((9 * i + j, sureness[digit, i, j]))
    return grid, steps


def test_a_solution_says_in_which_order_it_was_found() -> None:
    solution = solve(Knows(SOLUTION), PUZZLE)
    assert (solution.board == board(SOLUTION)).all()
    assert [(step.row, step.column) for step in solution.steps] == [
        (cell // 9 + 1, cell % 9 + 1) for cell in range(80, -1, -1) if PUZZLE[cell] == "0"
    ]
    assert all(str(step.digit) == SOLUTION[9 * step.row + step.column - 10] for step in solution.steps)
    assert all(before.confidence >= after.confidence for before, after in pairwise(solution.steps))
    assert solution.is_solved
    assert str(solution).splitlines()[2:4] == [" 1 9 8 | 3 4 2 | 5 6 7", "-------+-------+-------"]


@pytest.mark.parametrize(
    ("puzzle", "answer", "verdict"),
    [
        (PUZZLE, SOLUTION, "Solved: every row, column and box .* once, and the puzzle has no other solution"),
        ("." * 81, SOLUTION, r"Solved: .* has each digit once\. The puzzle has other solutions too"),
        (PUZZLE, OTHER_WAY, r"Not solved: 26 of the 27 .* lack a digit\. The puzzle has one solution"),
        ("5" + "." * 80, "1" * 81, "The puzzle has several solutions: the network went wrong"),
        ("12345678." + "........9" + "." * 63, SOLUTION, "Not solved: the puzzle has no solution"),
    ],
)
def test_the_rules_judge_what_a_network_filled_in(puzzle: str, answer: str, verdict: str) -> None:
    solution = solve(Knows(answer), puzzle)
    assert solution.is_solved == verdict.startswith("Solved")
    assert re.search(verdict, solution.verdict)


def test_a_network_in_training_is_refused() -> None:
    network = SudokuNet(channels=2, depth=1)
    with pytest.raises(ValueError, match="must be in evaluation mode to solve a puzzle"):
        network.solve(PUZZLE)
