"""Lp-convolution as PyTorch layers; nothing in here knows timm. How they are computed fast is in `timm_lp.ops`."""

from ..ops import lp_exponent, lp_mask
from .adapters import is_adapter
from .large_kernel import (
    build_like,
    crop_conv2d,
    crop_conv2d_to,
    embed_kernel,
    large_kernel_size,
    large_padding,
    to_large_conv2d,
)
from .lp_conv2d import LpConv2d

__all__ = [
    "LpConv2d",
    "build_like",
    "crop_conv2d",
    "crop_conv2d_to",
    "embed_kernel",
    "is_adapter",
    "large_kernel_size",
    "large_padding",
    "lp_exponent",
    "lp_mask",
    "to_large_conv2d",
]
