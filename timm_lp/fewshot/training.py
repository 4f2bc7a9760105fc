"""One trial: a network, a few images of each class, an accuracy on all test images."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from accelerate import Accelerator
from timm.data import create_transform, resolve_data_config
from timm.models import load_state_dict, split_model_name_tag
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import random_seed
from torch import nn
from torch.utils.data import DataLoader

from ..models.checkpoint import checkpoint_filter_fn
from .config import FewShotConfig
from .data import ImageSet

BASE = "base"


class DivergedError(RuntimeError):
    """The loss of a trial is not a number any more."""


@dataclass(frozen=True)
class Trial:
    """A variant of the network and a seed, which settles the drawn images and the initial weights.

    Attributes:
        variant: `"base"`, or the prefix of a registered variant.
        seed: Seed of the trial.
    """

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the trial's folder."""
        return f"{self.variant}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        model: The trained network, without Accelerate's wrappers.
        data_config: The preprocessing that it was tested with.
        top1: Accuracy on all test images after the last epoch, percent.
        num_test: Number of test images.
        indices: The training images that were drawn, by their place in the data set.
        train_seconds: Time of the training, seconds.
        test_seconds: Time of the test, seconds.
    """

    model: nn.Module
    data_config: dict[str, Any]
    top1: float
    num_test: int
    indices: list[int]
    train_seconds: float
    test_seconds: float


def variant_name(model: str, variant: str) -> str:
    """Return the registered name of a base network's variant.

    Raises:
        ValueError: If timm has no such model.
    """
    name = model if variant == BASE else f"{variant}_{model}"
    if not timm.is_model(split_model_name_tag(name)[0]):
        base, _ = split_model_name_tag(model)
        prefixes = [known.removesuffix(f"_{base}") for known in timm.list_models(f"*_{base}", module="lp_models")]
        raise ValueError(
            f"`model` and `variants` must name registered models, got {name!r}. "
            f"Variants of {base}: {', '.join([BASE] * timm.is_model(base) + prefixes) or 'none, it is unknown'}."
        )
    return name


def create_network(config: FewShotConfig, variant: str, num_classes: int) -> nn.Module:
    """Return the network that a trial of `variant` starts from.

    Raises:
        ValueError: If the network does not take `config`'s arguments, or `config.checkpoint` does not fit it.
    """
    name = variant_name(config.model, variant)
    overlay = {"file": config.checkpoint} if config.checkpoint else None
    rates: dict[str, Any] = {} if config.drop_path_rate is None else {"drop_path_rate": config.drop_path_rate}
    try:
        model = timm.create_model(
            name,
            pretrained=config.pretrained or overlay is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=num_classes,
            **rates,
            **config.model_kwargs,
        )
        if variant == BASE and config.checkpoint is not None:
            # With another number of classes timm takes any file for its own networks; our filter refuses what does
            # not fit.
            checkpoint_filter_fn(load_state_dict(config.checkpoint), model, kernel_scale=1)
    except (TypeError, RuntimeError, OSError) as error:
        raise ValueError(
            f"`model`, `model_kwargs`, `drop_path_rate`, `pretrained` and `checkpoint` must fit {name}, got {error}"
        ) from error
    return model


def run_trial(
    config: FewShotConfig,
    trial: Trial,
    splits: tuple[ImageSet, ImageSet],
    accelerator: Accelerator,
    on_epoch: Callable[[float], None],
) -> Outcome:
    """Train a variant on a few images of each class and test it, without selection, after the last epoch.

    Args:
        config: Settings.
        trial: Which variant and which seed.
        splits: Training pool and test images.
        accelerator: Distributes the work.
        on_epoch: Called after each epoch with its mean loss.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    pool, test = splits
    random_seed(trial.seed)
    network = create_network(config, trial.variant, len(pool.class_names))
    data_config = _data_config(config, network)
    indices = pool.draw(config.shots, trial.seed)
    train_loader = _train_loader(config, pool.select(indices, _train_transform(config, data_config)), accelerator)
    test_set = test.select(test.indices, create_transform(**data_config))
    test_loader = DataLoader(test_set, batch_size=4 * config.batch_size, num_workers=config.workers)

    optimizer = create_optimizer_v2(
        network, opt="adamw", lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    # A prepared scheduler would step once for each process; timm's is told the update instead.
    model, optimizer, train_loader, test_loader = accelerator.prepare(network, optimizer, train_loader, test_loader)
    start = time.perf_counter()
    _train(config, model, optimizer, train_loader, accelerator, on_epoch)
    trained = time.perf_counter()
    top1 = evaluate(model, test_loader, accelerator)
    tested = time.perf_counter()
    return Outcome(network, data_config, top1, len(test), indices, trained - start, tested - trained)


def _data_config(config: FewShotConfig, model: nn.Module) -> dict[str, Any]:
    overrides = {"img_size": config.img_size, "crop_pct": config.crop_pct}
    return resolve_data_config({key: value for key, value in overrides.items() if value is not None}, model=model)


def _train_transform(config: FewShotConfig, data_config: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    keys = ("input_size", "interpolation", "mean", "std")
    return create_transform(
        **{key: data_config[key] for key in keys},
        is_training=True,
        scale=(config.crop_scale_min, 1.0),
        hflip=config.hflip,
        color_jitter=None,  # type: ignore[arg-type] # timm leaves it out then
    )


def _train_loader(config: FewShotConfig, train_set: ImageSet, accelerator: Accelerator) -> DataLoader:
    """Return shuffled batches of this process's share; `accelerator.prepare` then splits the images."""
    if config.batch_size % accelerator.num_processes:
        raise ValueError(
            f"`batch_size` must be a multiple of the {accelerator.num_processes} processes, got {config.batch_size}."
        )
    batch_size = config.batch_size // accelerator.num_processes
    full_batch = len(train_set) >= config.batch_size  # BatchNorm cannot learn from a last batch of one image
    return DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=full_batch, num_workers=config.workers)


def create_scheduler(config: FewShotConfig, optimizer: torch.optim.Optimizer, updates_per_epoch: int) -> Scheduler:
    """Return timm's cosine schedule behind a linear warm-up, stepped with each update."""
    warmup_epochs = min(config.warmup_epochs, config.epochs // 2)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=config.epochs - warmup_epochs,
        warmup_epochs=warmup_epochs,
        warmup_lr=config.lr / 100,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler


def _train(
    config: FewShotConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
    accelerator: Accelerator,
    on_epoch: Callable[[float], None],
) -> None:
    scheduler = create_scheduler(config, optimizer, len(loader))
    criterion = nn.CrossEntropyLoss(label_smoothing=config.smoothing)
    model.train()
    update = 0
    for epoch in range(config.epochs):
        losses = []
        for images, labels in loader:
            loss = criterion(model(images), labels)
            accelerator.backward(loss)
            if config.clip_grad is not None:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            update += 1
            scheduler.step_update(update)
            losses.append(loss.detach())
        # One look at the loss an epoch: reading it waits for the device.
        mean_loss = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if not math.isfinite(mean_loss):
            raise DivergedError(f"the loss became {mean_loss} in epoch {epoch + 1} of {config.epochs}")
        on_epoch(mean_loss)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, accelerator: Accelerator) -> float:
    """Return the top-1 accuracy, percent, with each image counted once."""
    model.eval()
    correct = total = 0
    for images, labels in loader:
        predicted, labels = accelerator.gather_for_metrics((model(images).argmax(dim=1), labels))
        correct += (predicted == labels).sum().item()
        total += len(labels)
    return 100 * correct / total
