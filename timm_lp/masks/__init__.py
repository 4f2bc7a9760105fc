"""What masks look like: their conformation (A.6), numbers by layer (A.16, A.17), and pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._conformation import Conformation, conformation, conformation_matrix

__all__ = ["Conformation", "conformation", "conformation_matrix"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("._conformation", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
