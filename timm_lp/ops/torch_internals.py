"""The private parts of torch that this package needs, under plain names; nothing public tells the same."""

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


def is_batched_gradient(grad: Tensor) -> bool:
    """Tell whether a gradient holds a batch of gradients, as in `torch.autograd.grad(..., is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, without changes through `.data` or NumPy."""
    return tensor._version
