"""Lp masks (Eq. 2) and fast masked convolutions (Eq. 3) as functions of tensors; nothing in here knows a layer."""

from .lp_mask import lp_exponent, lp_mask, lp_mask_gradients
from .mask_cache import MaskCache
from .masked_conv2d import can_mask_fast, masked_conv2d, plain_conv2d
from .operators import torch_is_fast
from .window import Geometry

__all__ = [
    "Geometry",
    "MaskCache",
    "can_mask_fast",
    "lp_exponent",
    "lp_mask",
    "lp_mask_gradients",
    "masked_conv2d",
    "plain_conv2d",
    "torch_is_fast",
]
