"""The puzzles of a run: generated or from a file, divided into training and test, and in batches.

Files have the published format: `quizzes,solutions`, 81 digits each. Generated puzzles are cached in such a file.
"""

import csv
import gzip
import hashlib
import io
import logging
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import cached_assets_path, constants
from torch import Tensor

from ...files import write_text
from ...models.sudoku.board import KINDS, Puzzles, valid_units
from ...trials.record import DataInfo
from .config import GENERATED
from .generation import check_request, generate_puzzles
from .symmetries import Symmetries, draw_symmetries, hold_out

_logger = logging.getLogger(__name__)

_HEADER = "quizzes,solutions"
_WIDTH = 163  # characters of a row
_PUZZLES = ("quizzes", "quiz", "puzzles", "puzzle", "questions", "question")
_SOLUTIONS = ("solutions", "solution", "answers", "answer")


@dataclass(frozen=True, eq=False)
class Boards:
    """Puzzles to train on, and others to test with.

    Attributes:
        name: `generated`, or the file's name without its ending.
        path: The file; None if they were generated.
        training: Puzzles that no symmetry turns into one of the test.
        test: The held-out puzzles.
    """

    name: str
    path: str | None
    training: Puzzles
    test: Puzzles

    @property
    def folder(self) -> str:
        """Name of the folder of their trials."""
        return re.sub(r"[^\w.-]+", "-", self.name)

    @property
    def info(self) -> DataInfo:
        """Their names in records."""
        return DataInfo(self.name if self.path is None else Path(self.path).name, self.name)

    def sha256(self) -> str:
        """Return the digest of the training and the test puzzles, each in their order."""
        digest = hashlib.sha256()
        for grids in (*self.training, *self.test):
            digest.update(str(grids.shape).encode())
            digest.update(grids.tobytes())
        return digest.hexdigest()


def load_boards(path: str | None, puzzles: int | None, test_puzzles: int, seed: int) -> Boards:
    """Return the puzzles of a run.

    Args:
        path: A CSV file as published; None to generate puzzles, or take generated ones from the cache.
        puzzles: How many in all; None for all of the file, or 10,000.
        test_puzzles: How many of them to hold out for the test.
        seed: Seed of the generation, and of the choice for the test.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file, or there are too few puzzles.
    """
    published = None if path is None else read_puzzles(Path(path))
    most = None if published is None else len(published.puzzles)
    if puzzles is not None and most is not None and puzzles > most:
        raise ValueError(f"`puzzles` must be at most the {most} of {path}, got {puzzles}. Leave it out for all.")
    total = puzzles or most or GENERATED
    if test_puzzles >= total:
        raise ValueError(
            f"`test_puzzles` must leave some of the {total} puzzles for the training, got {test_puzzles}. Use fewer."
        )
    chosen = cached_puzzles(total, seed) if published is None else Puzzles(*(part[:total] for part in published))
    name = "generated" if path is None else Path(path).stem
    return Boards(name, path, *hold_out(chosen, test_puzzles, seed))


class TrainingBatches:
    """The batches of a training; the seed and the step alone settle what is in one.

    Each epoch has another order and, with augmentation, another symmetry for each puzzle; both follow from the seed
    and the epoch. Puzzles that do not fill a last batch are left out of the epoch.

    Args:
        data: The puzzles.
        batch_size: Puzzles in a batch, over all processes.
        seed: Seed of the trial.
        augment: Whether symmetries turn the puzzles into others.
        transpose: Whether symmetries swap rows and columns too; leave it out to compare rows with columns.

    Raises:
        ValueError: If `batch_size` is not positive, or larger than the number of puzzles.
    """

    def __init__(
        self, data: Puzzles, batch_size: int, seed: int, *, augment: bool = True, transpose: bool = False
    ) -> None:
        total = len(data.puzzles)
        if not 1 <= batch_size <= total:
            raise ValueError(
                f"`batch_size` must be from 1 to the {total} puzzles of the training, got {batch_size}. "
                "Use a smaller batch, or more puzzles."
            )
        self.batch_size, self.steps_per_epoch = batch_size, total // batch_size
        self._puzzles, self._solutions = (torch.from_numpy(part) for part in data)
        self._seed, self._augment, self._transpose = seed, augment, transpose
        self._epoch = -1
        self._order = torch.empty(0)
        self._symmetries: Symmetries | None = None

    def batch(self, step: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor]:
        """Return the puzzles and solutions of a step, digits in `int8`, `(N, 9, 9)` each.

        Args:
            step: Number of the step, from 0.
            part: The part of the batch for this process, from 0.
            parts: Number of the processes.
        """
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start(epoch)
        chosen = self._order[number * self.batch_size : (number + 1) * self.batch_size][part::parts]
        boards = self._puzzles[chosen], self._solutions[chosen]
        if self._symmetries is None:
            return boards
        symmetries = self._symmetries.take(chosen)
        return symmetries.apply(boards[0]), symmetries.apply(boards[1])

    def _start(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0]))
        self._order = torch.randperm(len(self._puzzles), generator=generator)
        if self._augment:
            self._symmetries = draw_symmetries(len(self._puzzles), generator, transpose=self._transpose)
        self._epoch = epoch


def read_puzzles(data: Path) -> Puzzles:
    """Return the puzzles of a CSV file, checked but for their uniqueness.

    The file has the format of bryanpark/sudoku on Kaggle: `quizzes,solutions`, 81 digits each, 0 for a blank. Other
    names and orders of the columns, further columns, quotes, empty lines, dots for blanks, and gzip are read too.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file, a row is not a puzzle with its solution, or a puzzle stands there twice.
            The first bad row is named with its line.
    """
    rows, lines, columns = _read_rows(data)

    def refuse(bad: np.ndarray, rule: str) -> None:
        if bad.any():
            first_bad = int(bad.argmax())
            row = ",".join(rows[first_bad])
            shown = row if len(row) <= _WIDTH else f"{row[:_WIDTH]}..."
            raise ValueError(
                f"`data` must have in each row {rule}, got {shown!r} in line {lines[first_bad]} of {data}. "
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
    """Indices of the puzzle and of the solution in a row, and the number of its fields."""

    puzzle: int
    solution: int
    fields: int


def _read_rows(data: Path) -> tuple[list[list[str]], list[int], _Columns]:
    """Return the rows of a CSV file that are not empty, their line numbers, and its columns."""
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
    columns = [next((header.index(name) for name in names if name in header), -1) for names in (_PUZZLES, _SOLUTIONS)]
    if min(columns) < 0 or not rows:
        named = ",".join(header)
        raise ValueError(
            f"`data` must be a CSV file with the columns {_HEADER} (or puzzle,solution), 81 digits each, and rows, got "
            f"{named[:_WIDTH]!r} with {len(rows)} rows in {data}. Name the columns in its first line."
        )
    return rows, lines, _Columns(columns[0], columns[1], len(header))


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
    """Write puzzles to a CSV file in the published format, whole or not at all."""
    rows = np.full((len(puzzles.puzzles), _WIDTH + 1), ord(","), dtype=np.uint8)
    rows[:, :81] = puzzles.puzzles.reshape(-1, 81) + ord("0")
    rows[:, 82:-1] = puzzles.solutions.reshape(-1, 81) + ord("0")
    rows[:, -1] = ord("\n")
    write_text(path, f"{_HEADER}\n{rows.tobytes().decode()}")


def cached_puzzles(n: int, seed: int) -> Puzzles:
    """Return `generate_puzzles(n, seed)`, from the cache if it has them.

    The file lies in huggingface_hub's folder of assets. If it is missing, damaged or cannot be written, the puzzles
    are generated again.

    Raises:
        ValueError: If `n` is not a positive integer, or `seed` a negative one.
    """
    check_request(n, seed)
    try:
        cached = read_puzzles(_cache_file(n, seed))
    except (OSError, ValueError):  # huggingface_hub's, where its folder is a file, is a ValueError
        cached = None
    if cached is not None and len(cached.puzzles) == n:
        return cached
    puzzles = generate_puzzles(n, seed)
    try:
        write_puzzles(_cache_file(n, seed), puzzles)
    except (OSError, ValueError) as error:
        _logger.warning("The next run generates these puzzles again, since they cannot be kept: %s", error)
    return puzzles


def _cache_file(n: int, seed: int) -> Path:
    folder = cached_assets_path("timm-lp", "sudoku", "puzzles", assets_dir=constants.HF_ASSETS_CACHE)
    return folder / f"{n}-of-seed-{seed}.csv"
