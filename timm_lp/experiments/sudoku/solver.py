"""What `timm-lp sudoku solve` reads and says."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...models.sudoku.solving import Solution, parse_puzzle

_STEPS_A_LINE = 6


def read_puzzles(arguments: Sequence[str]) -> list[np.ndarray]:
    """Return puzzles, digits with 0 in blank cells, shape `(9, 9)` each.

    Args:
        arguments: Texts of 81 cells, the nine lines of one board, names of files, and `-` for standard input.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If one of them is no puzzle.
    """
    texts = list(_texts(arguments))
    puzzles = []
    for number, text in enumerate(texts, 1):
        try:
            puzzles.append(parse_puzzle(text))
        except ValueError as error:
            if len(texts) == 1:
                raise
            raise ValueError(f"{error} It is puzzle {number} of {len(texts)}.") from error
    return puzzles


def _texts(arguments: Sequence[str]) -> Iterator[str]:
    if len(arguments) == 9 and all(len(line) == 9 for line in arguments):
        yield "\n".join(arguments)
        return
    for argument in arguments:
        if argument == "-":
            yield from _texts_in(sys.stdin.read().removeprefix("\ufeff"))
        elif os.path.isfile(argument):  # unlike Path.is_file, it takes a puzzle, which may be too long for a name
            yield from _texts_in(Path(argument).read_text(encoding="utf-8-sig", errors="replace"))
        elif re.search(r"[A-Za-z/]", argument):
            raise ValueError(f"`PUZZLE` must be 81 cells or a file, got {argument!r}. There is no such file.")
        else:
            yield argument


def _texts_in(text: str) -> list[str]:
    """Return the puzzles of a file: of 81 cells a line, or boards of several lines with empty lines between them."""
    lines = text.split()
    if all(len(line) == 81 for line in lines):
        return lines or [text]
    return [block for block in re.split(r"\n\s*\n", text) if block.strip()]


def describe(solution: Solution) -> str:
    """Return a board, its cells in the order in which they were filled, and the verdict of the rules."""
    steps = [f"r{row}c{column}={digit} {confidence:4.0%}" for row, column, digit, confidence in solution.steps]
    lines = ["  ".join(steps[start : start + _STEPS_A_LINE]) for start in range(0, len(steps), _STEPS_A_LINE)]
    order = [f"{len(steps)} cells (row, column = digit, confidence), the surest first:", *lines, ""] if steps else []
    return "\n".join([str(solution), "", *order, solution.verdict])
