"""Networks with Lp-convolutions in timm's registry; importing this package registers them."""

from timm.models import register_notrace_module

from ..layers import LpConv2d
from ..variants import BASE, VARIANTS, variant_order
from . import alexnet, replknet, small_stem
from .lp_models import ARCHITECTURES
from .user_networks import register_network
from .variants import parse_variant

__all__ = [
    "ARCHITECTURES",
    "BASE",
    "VARIANTS",
    "alexnet",
    "parse_variant",
    "register_network",
    "replknet",
    "small_stem",
    "variant_order",
]

register_notrace_module(LpConv2d)  # one node in timm's graphs (features_only with feature_cls="fx")
