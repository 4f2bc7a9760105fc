"""Puzzles in files: the published format, `quizzes,solutions`, 81 digits each, and a cache of generated ones."""

import logging
from pathlib import Path

import numpy as np
from huggingface_hub import cached_assets_path, constants

from ...files import write_text
from .board import KINDS, Puzzles, valid_units
from .generation import check_request, generate_puzzles

_logger = logging.getLogger(__name__)

_HEADER = "quizzes,solutions"
_WIDTH = 163  # characters of a row
_FORM = "a quiz and its solution, 81 digits each, with a comma between"


def read_puzzles(data: Path) -> Puzzles:
    """Return the puzzles of a CSV file as published (bryanpark/sudoku on Kaggle), checked but for their uniqueness.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file, a row is not a puzzle with its solution, or a puzzle stands there twice.
            The first bad row is named with its line.
    """
    header, *lines = data.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    if header.decode(errors="replace") != _HEADER or not lines:
        raise ValueError(f"`data` must be a CSV file with the columns {_HEADER}, and rows, got {data}.")
    _refuse(data, np.array([len(line) != _WIDTH for line in lines]), _FORM, lines)
    rows = np.frombuffer(b"".join(lines), dtype=np.uint8).reshape(-1, _WIDTH)
    digits = np.delete(rows, 81, axis=1) - ord("0")
    _refuse(data, (digits > 9).any(axis=1) | (rows[:, 81] != ord(",")), _FORM, lines)
    puzzles, solutions = digits.astype(np.int8).reshape(-1, 2, 9, 9).swapaxes(0, 1)
    for kind, valid in zip(KINDS, valid_units(solutions).all(axis=2).T, strict=True):
        _refuse(data, ~valid, f"a solution that has each digit once in every {kind}", lines)
    agree = ((puzzles == 0) | (puzzles == solutions)).all(axis=(1, 2))
    _refuse(data, ~agree, "a quiz that agrees with its solution", lines)
    _, first = np.unique(np.ascontiguousarray(rows[:, :81]).view("S81"), return_index=True)
    _refuse(data, ~np.isin(np.arange(len(lines)), first), "a quiz that no row above has", lines)
    return Puzzles(puzzles, solutions)


def _refuse(data: Path, bad: np.ndarray, rule: str, lines: list[bytes]) -> None:
    if bad.any():
        place = int(bad.argmax())
        row = lines[place].decode(errors="replace")
        shown = row if len(row) <= _WIDTH else f"{row[:_WIDTH]}..."
        raise ValueError(
            f"`data` must have in each row {rule}, got {shown!r} in line {place + 2} of {data}. "
            "Correct that row, or leave it out."
        )


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
