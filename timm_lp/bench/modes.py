"""The modes in which people train and evaluate: memory format, dtype, optimizer, threads."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..reporting import counted
from .flags import AUTOCAST

FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
DTYPES = {"float32": torch.float32, AUTOCAST: torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Mode:
    """How a case runs.

    Attributes:
        memory_format: "NCHW" or "NHWC" (channels_last), of the input and of the kernels.
        dtype: "float32", "autocast" (weights in float32, convolutions in bfloat16), or "bfloat16" (weights as well).
        optimizer: Whether a training step ends with a step of AdamW.
        threads: Threads that torch uses on the CPU.
        device: "cpu" or "cuda".
    """

    memory_format: str = "NCHW"
    dtype: str = "float32"
    optimizer: bool = False
    threads: int = 1
    device: str = "cpu"

    def __str__(self) -> str:
        dtype = "bf16 autocast" if self.dtype == AUTOCAST else self.dtype
        optimizer = ", AdamW" if self.optimizer else ""
        threads = f", {counted(self.threads, 'thread')}" if self.device == "cpu" else ""
        return f"{self.memory_format} {dtype}{optimizer}{threads}"

    def place(self, model: nn.Module) -> nn.Module:
        """Return a model on the device, with its parameters in the dtype and memory format."""
        return model.to(device=self.device, dtype=DTYPES[self.dtype], memory_format=FORMATS[self.memory_format])  # type: ignore[call-overload]

    def images(self, x: Tensor) -> Tensor:
        """Return images, shape `(N, C, H, W)`, as a network gets them: under autocast in float32."""
        x = x.detach().to(self.device, DTYPES[self.dtype])
        return x.contiguous(memory_format=FORMATS[self.memory_format])

    def maps(self, x: Tensor) -> Tensor:
        """Return maps, shape `(N, C, H, W)`, as a layer inside of a network gets them: under autocast in bfloat16."""
        x = self.images(x)
        return (x.bfloat16() if self.dtype == AUTOCAST else x).requires_grad_()

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which the model and its loss run."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == AUTOCAST)
