"""The private parts of torch that this package needs, under plain names; nothing public tells the same."""

import platform
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.modules.utils import _pair
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

pair = _pair  # makes two numbers of one, as nn.Conv2d does with its arguments


def in_dispatch_mode() -> bool:
    """Tell whether make_fx, a fake-tensor mode or the like watches every operator that runs."""
    return is_in_torch_dispatch_mode()


def in_function_transform() -> bool:
    """Tell whether a transform of `torch.func`, such as `grad` or `vmap`, is active."""
    return torch._C._are_functorch_transforms_active()


def in_forward_mode() -> bool:
    """Tell whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


@lru_cache(maxsize=1)
def computes_in_bfloat16() -> bool:
    """Tell whether the CPU has instructions for bfloat16, as far as torch tells: it does so for x86 alone."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@lru_cache(maxsize=1)
def has_bfloat16_tiles() -> bool:
    """Tell whether the CPU multiplies matrices in bfloat16 several times faster than in float32 (AMX)."""
    return torch.cpu._is_amx_tile_supported()


def is_batched_gradient(grad: Tensor) -> bool:
    """Tell whether a gradient holds a batch of gradients, as in `torch.autograd.grad(..., is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, without changes through `.data` or NumPy."""
    return tensor._version
