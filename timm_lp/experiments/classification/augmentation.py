"""What is done to whole batches of training images on the device: random erasing, mixup and cutmix, timm's all."""

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

from .config import FinetuneConfig


class BatchAugmentation:
    """Erases and then mixes normalized images, as timm does without its prefetcher (with it, timm mixes first).

    What it draws follows Python's and NumPy's generators.

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
        """Return the images as they are trained on, and their targets.

        Args:
            images: Normalized images `(N, C, H, W)`, which are changed; N must be even where they are mixed.
            labels: Their classes `(N,)`.

        Returns:
            The images, and the classes `(N,)` or, where images are mixed, probabilities `(N, num_classes)`.
        """
        if self._erase is not None:
            images = self._erase(images)
        return (images, labels) if self._mix is None else self._mix(images, labels)


def create_criterion(config: FinetuneConfig) -> nn.CrossEntropyLoss:
    """Return the loss; where images are mixed, their targets are smoothed already."""
    return nn.CrossEntropyLoss(label_smoothing=0.0 if config.mixes else config.smoothing)
