from pathlib import Path

import pytest

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.data import load_boards, write_puzzles


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("puzzles") / "my sudoku.csv"
    write_puzzles(path, generate_puzzles(30, seed=0))
    return path


def test_generated_puzzles_are_divided() -> None:
    boards = load_boards(None, 30, 5, seed=0)
    assert (boards.name, boards.folder, boards.path) == ("generated", "generated", None)
    assert len(boards.test.puzzles) == 5
    whole = {grid.tobytes() for grid in generate_puzzles(30, seed=0).puzzles}
    parts = [{grid.tobytes() for grid in part.puzzles} for part in (boards.training, boards.test)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]


def test_a_file_is_divided_as_the_same_puzzles_generated(path: Path) -> None:
    boards = load_boards(str(path), None, 5, seed=0)
    assert (boards.name, boards.folder) == ("my sudoku", "my-sudoku")
    assert (boards.info.id, boards.info.name) == ("my sudoku.csv", "my sudoku")
    assert boards.sha256() == load_boards(None, 30, 5, seed=0).sha256()


def test_takes_the_first_puzzles_of_a_file(path: Path) -> None:
    boards = load_boards(str(path), 12, 5, seed=0)
    first = {grid.tobytes() for grid in generate_puzzles(30, seed=0).puzzles[:12]}
    assert {grid.tobytes() for part in (boards.training, boards.test) for grid in part.puzzles} == first


def test_the_digest_is_that_of_the_puzzles_and_their_division() -> None:
    plain, again = (load_boards(None, 30, 5, seed=0).sha256() for _ in range(2))
    assert plain == again
    assert len({plain, load_boards(None, 30, 6, seed=0).sha256(), load_boards(None, 30, 5, seed=1).sha256()}) == 3


def test_refuses_more_puzzles_than_there_are(path: Path) -> None:
    with pytest.raises(ValueError, match=r"`puzzles` must be at most the 30 of .*csv, got 31\. Leave it out for all"):
        load_boards(str(path), 31, 5, seed=0)


def test_refuses_a_test_that_leaves_nothing() -> None:
    with pytest.raises(ValueError, match=r"`test_puzzles` must leave some of the 30 puzzles for .*, got 30\. Use few"):
        load_boards(None, 30, 30, seed=0)
