"""The private parts of torch that this package needs, under plain names; nothing public tells the same."""

import platform
from functools import lru_cache
from typing import Any

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
    """Tell whether the CPU is faster in bfloat16 than in float32, as far as torch tells: it does so for x86 alone.

    AMX makes it so, and AVX-512's bfloat16 instructions, but not those of Intel's CPUs where AMX is hidden. These
    have AVX512-FP16 and no AMX, as later versions of torch tell.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or torch.cpu._is_amx_tile_supported():
        return True
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.cpu._is_avx512_bf16_supported() and not capabilities.get("avx512_fp16", False)


def is_batched_gradient(grad: Tensor) -> bool:
    """Tell whether a gradient holds a batch of gradients, as in `torch.autograd.grad(..., is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)
