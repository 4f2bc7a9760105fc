"""BatchNorm over the batch of all processes, so that a training does not depend on how many there are."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with mean and variance over the batches of all processes, on CPUs too.

    torch's `SyncBatchNorm` does this on GPUs alone. All processes must have batches of one size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, `(N, C, H, W)`."""
        if not self.training:
            return super().forward(x)
        processes = dist.get_world_size()
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = _SumOverProcesses.apply(wide.mean(dim=(0, 2, 3))) / processes
        centred = wide - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().mean(dim=(0, 2, 3))) / processes
        self._follow(mean.detach(), variance.detach(), processes * x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as BatchNorm2d does, the variance without its bias."""
        for running, new in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
            if running is not None:
                running.lerp_(new.to(running), self.momentum or 0.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def share_norms(network: nn.Module) -> None:
    """Let each BatchNorm2d of a network see the batches of all processes, in place; nothing of its state changes."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
