"""Lp masks (Eq. 2) and convolutions with masked kernels (Eq. 3) as functions of tensors; nothing in here knows a layer.

`plain` says what is computed, and runs everywhere. All other files make it fast on CPUs:

- `fast` is the same convolution as one differentiable function, with the mask and its gradients from `mask`;
- `schedule` says how to compute it for inputs of one size: which taps (`window`), with which operators (`operators`);
- the operators are `dense`, `depthwise`, `matmul`, `pointwise` and `taps`;
- `masked_kernel` multiplies kernel and mask a block at a time, in the memory that `memory` keeps.
"""

from .fast import can_mask_fast, masked_conv2d
from .mask import MaskCache, lp_mask_gradients
from .operators import torch_is_fast
from .plain import Geometry, lp_exponent, lp_mask, plain_conv2d

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
