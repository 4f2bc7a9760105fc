"""What torch does around the arithmetic: memory for intermediate results, memory formats, and modes that it runs in.

The modes are private parts of torch, under plain names; nothing public tells the same.
"""

import math
import platform
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .window import Geometry

ONEDNN_CHANNELS = 16  # oneDNN computes this many output channels at once

PLAIN_TYPES = (Tensor, torch.nn.Parameter)

_LARGEST_BYTES = 2**24

_thread = threading.local()


def scratch(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return memory on the CPU for a result that is used before the same name is asked for again.

    Each thread keeps this memory, because new pages cost more time than writing to them.

    Args:
        name: Name of the result.
        shape: Shape of the result; it has four dimensions if the result is in channels_last.
        dtype: Dtype of the result.
        memory_format: Memory format of the result.
    """
    size = math.prod(shape)
    if size * dtype.itemsize > _LARGEST_BYTES:
        return torch.empty(shape, dtype=dtype, device="cpu", memory_format=memory_format)
    kept: dict[Any, Tensor] = _thread.__dict__
    memory = kept.get((name, dtype))
    if memory is None or memory.numel() < size:
        with torch.inference_mode(False):  # what inference mode makes could not be written to outside of it
            memory = kept[name, dtype] = torch.empty(size, dtype=dtype, device="cpu")
    if memory_format is not torch.channels_last:
        return memory[:size].view(shape)
    out_channels, in_channels, height, width = shape
    return memory[:size].view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)


def padded(
    input: Tensor,
    geometry: Geometry,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the input with zero padding around it, in `scratch` memory.

    Args:
        input: Input, shape `(N, C, H, W)`.
        geometry: Geometry that has the padding.
        memory_format: Memory format of the result.
        dtype: Dtype of the result, None for the input's.
    """
    images, channels, height, width = input.shape
    top, left = geometry.padding
    shape = (images, channels, height + 2 * top, width + 2 * left)
    result = scratch("padded", shape, dtype or input.dtype, memory_format).zero_()
    result[:, :, top : top + height, left : left + width] = input
    return result


def memory_format_of(*tensors: Tensor) -> torch.memory_format:
    """Return channels_last if the strides of any of these four-dimensional tensors say so, else contiguous.

    This is the memory format that torch's convolution gives its output.
    """
    return torch.channels_last if any(map(_is_channels_last, tensors)) else torch.contiguous_format


def _is_channels_last(tensor: Tensor) -> bool:
    """Tell whether, by the strides, channels vary fastest, then columns, then rows, then images.

    A tensor with an extent of 1 may be contiguous as well; torch then lets the strides decide.
    """
    strides, shape = tensor.stride(), tensor.shape
    least = 1
    for dim in (1, 3, 2, 0):
        if strides[dim] < least:
            return False
        if dim == 0 and strides[0] == strides[1]:
            return False  # a single pixel of a single channel
        least = strides[dim] * shape[dim]
    return True


def is_traced() -> bool:
    """Tell whether torch compiles, traces or transforms what runs, so that it has to be plain operators."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or in_function_transform()
        or in_forward_mode()
        or (in_dispatch_mode() and _in_make_fx())
    )


def _in_make_fx() -> bool:
    from torch.fx.experimental.proxy_tensor import get_proxy_mode  # takes long to import

    return get_proxy_mode() is not None


def in_dispatch_mode() -> bool:
    """Tell whether make_fx, a fake-tensor mode or the like watches every operator that runs."""
    return is_in_torch_dispatch_mode()


@torch.compiler.assume_constant_result  # torch.compile traces for each stack of transforms anew
def in_function_transform() -> bool:
    """Tell whether a transform of `torch.func`, such as `grad` or `vmap`, is active."""
    return torch._C._are_functorch_transforms_active()


def in_forward_mode() -> bool:
    """Tell whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which autocast does not lower the precision of products of matrices on a device."""
    is_on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else nullcontext()


@torch.compiler.assume_constant_result
def computes_in_bfloat16() -> bool:
    """Tell whether the CPU is faster in bfloat16 than in float32, as far as torch tells: it does so for x86 alone.

    AMX makes it so, and AVX-512's bfloat16 instructions, but not those of Intel's CPUs where AMX is hidden. These
    have AVX512-FP16 and no AMX, as later versions of torch tell.
    """
    return _computes_in_bfloat16()


@lru_cache(maxsize=1)
def _computes_in_bfloat16() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64") or torch.cpu._is_amx_tile_supported():
        return True
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.cpu._is_avx512_bf16_supported() and not capabilities.get("avx512_fp16", False)


def is_batched_gradient(grad: Tensor) -> bool:
    """Tell whether a gradient holds a batch of gradients, as in `torch.autograd.grad(..., is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)
