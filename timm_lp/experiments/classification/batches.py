"""The batches of a training: how many images at once, how they are loaded, erased and mixed, and their loss."""

import os

import torch
from accelerate import Accelerator
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..accelerator import local_world_size
from ..data.pixels import EpochSampler, TrainPixels
from .config import FinetuneConfig

_MAX_WORKERS = 8


def train_loader(
    config: FinetuneConfig, images: TrainPixels, sampler: EpochSampler, accelerator: Accelerator
) -> DataLoader:
    """Return what loads batches; `accelerator.prepare` gives each process its share of each batch."""
    workers = num_workers(config, accelerator)
    return DataLoader(
        images,
        batch_size=whole_batch_size(config, len(images), accelerator),
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # starting workers would draw from that of drop path
        pin_memory=accelerator.device.type == "cuda",
    )


def whole_batch_size(config: FinetuneConfig, num_images: int, accelerator: Accelerator) -> int:
    """Return the number of images in a batch over all processes: at most the number of training images.

    Raises:
        ValueError: If they cannot be divided among the processes and their accumulation steps.
    """
    batch_size = min(config.batch_size, num_images)
    parts = accelerator.num_processes * config.grad_accum_steps
    if batch_size % parts:
        way = f"Use --batch-size {batch_size // parts * parts}" if batch_size > parts else "Use fewer of them"
        raise ValueError(
            f"`batch_size` must be a multiple of {accelerator.num_processes} processes x {config.grad_accum_steps} "
            f"accumulation steps, got {batch_size} of {num_images} training images. {way}."
        )
    share = batch_size // accelerator.num_processes
    if config.mixes and share % 2:
        raise ValueError(
            f"`mixup` and `cutmix` must have an even number of images to mix, got {share} of a batch in each process. "
            f"Use --batch-size {(share - 1) * accelerator.num_processes or 2 * accelerator.num_processes}."
        )
    return batch_size


def images_at_once(config: FinetuneConfig, accelerator: Accelerator) -> int:
    """Return over how many images a BatchNorm layer averages: on GPUs over those of all processes."""
    processes = 1 if accelerator.device.type == "cuda" else accelerator.num_processes
    return max(1, config.batch_size // (processes * config.grad_accum_steps))


def num_workers(config: FinetuneConfig, accelerator: Accelerator) -> int:
    """Return how many workers load the images of each process: none on CPUs, where they would compete for cores."""
    if config.workers is not None:
        return config.workers
    if accelerator.device.type == "cpu":
        return 0
    return min(_MAX_WORKERS, (os.cpu_count() or 1) // local_world_size())


class BatchAugmentation:
    """Erases and then mixes normalized images, as timm does without its prefetcher (with it, timm mixes first).

    Python's and NumPy's generators settle everything random in it.

    Args:
        config: Settings.
        num_classes: Number of classes.
        device: Where the images are.
    """

    def __init__(self, config: FinetuneConfig, num_classes: int, device: torch.device) -> None:
        self._erase = self._mix = None
        if config.reprob:
            self._erase = RandomErasing(config.reprob, mode=config.remode, max_count=config.recount, device=str(device))
        if config.mixes:
            self._mix = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                prob=config.mixup_prob,
                switch_prob=config.mixup_switch_prob,
                mode=config.mixup_mode,
                label_smoothing=config.smoothing,
                num_classes=num_classes,
            )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the erased and mixed images, and their targets.

        Args:
            images: Normalized images `(N, C, H, W)`, changed in place; N must be even if they are mixed.
            labels: Their classes `(N,)`.

        Returns:
            The images, and the classes `(N,)`, or probabilities `(N, num_classes)` of mixed images.
        """
        if self._erase is not None:
            images = self._erase(images)
        return (images, labels) if self._mix is None else self._mix(images, labels)


def create_criterion(config: FinetuneConfig) -> nn.CrossEntropyLoss:
    """Return the loss; the targets of mixed images are smoothed already."""
    return nn.CrossEntropyLoss(label_smoothing=0.0 if config.mixes else config.smoothing)
