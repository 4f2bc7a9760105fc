"""The puzzles of a run: published or generated ones, divided into training and test."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ...trials.record import DataInfo
from .board import Puzzles
from .config import GENERATED
from .files import cached_puzzles, read_puzzles
from .symmetries import hold_out


@dataclass(frozen=True, eq=False)
class Boards:
    """Puzzles to train on, and others to test with.

    Attributes:
        name: `generated`, or the file's name without its ending.
        path: The file; None if they were generated.
        training: No symmetry leads from one of these to one of the test.
        test: The puzzles that are held out.
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
        """What they are called in records."""
        return DataInfo(self.name if self.path is None else Path(self.path).name, self.name)

    def sha256(self) -> str:
        """Return the digest of the training and the test, in their orders."""
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
    known = len((found := read_puzzles(Path(path))).puzzles) if path is not None else None
    if puzzles is not None and known is not None and puzzles > known:
        raise ValueError(f"`puzzles` must be at most the {known} of {path}, got {puzzles}. Leave it out for all.")
    total = puzzles or known or GENERATED
    if test_puzzles >= total:
        raise ValueError(
            f"`test_puzzles` must leave some of the {total} puzzles for the training, got {test_puzzles}. Use fewer."
        )
    found = cached_puzzles(total, seed) if path is None else Puzzles(*(part[:total] for part in found))
    name = "generated" if path is None else Path(path).stem
    return Boards(name, path, *hold_out(found, test_puzzles, seed))
