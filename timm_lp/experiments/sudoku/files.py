"""Puzzles in files: the published format, `quizzes,solutions`, 81 digits each, and a cache of generated ones."""

import csv
import gzip
import io
import logging
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from huggingface_hub import cached_assets_path, constants

from ...files import write_text
from .board import KINDS, Puzzles, valid_units
from .generation import check_request, generate_puzzles

_logger = logging.getLogger(__name__)

_HEADER = "quizzes,solutions"
_WIDTH = 163  # characters of a row
_PUZZLES = ("quizzes", "quiz", "puzzles", "puzzle", "questions", "question")
_SOLUTIONS = ("solutions", "solution", "answers", "answer")


def read_puzzles(data: Path) -> Puzzles:
    """Return the puzzles of a CSV file, checked but for their uniqueness.

    The file is as bryanpark/sudoku on Kaggle, `quizzes,solutions` with 81 digits each and 0 for a blank. Other names
    and orders of the columns, further columns, quotes, empty lines, dots for blanks, and gzip are read too.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file, a row is not a puzzle with its solution, or a puzzle stands there twice.
            The first bad row is named with its line.
    """
    rows, lines, columns = _read_rows(data)

    def refuse(bad: np.ndarray, rule: str) -> None:
        if bad.any():
            place = int(bad.argmax())
            row = ",".join(rows[place])
            shown = row if len(row) <= _WIDTH else f"{row[:_WIDTH]}..."
            raise ValueError(
                f"`data` must have in each row {rule}, got {shown!r} in line {lines[place]} of {data}. "
                "Correct that row, or leave it out."
            )

    refuse(np.array([len(row) != columns.fields for row in rows]), "as many fields as its first line has columns")
    chosen = [(row[columns.puzzle].strip(), row[columns.solution].strip()) for row in rows]
    refuse(
        np.array([len(puzzle) != 81 or len(solution) != 81 for puzzle, solution in chosen]),
        "a puzzle and its solution, 81 digits each",
    )
    text = "".join(field for pair in chosen for field in pair).replace(".", "0")
    cells = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).reshape(-1, 2, 81)
    digits = cells - ord("0")
    refuse(digits.max(axis=(1, 2)) > 9, "a puzzle and its solution, 81 digits each")
    puzzles, solutions = digits.astype(np.int8).reshape(-1, 2, 9, 9).swapaxes(0, 1)
    for kind, valid in zip(KINDS, valid_units(solutions).all(axis=2).T, strict=True):
        refuse(~valid, f"a solution that has each digit once in every {kind}")
    refuse(~((puzzles == 0) | (puzzles == solutions)).all(axis=(1, 2)), "a puzzle that agrees with its solution")
    _, first = np.unique(np.ascontiguousarray(cells[:, 0]).view("S81"), return_index=True)
    refuse(~np.isin(np.arange(len(rows)), first), "a puzzle that no row above has")
    return Puzzles(puzzles, solutions)


class _Columns(NamedTuple):
    """Places of the puzzle and of the solution in a row, and the number of its fields."""

    puzzle: int
    solution: int
    fields: int


def _read_rows(data: Path) -> tuple[list[list[str]], list[int], _Columns]:
    """Return the rows of a CSV file that are not empty, their lines, and what its first line says of the columns."""
    reader = csv.reader(io.StringIO(_read_text(data), newline=""), skipinitialspace=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        rows, lines = [], []
        for row in reader:
            if any(map(str.strip, row)):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"`data` must be a CSV file, got {data}: {error}, line {reader.line_num}.") from error
    places = [next((header.index(name) for name in names if name in header), -1) for names in (_PUZZLES, _SOLUTIONS)]
    if min(places) < 0 or not rows:
        found = ",".join(header)
        raise ValueError(
            f"`data` must be a CSV file with the columns {_HEADER} (or puzzle,solution), 81 digits each, and rows, got "
            f"{found[:_WIDTH]!r} with {len(rows)} rows in {data}. Name the columns in its first line."
        )
    return rows, lines, _Columns(places[0], places[1], len(header))


def _read_text(data: Path) -> str:
    content = data.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"`data` must be a CSV file, got the archive {data}. Unzip it, and give what is in it.")
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"`data` must be a whole file, got {data}: {error}. Fetch it again.") from error
    return content.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")


def write_puzzles(path: Path, puzzles: Puzzles) -> None:
    """Write puzzles to a CSV file as published, whole or not at all."""
    rows = np.full((len(puzzles.puzzles), _WIDTH + 1), ord(","), dtype=np.uint8)
    rows[:, :81] = puzzles.puzzles.reshape(-1, 81) + ord("0")
    rows[:, 82:-1] = puzzles.solutions.reshape(-1, 81) + ord("0")
    rows[:, -1] = ord("\n")
    write_text(path, f"{_HEADER}\n{rows.tobytes().decode()}")


def cached_puzzles(n: int, seed: int) -> Puzzles:
    """Return `generate_puzzles(n, seed)`, from the cache where they are in it.

    The file lies in huggingface_hub's folder of assets. Where it is lost, damaged or cannot be written, the puzzles
    are generated again.

    Raises:
        ValueError: If `n` is not a positive integer, or `seed` a negative one.
    """
    check_request(n, seed)
    try:
        known = read_puzzles(_cache_file(n, seed))
    except (OSError, ValueError):  # huggingface_hub's, where its folder is a file, is a ValueError
        known = None
    if known is not None and len(known.puzzles) == n:
        return known
    puzzles = generate_puzzles(n, seed)
    try:
        write_puzzles(_cache_file(n, seed), puzzles)
    except (OSError, ValueError) as error:
        _logger.warning("The next run generates these puzzles again, since they cannot be kept: %s", error)
    return puzzles


def _cache_file(n: int, seed: int) -> Path:
    folder = cached_assets_path("timm-lp", "sudoku", "puzzles", assets_dir=constants.HF_ASSETS_CACHE)
    return folder / f"{n}-of-seed-{seed}.csv"
