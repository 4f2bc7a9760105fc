"""Create the Accelerator that the settings ask for."""

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, is_tensorboard_available, is_wandb_available

from .. import accelerator
from .config import FinetuneConfig


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
    return accelerator.create_accelerator(
        mixed_precision=config.mixed_precision,
        cpu_threads=config.cpu_threads,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        log_with=config.tracker,
        project_dir=config.output_dir,
    )
