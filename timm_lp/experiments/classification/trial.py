"""One trial: train one network on the drawn images, and test it on all test images."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import random_seed
from torch import nn

from ...trials.checkpoint import CheckpointFile
from ...trials.record import trial_folder
from ..data.decoding import ImageSet
from ..data.images import DataSet
from ..data.pixels import (
    EvalPixels,
    TrainPixels,
    Transform,
    eval_transform,
    least_test_side,
    least_train_side,
    pixels_mib,
    train_transform,
)
from ..data.sampling import Draw, draw
from .batches import num_workers
from .config import FinetuneConfig
from .evaluation import evaluate
from .networks import create_network, preprocessing
from .training import Progress, Training


@dataclass(frozen=True)
class Trial:
    """A variant of a network and a seed, which settles the drawn images and the initial weights.

    Attributes:
        data: The data set.
        model: The base network.
        variant: Name of the variant.
        seed: Seed of the trial.
        held_out: Whether it is tested on held-out training images, to choose the learning rate.
        lr: The learning rate that it tries; None for the one of the settings.
    """

    data: DataSet
    model: str
    variant: str
    seed: int
    held_out: bool = False
    lr: float | None = None

    @property
    def folder(self) -> Path:
        """The trial's folder below the output folder."""
        return Path(trial_folder(self.data.folder, self.model, self.variant, self.seed, self.lr))


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        model: The trained network, without Accelerate's wrappers.
        data_config: The preprocessing of the test.
        metrics: `top1` and `mean_per_class` after the last epoch, percent; where accuracy is followed, also
            `train_top1`, the accuracy on the training images, without augmentation.
        tested: The test images.
        drawn: The training images.
        progress: Losses and times of the training.
        test_seconds: Time of the test, seconds.
        peak_memory_mib: Largest memory of the device, or of the process so far where that is the CPU, MiB.
    """

    model: nn.Module
    data_config: dict[str, Any]
    metrics: dict[str, float]
    tested: ImageSet
    drawn: Draw
    progress: Progress
    test_seconds: float
    peak_memory_mib: float | None


@dataclass
class EvalImages:
    """A data set's test images, decoded for its first trial and kept for the others."""

    data: DataSet
    _pixels: dict[str, EvalPixels] = field(default_factory=dict)

    def pixels(
        self, data_config: dict[str, Any], seed: int, limit_mib: float, least_side: int | None = None
    ) -> EvalPixels:
        """Return the images as a network sees them, but not normalized.

        Args:
            data_config: The network's preprocessing.
            seed: Seed of the trial, which tells the fold where there are folds.
            limit_mib: Pixels are kept up to this size, MiB.
            least_side: As of `EvalPixels`.
        """
        _, test = self.data.parts(seed)
        key = f"{sorted(data_config.items())} {test.indices if self.data.folds else ''}"
        if key not in self._pixels:
            self._pixels = {key: EvalPixels(test, eval_transform(data_config), limit_mib, least_side)}
        return self._pixels[key]


def run_trial(
    config: FinetuneConfig,
    trial: Trial,
    test_images: EvalImages,
    accelerator: Accelerator,
    on_progress: Callable[[Progress], None],
    checkpoint: CheckpointFile | None = None,
    follow: Callable[[Progress, nn.Module], None] | None = None,
) -> Outcome:
    """Train a variant on a few images of each class and test it, without selection, after the last epoch.

    Args:
        config: Settings.
        trial: Which data set, variant and seed.
        test_images: The data set's test images.
        accelerator: Distributes the work.
        on_progress: Called after each update and each epoch.
        checkpoint: Keeps the trial's state; None to keep none.
        follow: As of `Training.run`.

    Raises:
        DivergedError: If the loss or an output becomes infinite or not a number.
        UnreadableImageError: If an image cannot be decoded.
        ValueError: If the settings do not fit the network or the number of processes.
    """
    random_seed(trial.seed)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    network = create_network(config, trial.model, trial.variant, len(trial.data.train.class_names))
    data_config = preprocessing(config, network)
    drawn = draw(trial.data, config.sampler, config.shots, trial.seed)
    train, test = drawn.train, test_images
    if trial.held_out:
        kept = set(drawn.held_out.indices) if drawn.held_out.sources is train.sources else set()
        train = train.subset([number for number, index in enumerate(train.indices) if index not in kept])
        drawn = replace(drawn, train=train)
        test = EvalImages(_with_test(trial.data, drawn))
    # The test images take what they need of the memory, up to a half; held-out ones leave it to them.
    needed_mib = pixels_mib(trial.data.test, data_config)
    test_mib = min(needed_mib, config.cache_mib / 2)
    test_side = least_test_side(data_config) if config.jpeg_draft else None
    tested = test.pixels(data_config, trial.seed, 0 if trial.held_out else test_mib, test_side)
    followed, followed_mib = tested, 0.0
    if config.track_accuracy and config.track_share < 1:
        followed_mib = config.track_share * test_mib
        part = tested.images.share(config.track_share)
        followed = EvalPixels(part, eval_transform(data_config), followed_mib, test_side)
    pixels = train_pixels(config, train, data_config, trial.seed, config.cache_mib - test_mib - followed_mib)

    training = Training(config, network, pixels, data_config, trial.seed, accelerator)

    def test_network(network: nn.Module, on: EvalPixels = tested) -> dict[str, float]:
        return evaluate(
            network,
            on,
            accelerator,
            data_config=data_config,
            batch_size=4 * config.batch_size,
            num_workers=0 if on in (tested, followed) and test_mib == needed_mib else num_workers(config, accelerator),
            channels_last=config.channels_last,
        )

    test_epoch = (lambda network: test_network(network, followed)["top1"]) if config.track_accuracy else None
    model = training.run(checkpoint, on_progress, test_epoch, follow)
    start = time.perf_counter()
    metrics = test_network(model)
    seconds = time.perf_counter() - start
    if config.track_accuracy:
        seen = EvalPixels(train.share(config.track_share), eval_transform(data_config), 0, test_side)
        metrics["train_top1"] = test_network(model, seen)["top1"]
    memory = _peak_memory_mib(accelerator.device)
    return Outcome(model, data_config, metrics, tested.images, drawn, training.progress, seconds, memory)


def train_pixels(
    config: FinetuneConfig, images: ImageSet, data_config: dict[str, Any], seed: int, limit_mib: float
) -> TrainPixels:
    """Return augmented training images.

    Args:
        config: Settings.
        images: The images.
        data_config: The network's preprocessing.
        seed: Seed of the trial.
        limit_mib: Decoded images are kept up to this size, MiB.
    """
    side = least_train_side(data_config, config.train_crop_mode, config.crop_scale_min, config.ratio)
    transform = augmentations(config, data_config)
    return TrainPixels(images, transform, seed, limit_mib, side if config.jpeg_draft else None)


def augmentations(config: FinetuneConfig, data_config: dict[str, Any]) -> Transform:
    """Return the augmentations of the training images, up to the pixels."""
    return train_transform(
        data_config,
        crop_mode=config.train_crop_mode,
        scale=(config.crop_scale_min, 1.0),
        ratio=(config.ratio[0], config.ratio[1]),
        hflip=config.hflip,
        auto_augment=config.auto_augment,
    )


def check_held_out(data: DataSet, drawn: Draw) -> None:
    """Refuse a draw that leaves no images to choose a learning rate with.

    Raises:
        ValueError: If there are none.
    """
    if not len(drawn.held_out):
        raise ValueError(
            f"`lr_sweep` must have images to choose with, got none of {data.info.id} beyond those that are drawn. "
            "Lower --shots, or give --lr."
        )


def _with_test(data: DataSet, drawn: Draw) -> DataSet:
    """Return a data set with the held-out images as its test."""
    check_held_out(data, drawn)
    return DataSet(data.info, data.folder, data.train, drawn.held_out)


def _peak_memory_mib(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
