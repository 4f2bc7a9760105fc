import numpy as np
import pytest
import torch

from tests.models.sudoku.reference import SOLUTION, board, canonical, share_of_valid
from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.symmetries import Symmetries, draw_symmetries, fingerprints, hold_out
from timm_lp.models.sudoku.board import Puzzles


@pytest.fixture(scope="module")
def generated() -> Puzzles:
    return generate_puzzles(300, seed=0)


def _draw(n: int, seed: int = 0, *, transpose: bool = False) -> Symmetries:
    return draw_symmetries(n, torch.Generator().manual_seed(seed), transpose=transpose)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64])
def test_moves_and_renames_cell_by_cell(generated: Puzzles, transpose: bool, dtype: torch.dtype) -> None:
    symmetries = _draw(20, transpose=transpose)
    grids = torch.tensor(generated.puzzles[:20], dtype=dtype)
    moved = symmetries.apply(grids)
    assert moved.dtype == dtype
    for n, grid in enumerate(grids):
        for i in range(9):
            for j in range(9):
                row, column = int(symmetries.rows[n, i]), int(symmetries.columns[n, j])
                digit = int(symmetries.digits[n, int(grid[row, column])])
                assert moved[n, j, i] == digit if symmetries.transposed[n] else moved[n, i, j] == digit


def test_what_is_drawn_keeps_the_rules(generated: Puzzles) -> None:
    symmetries = _draw(200)
    assert not symmetries.transposed.any()
    assert (symmetries.digits[:, 0] == 0).all()
    assert (symmetries.digits.sort(dim=1).values == torch.arange(10)).all()
    for lines in (symmetries.rows, symmetries.columns):
        assert (lines.sort(dim=1).values == torch.arange(9)).all()
        blocks = lines.reshape(200, 3, 3) // 3
        assert (blocks == blocks[:, :, :1]).all()
    solutions = symmetries.apply(torch.tensor(generated.solutions[:200]))
    puzzles = symmetries.apply(torch.tensor(generated.puzzles[:200]))
    assert ((puzzles == 0) | (puzzles == solutions)).all()
    assert all(share_of_valid(grid, kind) == 1 for grid in solutions.numpy() for kind in ("row", "column", "box"))


def test_draws_every_permutation_alike() -> None:
    symmetries = _draw(36_000, transpose=True)
    first_digits = symmetries.digits[:, 1].bincount(minlength=10)[1:]
    places = torch.stack([symmetries.rows[:, 4].bincount(minlength=9), symmetries.columns[:, 8].bincount(minlength=9)])
    # 4,000 each, with a deviation of 60: five of them.
    assert ((first_digits - 4000).abs() < 300).all()
    assert ((places - 4000).abs() < 300).all()
    assert abs(int(symmetries.transposed.sum()) - 18_000) < 500


def test_the_draw_depends_on_the_generator_alone() -> None:
    again = [_draw(10, seed, transpose=True) for seed in (0, 0, 1)]
    assert all(torch.equal(one, other) for one, other in zip(again[0], again[1], strict=True))
    assert not torch.equal(again[0].rows, again[2].rows)
    chosen = torch.tensor([7, 2])
    assert all(torch.equal(part[chosen], taken) for part, taken in zip(again[0], again[0].take(chosen), strict=True))


def test_no_symmetry_changes_a_fingerprint(generated: Puzzles) -> None:
    solutions = generated.solutions
    prints = fingerprints(solutions)
    assert len(np.unique(prints)) == 300
    for seed in range(3):
        moved = _draw(300, seed, transpose=True).apply(torch.tensor(solutions)).numpy()
        assert (moved != solutions).any(axis=(1, 2)).all()
        assert (fingerprints(moved) == prints).all()


def test_fingerprints_agree_with_the_canonical_grid() -> None:
    grid = board(SOLUTION)[None]
    (moved,) = _draw(1, transpose=True).apply(torch.tensor(grid)).numpy()
    broken = grid[0][[0, 3, 2, 1, 4, 5, 6, 7, 8]]  # two rows of different bands: no symmetry of the game
    forms = [canonical(form) for form in (grid[0], moved, broken)]
    assert forms[0] == forms[1] != forms[2]
    prints = fingerprints(np.stack([grid[0], moved, broken]))
    assert prints[0] == prints[1] != prints[2]


def test_holds_out_grids_that_no_symmetry_leads_to(generated: Puzzles) -> None:
    solutions = torch.tensor(generated.solutions)
    variants = [_draw(300, seed, transpose=True) for seed in (1, 2)]
    all_puzzles = np.concatenate([v.apply(torch.tensor(generated.puzzles)).numpy() for v in variants])
    all_solutions = np.concatenate([v.apply(solutions).numpy() for v in variants])
    training, test = hold_out(Puzzles(all_puzzles, all_solutions), 50, seed=0)
    assert len(test.puzzles) == len(test.solutions) == 50
    tested = set(fingerprints(test.solutions))
    assert not tested & set(fingerprints(training.solutions))
    # Each test grid has one variant, which is in neither unless it was drawn as well.
    assert len(training.puzzles) == len(training.solutions) == 600 - 2 * len(tested)
    assert ((training.puzzles == 0) | (training.puzzles == training.solutions)).all()


def test_holds_out_by_the_seed(generated: Puzzles) -> None:
    tests = [hold_out(generated, 30, seed)[1].solutions for seed in (0, 0, 1)]
    assert (tests[0] == tests[1]).all()
    assert (tests[0] != tests[2]).any()


@pytest.mark.parametrize("n", [-1, 0, 300, 301])
def test_refuses_to_leave_nothing(generated: Puzzles, n: int) -> None:
    with pytest.raises(ValueError, match=rf"`n` must leave puzzles for .*, got {n} of 300\. Use fewer"):
        hold_out(generated, n, seed=0)
