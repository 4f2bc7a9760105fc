"""Networks with Lp-convolutions in timm's registry; importing this package registers them."""

from . import alexnet, replknet
from .lp_models import ARCHITECTURES, VARIANTS

__all__ = ["ARCHITECTURES", "VARIANTS", "alexnet", "replknet"]
