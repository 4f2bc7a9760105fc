"""One trial: a network, a few images of each class, an accuracy on all test images."""

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

from .checkpoint import CheckpointFile
from .config import FewShotConfig
from .data import DataSet, Draw, draw
from .networks import create_network, preprocessing
from .pixels import TestPixels, TrainPixels, test_transform, train_transform
from .training import Progress, Training, accuracies, predict

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Trial:
    """A variant of the network and a seed, which settles the drawn images and the initial weights.

    Attributes:
        data: The data set.
        variant: Name of the variant.
        seed: Seed of the trial.
        held_out: Whether it is tested on held-out training images, to choose the learning rate, and not on the test.
        lr: The learning rate that is tried, None where it is the settings'.
    """

    data: DataSet
    variant: str
    seed: int
    held_out: bool = False
    lr: float | None = None

    @property
    def folder(self) -> Path:
        """The trial's folder below the output folder."""
        if self.held_out:
            return Path(self.data.folder, "lr-sweep", f"lr{self.lr:g}-seed{self.seed}")
        return Path(self.data.folder, f"{self.variant}-seed{self.seed}")


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        model: The trained network, without Accelerate's wrappers.
        data_config: The preprocessing that it was tested with.
        metrics: `top1` and `mean_per_class` after the last epoch, percent.
        num_test: Number of images that it was tested on.
        drawn: The images that it was trained on.
        progress: Losses and times of the training.
        test_seconds: Time of the test, seconds.
        peak_memory_mib: Largest memory of the device, or of the process so far where that is the CPU, MiB.
    """

    model: nn.Module
    data_config: dict[str, Any]
    metrics: dict[str, float]
    num_test: int
    drawn: Draw
    progress: Progress
    test_seconds: float
    peak_memory_mib: float | None


@dataclass
class TestImages:
    """A data set's test images, which are decoded for its first trial and kept for the others."""

    data: DataSet
    _pixels: dict[str, TestPixels] = field(default_factory=dict)

    def pixels(self, data_config: dict[str, Any], limit_mib: float) -> TestPixels:
        """Return them as a network sees them but for the normalization.

        Args:
            data_config: The network's preprocessing.
            limit_mib: Pixels are kept up to this size.
        """
        key = repr(sorted(data_config.items()))
        if key not in self._pixels:
            self._pixels = {key: TestPixels(self.data.test, test_transform(data_config), limit_mib)}
        return self._pixels[key]


def run_trial(
    config: FewShotConfig,
    trial: Trial,
    test_images: TestImages,
    accelerator: Accelerator,
    on_epoch: Callable[[Progress], None],
    folder: Path | None = None,
) -> Outcome:
    """Train a variant on a few images of each class and test it, without selection, after the last epoch.

    Args:
        config: Settings.
        trial: Which data set, variant and seed.
        test_images: The data set's test images.
        accelerator: Distributes the work.
        on_epoch: Called after each epoch.
        folder: Where the trial's state is kept on the way; None to keep none.

    Raises:
        DivergedError: If the loss or an output becomes infinite or not a number.
        UnreadableImageError: If an image cannot be decoded.
        ValueError: If the settings do not fit the network or the number of processes.
    """
    random_seed(trial.seed)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    network = create_network(config, trial.variant, len(trial.data.train.class_names))
    data_config = preprocessing(config, network)
    drawn = draw(trial.data, config.sampler, config.shots, trial.seed)
    train, test = drawn.train, test_images
    if trial.held_out:
        kept = set(drawn.held_out.indices) if drawn.held_out.sources is train.sources else set()
        train = train.subset([place for place, index in enumerate(train.indices) if index not in kept])
        drawn = replace(drawn, train=train)
        test = TestImages(_with_test(trial.data, drawn))
    tested = test.pixels(data_config, config.cache_mib)
    pixels = TrainPixels(train, train_transform(config, data_config), trial.seed, config.cache_mib)

    training = Training(config, network, pixels, data_config, trial.seed, accelerator)
    checkpoint = None
    if folder is not None:
        settings = {**decisive_settings(config, trial.data, accelerator), "trial": str(trial.folder)}
        checkpoint = CheckpointFile(folder / CHECKPOINT_FILE, settings, config.checkpoint_seconds)
    model = training.run(checkpoint, on_epoch)
    start = time.perf_counter()
    predicted = predict(model, tested, data_config, config, accelerator)
    metrics = accuracies(predicted, tested.images.own_labels(), len(train.class_names))
    seconds = time.perf_counter() - start
    memory = _peak_memory_mib(accelerator.device)
    return Outcome(model, data_config, metrics, len(tested), drawn, training.progress, seconds, memory)


def decisive_settings(config: FewShotConfig, data: DataSet, accelerator: Accelerator) -> dict[str, Any]:
    """Return all on which a trial's result depends, but for its variant and seed; a file by its contents.

    Args:
        config: Settings.
        data: The data set.
        accelerator: Has the launcher's number format, where the settings leave it open.
    """
    beside = {"mixed_precision": accelerator.mixed_precision, "data_sha256": data.contents.sha256}
    settings = {**config.trial_settings(), **beside}
    del settings["checkpoint"]  # its sha256 is there
    return settings


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
    """Return a data set that is tested on the held-out images."""
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
