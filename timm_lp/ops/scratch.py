"""Memory that each thread keeps for intermediate results: new pages cost more time than writing to them."""

import math
import threading
from typing import Any

import torch
from torch import Tensor

_LARGEST_BYTES = 2**23

_thread = threading.local()


def scratch(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return memory on the CPU to write to, for a result that is used up before the same name is asked for again.

    Args:
        name: Whose memory it is.
        shape: Shape of the result; of four dimensions if it is in channels_last.
        dtype: Its dtype.
        memory_format: Its memory format.
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
