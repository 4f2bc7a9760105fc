"""The Sudoku challenge (section 5 of the paper, A.5, A.7, A.8): what masks learn when the task has rows and columns."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...models.sudoku import load_sudoku
    from .generation import generate_puzzles
    from .metrics import score

__all__ = ["generate_puzzles", "load_sudoku", "score"]

_HOMES = {"generate_puzzles": ".generation", "load_sudoku": "...models.sudoku", "score": ".metrics"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
