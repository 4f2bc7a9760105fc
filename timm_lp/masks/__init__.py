"""What masks look like: their conformation (A.6), numbers by layer (A.16, A.17), and pictures."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from ._conformation import Conformation, conformation, conformation_matrix
    from .logger import MaskLogger
    from .overview import show
    from .report import table

__all__ = ["Conformation", "MaskLogger", "conformation", "conformation_matrix", "show", "table"]

_HOMES = {"MaskLogger": ".logger", "show": ".overview", "table": ".report"}

__getattr__, __dir__ = lazy_names(__name__, {**dict.fromkeys(__all__, "._conformation"), **_HOMES})
