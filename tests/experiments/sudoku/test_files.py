import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from tests.models.sudoku.reference import PUZZLE, SOLUTION, board
from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.data import cached_puzzles, read_puzzles, write_puzzles

OTHER = "".join(str(10 - int(digit)) for digit in SOLUTION)  # a valid grid too
ROW = f"{PUZZLE},{SOLUTION}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sudoku.csv"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_reads_the_published_format(path: Path, end: str, mark: str, last: bool) -> None:
    text = end.join(["quizzes,solutions", ROW, f"{OTHER[:40]}{'0' * 41},{OTHER}"]) + end * last
    path.write_text(mark + text, encoding="utf-8", newline="")
    puzzles, solutions = read_puzzles(path)
    assert puzzles.shape == solutions.shape == (2, 9, 9)
    assert puzzles.dtype == solutions.dtype == np.int8
    assert (puzzles[0] == board(PUZZLE)).all()
    assert (solutions[0] == board(SOLUTION)).all()
    assert (solutions[1] == board(OTHER)).all()
    assert (puzzles[1] > 0).sum() == 40


def test_writes_what_it_reads(path: Path) -> None:
    generated = generate_puzzles(20, seed=0)
    write_puzzles(path, generated)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "quizzes,solutions"
    assert lines[3].partition(",")[0] == "".join(str(digit) for digit in generated.puzzles[2].flat)
    assert [*path.parent.iterdir()] == [path]
    assert all((one == other).all() for one, other in zip(read_puzzles(path), generated, strict=True))


DOTS = PUZZLE.replace("0", ".")
LAST = f"{'0' * 81},{OTHER}"


@pytest.mark.parametrize(
    "text",
    [
        f"quizzes,solutions\n{ROW}\n{LAST}\n\n",
        f"quizzes,solutions\n\n{ROW}\n  \n,\n{LAST}\n",
        f'"quizzes","solutions"\n"{PUZZLE}","{SOLUTION}"\n{LAST}',
        f"puzzle,solution\n{ROW}\n{LAST}\n",
        f"Puzzle, Solution\n{PUZZLE}, {SOLUTION}\n{LAST}\n",
        f"question,answer\n{DOTS},{SOLUTION}\n{LAST.replace('0', '.')}\n",
        f"id,puzzle,solution,clues,difficulty\n1,{DOTS},{SOLUTION},30,2.2\n2,{LAST},0,\n",
        f"solution,quiz\n{SOLUTION},{PUZZLE}\n{OTHER},{'0' * 81}\n",
        f',puzzle,"source, of it",solution\n0,{PUZZLE},"a, ""b""",{SOLUTION}\n1,{"0" * 81},,{OTHER}\n',
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_other_forms_of_the_same_table(path: Path, text: str, pack: Callable[[bytes], bytes]) -> None:
    path.write_bytes(pack(text.encode()))
    puzzles, solutions = read_puzzles(path)
    assert (puzzles == np.stack([board(PUZZLE), board("0" * 81)])).all()
    assert (solutions == np.stack([board(SOLUTION), board(OTHER)])).all()


@pytest.mark.parametrize(
    "text", ["", "quizzes,solutions\n", f"{ROW}\n{ROW}\n", f"puzzle;solution\n{ROW}\n", f"a,puzzle\n{ROW}"]
)
def test_refuses_a_file_without_the_columns_or_rows(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    rule = (
        r"must be a CSV file with the columns quizzes,solutions \(or puzzle,solution\), 81 digits each, and rows, got "
    )
    with pytest.raises(ValueError, match=rule) as caught:
        read_puzzles(path)
    assert f"got {text.partition(chr(10))[0]!r} with " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"quizzes,solutions\n" * 90, mtime=0)[:-9], r"must be a whole file, got .*csv: .*\. Fetch it"),
        (b"PK\x03\x04 and more", r"must be a CSV file, got the archive .*csv\. Unzip it"),
        (
            f"quizzes,solutions\n{'1' * 200_000},".encode(),
            r"must be a CSV file, got .*csv: field larger than .*, line 2",
        ),
    ],
)
def test_refuses_what_is_no_csv_file(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_puzzles(path)


def _swapped(digits: str, one: int, other: int) -> str:
    cells = [*digits]
    cells[one], cells[other] = cells[other], cells[one]
    return "".join(cells)


BLANK = "0" * 81
LATIN_SQUARE = "".join(str((i + j) % 9 + 1) for i in range(9) for j in range(9))  # the boxes alone are wrong


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (ROW[:-1], "a puzzle and its solution, 81 digits each"),
        (f"{PUZZLE},", "a puzzle and its solution, 81 digits each"),
        (f"{PUZZLE.replace('0', 'x')},{SOLUTION}", "a puzzle and its solution, 81 digits each"),
        (f"{PUZZLE.replace('0', 'é')},{SOLUTION}", "a puzzle and its solution, 81 digits each"),
        (f"{ROW},easy", "as many fields as its first line has columns"),
        (PUZZLE, "as many fields as its first line has columns"),
        (ROW.replace(",", ";"), "as many fields as its first line has columns"),
        (f"{BLANK},{PUZZLE}", "a solution that has each digit once in every row"),
        (f"{BLANK},{_swapped(SOLUTION, 0, 9)}", "a solution that has each digit once in every row"),
        (f"{BLANK},{_swapped(SOLUTION, 0, 1)}", "a solution that has each digit once in every column"),
        (f"{BLANK},{LATIN_SQUARE}", "a solution that has each digit once in every box"),
        (f"{OTHER},{SOLUTION}", "a puzzle that agrees with its solution"),
        (ROW, "a puzzle that no row above has"),
    ],
)
def test_names_the_bad_row_with_its_line(path: Path, row: str, rule: str) -> None:
    rows = ["quizzes,solutions", ROW, f"{OTHER},{OTHER}", row, f"{BLANK},{OTHER}"]
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ValueError, match=f"`data` must have in each row {rule}") as caught:
        read_puzzles(path)
    assert f"in line 4 of {path}. Correct that row, or leave it out." in str(caught.value)
    rows[3] = f"{PUZZLE[:60]}{'0' * 21},{SOLUTION}"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert len(read_puzzles(path).puzzles) == 4


def test_does_not_print_a_whole_file_that_has_no_lines(path: Path) -> None:
    path.write_text(f"quizzes,solutions\n{'1' * 100_000}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"got '1{163}\.\.\.' in line 2"):
        read_puzzles(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "assets"


def test_generates_once_what_is_cached(cache: Path) -> None:
    first = cached_puzzles(7, seed=3)
    (file,) = cache.rglob("*.csv")
    swapped = read_puzzles(file)
    write_puzzles(file, swapped.take(np.arange(7)[::-1]))
    second = cached_puzzles(7, seed=3)
    assert (second.puzzles == first.puzzles[::-1]).all()
    assert (second.solutions == first.solutions[::-1]).all()
    assert all((one == other).all() for one, other in zip(first, generate_puzzles(7, seed=3), strict=True))


def test_other_requests_have_files_of_their_own(cache: Path) -> None:
    sets = [cached_puzzles(n, seed) for n, seed in ((7, 3), (8, 3), (7, 4))]
    assert len([*cache.rglob("*.csv")]) == 3
    assert [len(puzzles.puzzles) for puzzles in sets] == [7, 8, 7]
    assert (sets[0].solutions != sets[2].solutions).any()


@pytest.mark.parametrize("damage", [b"", b"quizzes,solutions\n", b"\x00" * 500])
def test_generates_again_what_is_damaged(cache: Path, damage: bytes) -> None:
    first = cached_puzzles(7, seed=3)
    (file,) = cache.rglob("*.csv")
    whole = file.read_bytes()
    for content in (damage, whole[: len(whole) // 2], whole[:-164]):
        file.write_bytes(content)
        assert (cached_puzzles(7, seed=3).solutions == first.solutions).all()
        assert file.read_bytes() == whole


def test_needs_no_cache(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        puzzles = cached_puzzles(3, seed=3)
    assert (puzzles.solutions == generate_puzzles(3, seed=3).solutions).all()
    assert "generates these puzzles again, since they cannot be kept" in caplog.text


def test_refuses_a_request_before_the_cache_is_read(cache: Path) -> None:
    with pytest.raises(ValueError, match="`n` must be a positive integer"):
        cached_puzzles(0, seed=0)
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        cached_puzzles(1, seed=-1)
    assert not cache.exists()
