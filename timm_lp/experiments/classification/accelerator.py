"""What distributes the work, and how many cores each of its processes has."""

import logging
import os
from datetime import timedelta

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    InitProcessGroupKwargs,
    is_tensorboard_available,
    is_wandb_available,
)

from .config import FinetuneConfig

_logger = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(days=1)  # of the others, while the main process downloads the data sets


def create_accelerator(config: FinetuneConfig) -> Accelerator:
    """Return what distributes the work: `batch_size` images over all processes, in the format that is asked for.

    Raises:
        ValueError: If the tracker is not installed, the device has no such number format, or the launcher accumulates
            gradients.
    """
    installed = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}
    if config.tracker and not installed[config.tracker]():
        raise ValueError(
            f"`tracker` must be installed, got {config.tracker!r}. `pip install {config.tracker}` brings it."
        )
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        log_with=config.tracker,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
        project_dir=config.output_dir,
    )
    if accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            f"`gradient_accumulation_steps` of `accelerate launch` must be 1, got "
            f"{accelerator.gradient_accumulation_steps}. Use --grad-accum-steps."
        )
    if accelerator.device.type == "cpu":
        if accelerator.mixed_precision == "fp16":
            raise ValueError("`mixed_precision` must be no or bf16 on CPUs, got 'fp16'. Use --mixed-precision bf16.")
        torch.set_num_threads(config.cpu_threads or _num_threads())
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
