"""Lp-convolution (Kwon et al., ICLR 2025) for every convolutional network in timm.

Importing this package is cheap: it imports neither torch nor timm until one of its names is used.
"""

from typing import TYPE_CHECKING

from . import plugin
from .lazy import lazy_names

if TYPE_CHECKING:
    from .convert import lp_convert
    from .layers import LpConv2d, lp_mask
    from .merge import lp_merge
    from .weight_decay import spare_masks_from_weight_decay

__version__ = "0.1.0"
__all__ = ["LpConv2d", "lp_convert", "lp_mask", "lp_merge", "spare_masks_from_weight_decay"]

_HOMES = {
    "LpConv2d": ".layers",
    "lp_convert": ".convert",
    "lp_mask": ".layers",
    "lp_merge": ".merge",
    "spare_masks_from_weight_decay": ".weight_decay",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)


plugin.install()
