"""Lp masks (Eq. 2) and convolutions with masked kernels (Eq. 3) as functions of tensors; nothing in here knows a layer.

`plain` says what is computed, and runs everywhere. `kernel` computes the same on every device with fewer operations and
with only the taps that meet pixels (`window`). All other files make it fast on CPUs:

- `fast` is the convolution as one differentiable function, and `compiled` as operators that torch.compile keeps;
- `scheduled` computes it and its gradients, with the mask and its gradients from `mask`;
- `schedule` says how to compute it for inputs of one size: which taps (`window`, `reach`), with which operators;
- the operators are `dense`, `depthwise`, `matmul`, `pointwise` and `taps`;
- `masked_kernel` multiplies kernel and mask a block at a time, in the memory that `memory` keeps.
"""

from .compiled import can_compile, compiled_conv2d
from .fast import can_mask_fast, masked_conv2d
from .kernel import lp_conv2d, mask_weight
from .mask import MaskCache, lp_mask_gradients
from .operators import torch_is_fast
from .plain import lp_exponent, lp_mask, plain_conv2d
from .window import Geometry

__all__ = [
    "Geometry",
    "MaskCache",
    "can_compile",
    "can_mask_fast",
    "compiled_conv2d",
    "lp_conv2d",
    "lp_exponent",
    "lp_mask",
    "lp_mask_gradients",
    "mask_weight",
    "masked_conv2d",
    "plain_conv2d",
    "torch_is_fast",
]
