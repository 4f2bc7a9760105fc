"""Create the Accelerator, settle the CPU threads of each process, and describe the machine."""

import logging
import os
from datetime import timedelta
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from .allocation import keep_freed_memory
from .trials.record import Machine

_logger = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(days=1)  # of the others, while the main process downloads or makes data


def create_accelerator(*, mixed_precision: str | None, cpu_threads: int | None, **options: Any) -> Accelerator:
    """Return what distributes the work, on as many threads as its processes shall have; CPUs keep freed memory.

    Args:
        mixed_precision: Number format; the launcher's if None.
        cpu_threads: Threads of a process on CPUs; if None, `OMP_NUM_THREADS` or its share of the cores.
        **options: Further arguments of `Accelerator`.

    Raises:
        ValueError: If the device has no such number format, or the launcher accumulates gradients.
    """
    accelerator = Accelerator(
        mixed_precision=mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)], **options
    )
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


def machine_of(accelerator: Accelerator) -> Machine:
    """Return what it runs on."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type
    return Machine(device, accelerator.num_processes, torch.get_num_threads())
