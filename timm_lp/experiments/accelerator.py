"""Create the Accelerator, settle the CPU threads of each process, and describe the machine."""

import logging
import os
from datetime import timedelta
from functools import partial
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, get_cpu_distributed_information, parse_flag_from_env
from torch import Tensor, nn

from ..trials.record import Machine
from .allocation import keep_freed_memory

_logger = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(days=1)  # of the others, while the main process downloads or makes data


def create_accelerator(*, mixed_precision: str | None, cpu_threads: int | None, **options: Any) -> Accelerator:
    """Return what distributes the work, on as many threads as its processes shall have; CPUs keep freed memory.

    Args:
        mixed_precision: Number format; the launcher's if None.
        cpu_threads: Threads of a process on CPUs; if None, `OMP_NUM_THREADS` or its share of the cores.
        **options: Further arguments of `Accelerator`.

    Raises:
        ValueError: If the launcher's processes are not one job, the device has no such number format, or the launcher
            accumulates gradients.
    """
    on_cpus = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    launched = get_cpu_distributed_information().world_size
    if on_cpus and launched == 1:
        _refuse_one_of_several()
    accelerator = Accelerator(
        cpu=on_cpus and launched > 1,  # unless Accelerate is told, each process is a job of its own
        mixed_precision=mixed_precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
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


def check_one_job(accelerator: Accelerator, launched: int) -> None:
    """Refuse processes that Accelerate does not join, on Apple's GPUs for instance: each would run everything.

    Args:
        accelerator: Distributes the work.
        launched: The number of processes, as the launcher tells it.

    Raises:
        ValueError: If there are more than `accelerator` has.
    """
    if accelerator.num_processes < launched:
        raise ValueError(
            f"The launcher's {launched} processes must be one job, got {accelerator.num_processes} in it: they cannot "
            f"share the work on {accelerator.device.type}. Start one process."
        )


def _refuse_one_of_several() -> None:
    """Refuse to be the one process that `accelerate launch --num_processes 2` starts on CPUs.

    The launcher says where the main process is, as to several, and gives this one no rank.

    Raises:
        ValueError: If this is one.
    """
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and "RANK" not in os.environ:
        raise ValueError(
            "`accelerate launch` must start as many processes as it is asked for, got one: on CPUs it starts no more. "
            "Use `torchrun --nproc_per_node NUMBER` in its place; for one process, --num_processes 1 and no "
            "MASTER_ADDR."
        )


def _num_threads() -> int:
    """Return the threads of a process, where a launcher left it one thread its share of the machine's cores.

    `accelerate launch` and `torchrun` ask for one thread if nobody says how many.
    """
    launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
    if not launched or os.environ.get("OMP_NUM_THREADS") != "1":
        return torch.get_num_threads()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    return max(1, cores // local_world_size())


def local_world_size() -> int:
    """Return the number of processes on this machine, as `accelerate launch` and `torchrun` tell it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def keep_gradient_strides(network: nn.Module) -> None:
    """Give gradients the strides of their parameters, as DistributedDataParallel wants them; their values stay.

    torch's convolutions of contiguous kernels and channels-last images give those of one channel a stride of 1 there.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_hook(partial(_with_strides, parameter.stride()))


def _with_strides(stride: tuple[int, ...], gradient: Tensor) -> Tensor:
    """Return a tensor with other strides along the axes of size 1, and itself where others differ too."""
    axes = zip(gradient.shape, gradient.stride(), stride, strict=True)
    same = all(size == 1 or own == other for size, own, other in axes)
    return gradient.as_strided(gradient.shape, stride) if same else gradient


def machine_of(accelerator: Accelerator) -> Machine:
    """Return what it runs on."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type
    return Machine(device, accelerator.num_processes, torch.get_num_threads())
