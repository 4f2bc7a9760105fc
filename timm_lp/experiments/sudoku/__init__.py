"""The Sudoku challenge (section 5 of the paper, A.5, A.7, A.8): what masks learn when the task has rows and columns."""

from typing import TYPE_CHECKING

from ...lazy import lazy_names

if TYPE_CHECKING:
    from ...models.sudoku import load_sudoku
    from ...models.sudoku.board import score
    from .generation import generate_puzzles

__all__ = ["generate_puzzles", "load_sudoku", "score"]

_HOMES = {"generate_puzzles": ".generation", "load_sudoku": "...models.sudoku", "score": "...models.sudoku.board"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
