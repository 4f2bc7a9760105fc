from itertools import islice

import numpy as np
import pytest

from tests.models.sudoku.reference import PUZZLE, SOLUTION, board, hidden_single, share_of_valid, solutions_of
from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.models.sudoku.board import Puzzles


@pytest.fixture(scope="module")
def generated() -> Puzzles:
    return generate_puzzles(600, seed=0)  # more than are made at a time


def test_the_reference_solver_finds_all_solutions() -> None:
    (found,) = solutions_of(board(PUZZLE))
    assert (found == board(SOLUTION)).all()
    ambiguous = board(SOLUTION)
    ambiguous[np.isin(ambiguous, (6, 8))] = 0  # which may change places everywhere
    assert len([*islice(solutions_of(ambiguous), 3)]) >= 2


def test_each_puzzle_has_its_solution_and_no_other(generated: Puzzles) -> None:
    for puzzle, solution in zip(generated.puzzles[:15], generated.solutions[:15], strict=True):
        found = [*islice(solutions_of(puzzle), 2)]
        assert len(found) == 1
        assert (found[0] == solution).all()


def test_hidden_singles_alone_solve_each_puzzle(generated: Puzzles) -> None:
    for puzzle, solution in zip(generated.puzzles[-3:], generated.solutions[-3:], strict=True):
        grid = puzzle.copy()
        while (single := hidden_single(grid)) is not None:
            i, j, digit = single
            grid[i, j] = digit
        assert (grid == solution).all()


def test_has_full_grids_and_the_published_number_of_givens(generated: Puzzles) -> None:
    puzzles, solutions = generated
    assert puzzles.shape == solutions.shape == (600, 9, 9)
    assert puzzles.dtype == solutions.dtype == np.int8
    assert ((puzzles == 0) | (puzzles == solutions)).all()
    assert all(share_of_valid(grid, kind) == 1 for grid in solutions for kind in ("row", "column", "box"))
    givens = (puzzles > 0).sum(axis=(1, 2))
    # Of 20,000 published ones: mean 33.81, standard deviation 0.90, from 29 to 37.
    assert 33.6 < givens.mean() < 34.0
    assert 0.8 < givens.std() < 1.0
    assert givens.min() >= 28
    assert givens.max() <= 38


def test_depends_on_the_seed_alone(generated: Puzzles) -> None:
    again = generate_puzzles(600, seed=0)
    assert all((one == other).all() for one, other in zip(generated, again, strict=True))
    assert (generate_puzzles(5, seed=1).solutions != generated.solutions[:5]).any(axis=(1, 2)).all()
    assert len(np.unique(generated.puzzles.reshape(-1, 81), axis=0)) == 600


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_refuses_a_number_that_is_none(n: float) -> None:
    with pytest.raises(ValueError, match=r"`n` must be a positive integer, got .* It is the number of puzzles\."):
        generate_puzzles(n, seed=0)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_refuses_a_seed_that_is_none(seed: float) -> None:
    with pytest.raises(ValueError, match=f"`seed` must be an integer that is not negative, got {seed}"):
        generate_puzzles(1, seed)
