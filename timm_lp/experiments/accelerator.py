"""The processes that share the work: their Accelerator, their threads and memory, and the machine that they run on."""

import ctypes
import logging
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import (
    InitProcessGroupKwargs,
    broadcast_object_list,
    get_cpu_distributed_information,
    is_tensorboard_available,
    is_wandb_available,
    parse_flag_from_env,
)
from torch import Tensor, nn

from ..trials.record import Machine

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
_NEVER = 2**31 - 1

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(days=1)  # of the others, while the main process downloads or makes data


def create_accelerator(
    *,
    mixed_precision: str | None,
    cpu_threads: int | None,
    tracker: str | None = None,
    output_dir: str | None = None,
    **options: Any,
) -> Accelerator:
    """Return what distributes the work. On CPUs, set the threads of this process, and let it keep freed memory.

    Args:
        mixed_precision: Number format; the launcher's if None.
        cpu_threads: Threads of a process on CPUs; if None, `OMP_NUM_THREADS` or its share of the cores.
        tracker: `tensorboard` or `wandb`; None for neither.
        output_dir: Where a tracker writes.
        **options: Further arguments of `Accelerator`.

    Raises:
        ValueError: If the tracker is not installed, the launcher's processes are not one job, the device has no such
            number format, or the launcher accumulates gradients.
    """
    installed = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}
    if tracker is not None and not installed[tracker]():
        raise ValueError(f"`tracker` must be installed, got {tracker!r}. `pip install {tracker}` brings it.")
    on_cpus = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    launched = get_cpu_distributed_information().world_size
    if on_cpus and launched == 1:
        _refuse_one_of_several()
    accelerator = Accelerator(
        cpu=on_cpus and launched > 1,  # unless Accelerate is told, each process is a job of its own
        mixed_precision=mixed_precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
        log_with=tracker,
        project_dir=output_dir,
        **options,
    )
    check_one_job(accelerator, launched)
    if accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            f"`gradient_accumulation_steps` of `accelerate launch` must be 1, got "
            f"{accelerator.gradient_accumulation_steps}. Set the batches with the command's own flags."
        )
    if accelerator.device.type == "cpu":
        if accelerator.mixed_precision == "fp16":
            raise ValueError("`mixed_precision` must be no or bf16 on CPUs, got 'fp16'. Use --mixed-precision bf16.")
        keep_freed_memory()
        torch.set_num_threads(cpu_threads or _num_threads())
        if accelerator.is_main_process:
            _logger.info("Computing on %d threads a process (--cpu-threads).", torch.get_num_threads())
    return accelerator


@contextmanager
def own_accelerator() -> Iterator[None]:
    """Let an Accelerator that is made here have a number format of its own; a notebook's keeps its format.

    Accelerate gives all Accelerators of a process what the first one was made with. The processes stay joined.
    """
    states = (AcceleratorState, GradientState)
    known = [dict(state._shared_state) for state in states]
    try:
        for state in states:
            state._shared_state.clear()
        yield
    finally:
        for state, content in zip(states, known, strict=True):
            state._shared_state.clear()
            state._shared_state.update(content)


def share(value: _T) -> _T:
    """Return, in each process, the value that the main process gives."""
    (shared,) = broadcast_object_list([value])
    return shared


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of this process's generators, as a checkpoint holds them: Python's, NumPy's and torch's.

    Args:
        device: The device that it computes on.
    """
    numpy: Any = np.random.get_state()
    numpy = (numpy[0], numpy[1].tolist(), *numpy[2:])
    states = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def set_generator_states(states: dict[str, Any], device: torch.device) -> None:
    """Let this process's generators go on from the states that `generator_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type != "cpu" and "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"])


def check_one_job(accelerator: Accelerator, launched: int) -> None:
    """Refuse processes that Accelerate does not join, on Apple's GPUs for instance: each would do all the work.

    Args:
        accelerator: Distributes the work.
        launched: The launcher's number of processes.

    Raises:
        ValueError: If there are more than `accelerator` has.
    """
    if accelerator.num_processes < launched:
        raise ValueError(
            f"The launcher's {launched} processes must be one job, got {accelerator.num_processes} in it: they cannot "
            f"share the work on {accelerator.device.type}. Start one process."
        )


def _refuse_one_of_several() -> None:
    """Refuse to be the single process that `accelerate launch --num_processes 2` starts on CPUs.

    Its launcher sets the main process's address, which only several processes need, but no rank.

    Raises:
        ValueError: If this process is one.
    """
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and "RANK" not in os.environ:
        raise ValueError(
            "`accelerate launch` must start as many processes as it is asked for, got one: on CPUs it starts no more. "
            "Use `torchrun --nproc_per_node NUMBER` in its place; for one process, --num_processes 1 and no "
            "MASTER_ADDR."
        )


def _num_threads() -> int:
    """Return the threads of this process: its share of the machine's cores if a launcher left it a single thread.

    `accelerate launch` and `torchrun` set one thread where the user sets no number.
    """
    launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
    if not launched or os.environ.get("OMP_NUM_THREADS") != "1":
        return torch.get_num_threads()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    return max(1, cores // local_world_size())


def local_world_size() -> int:
    """Return the number of processes on this machine, which `accelerate launch` and `torchrun` set."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors; by default glibc hands it back to the system.

    A training step frees what the next one allocates again, and the system fills each page with zeros before it gives
    it out: 20 to 40 % of a step where maps are large and kernels small.

    Returns:
        Whether it can: other C libraries and other systems stay unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(parameter, _NEVER) for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def keep_gradient_strides(network: nn.Module) -> None:
    """Give gradients the strides of their parameters, which DistributedDataParallel asks for; their values stay.

    For contiguous kernels of one channel and channels-last images, torch returns gradients with another stride.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_hook(partial(_with_strides, parameter.stride()))


def _with_strides(stride: tuple[int, ...], gradient: Tensor) -> Tensor:
    """Return a gradient with the given strides if these differ along axes of size 1 alone, and unchanged otherwise."""
    axes = zip(gradient.shape, gradient.stride(), stride, strict=True)
    same = all(size == 1 or has == wanted for size, has, wanted in axes)
    return gradient.as_strided(gradient.shape, stride) if same else gradient


def machine_of(accelerator: Accelerator) -> Machine:
    """Return the machine that an accelerator works on."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type
    return Machine(device, accelerator.num_processes, torch.get_num_threads())


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
    """Let each BatchNorm2d of a network see the batches of all processes, in place; its state stays.

    A training then does not depend on the number of processes.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
