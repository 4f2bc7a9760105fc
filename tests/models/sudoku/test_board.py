import numpy as np
import pytest
import torch

from timm_lp.experiments.sudoku import generate_puzzles, score

from .reference import PUZZLE, SOLUTION, board, share_of_valid

PUZZLES, SOLUTIONS = board(PUZZLE)[None], board(SOLUTION)[None]


def _score(grid: np.ndarray) -> dict[str, float]:
    return score(grid[None], PUZZLES, SOLUTIONS)


def test_the_solution_is_right_in_all() -> None:
    assert _score(board(SOLUTION)) == dict.fromkeys(("row", "column", "box", "sudoku", "number", "blank", "exact"), 1.0)


def test_one_wrong_cell_breaks_its_three_units() -> None:
    grid = board(SOLUTION)
    assert PUZZLES[0, 0, 2] == 0
    grid[0, 2] = 9  # instead of 4
    found = _score(grid)
    assert found["row"] == found["column"] == found["box"] == pytest.approx(8 / 9)
    assert found["number"] == pytest.approx(80 / 81)
    assert found["blank"] == pytest.approx(50 / 51)
    assert found["sudoku"] == found["exact"] == 0


def test_two_swapped_cells_of_a_row_break_their_columns_and_boxes() -> None:
    grid = board(SOLUTION)
    grid[0, [2, 3]] = grid[0, [3, 2]]  # blank cells of different boxes
    found = _score(grid)
    assert found["row"] == 1
    assert found["column"] == found["box"] == pytest.approx(7 / 9)
    assert found["number"] == pytest.approx(79 / 81)
    assert found["blank"] == pytest.approx(49 / 51)
    assert found["sudoku"] == found["exact"] == 0


def test_a_valid_grid_that_is_not_the_solution_is_a_sudoku_and_not_exact() -> None:
    found = _score(10 - board(SOLUTION))  # the digits renamed, 5 alone kept
    assert found["row"] == found["column"] == found["box"] == found["sudoku"] == 1
    assert found["exact"] == 0
    assert found["number"] == pytest.approx(9 / 81)
    assert found["blank"] == pytest.approx((9 - (PUZZLES == 5).sum()) / 51)


def test_an_empty_board_has_nothing() -> None:
    assert set(_score(np.zeros((9, 9), dtype=np.int64)).values()) == {0.0}
    assert _score(board(PUZZLE)) == {**dict.fromkeys(_score(board(PUZZLE)), 0.0), "number": 30 / 81}


def test_agrees_with_counting_unit_by_unit() -> None:
    puzzles, solutions = generate_puzzles(12, seed=0)
    rng = np.random.default_rng(0)
    predicted = np.where(rng.random(solutions.shape) < 0.02, rng.integers(1, 10, solutions.shape), solutions)
    found = score(predicted, puzzles, solutions)
    for kind in ("row", "column", "box"):
        assert found[kind] == pytest.approx(np.mean([share_of_valid(grid, kind) for grid in predicted]))
    pairs = [*zip(predicted.flat, puzzles.flat, solutions.flat, strict=True)]
    blank = [guess == digit for guess, given, digit in pairs if given == 0]
    assert found["number"] == pytest.approx(np.mean([guess == digit for guess, _, digit in pairs]))
    assert found["blank"] == pytest.approx(np.mean(blank))
    whole = [all(share_of_valid(grid, kind) == 1 for kind in ("row", "column", "box")) for grid in predicted]
    assert found["sudoku"] == pytest.approx(np.mean(whole))
    assert found["exact"] == pytest.approx(np.mean([(a == b).all() for a, b in zip(predicted, solutions, strict=True)]))


def test_takes_tensors_of_any_integer_format() -> None:
    tensors = [torch.tensor(grid, dtype=torch.int64) for grid in (10 - SOLUTIONS, PUZZLES, SOLUTIONS)]
    assert score(*tensors) == score((10 - SOLUTIONS).astype(np.uint8), PUZZLES, SOLUTIONS)


@pytest.mark.parametrize("name", ["predicted", "puzzles", "solutions"])
@pytest.mark.parametrize("shape", [(9, 9), (2, 9, 9), (1, 81), (0, 9, 9), (1, 9, 8)])
def test_refuses_other_shapes(name: str, shape: tuple[int, ...]) -> None:
    boards = {"predicted": SOLUTIONS, "puzzles": PUZZLES, "solutions": SOLUTIONS, name: np.ones(shape, dtype=np.int8)}
    with pytest.raises(ValueError, match=r"` must have the shape \(n, 9, 9\) with one n for all, got predicted \("):
        score(**boards)


@pytest.mark.parametrize("name", ["predicted", "puzzles", "solutions"])
@pytest.mark.parametrize("wrong", [SOLUTIONS + 1, SOLUTIONS - 2, SOLUTIONS.astype(float)])
def test_refuses_what_is_no_digit(name: str, wrong: np.ndarray) -> None:
    boards = {"predicted": SOLUTIONS, "puzzles": PUZZLES, "solutions": SOLUTIONS, name: wrong}
    with pytest.raises(ValueError, match=f"`{name}` must hold the digits 0 to 9 as integers, got .* from .* to "):
        score(**boards)


def test_refuses_puzzles_without_a_blank_cell() -> None:
    with pytest.raises(ValueError, match="`puzzles` must have blank cells, got none"):
        score(SOLUTIONS, SOLUTIONS, SOLUTIONS)
