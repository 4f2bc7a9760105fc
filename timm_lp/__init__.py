"""Lp-convolution (Kwon et al., ICLR 2025) for every convolutional network in timm.

Importing this package is cheap: it imports neither torch nor timm until one of its names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import plugin

if TYPE_CHECKING:
    from .convert import lp_convert, lp_merge, spare_masks_from_weight_decay
    from .layers import LpConv2d, lp_mask

__version__ = "0.1.0"
__all__ = ["LpConv2d", "lp_convert", "lp_mask", "lp_merge", "spare_masks_from_weight_decay"]

_HOMES = {
    "LpConv2d": ".layers",
    "lp_convert": ".convert",
    "lp_mask": ".layers",
    "lp_merge": ".convert",
    "spare_masks_from_weight_decay": ".convert",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


plugin.install()
