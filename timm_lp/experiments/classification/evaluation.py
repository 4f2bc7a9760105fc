"""Evaluate a network's accuracy."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from timm.data import resolve_model_data_config
from torch import nn
from torch.utils.data import DataLoader

from ...trials.record import DivergedError
from ..data.pixels import EvalPixels, Normalize


def evaluate(
    network: nn.Module,
    pixels: EvalPixels,
    accelerator: Accelerator,
    *,
    data_config: dict[str, Any] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    channels_last: bool = False,
) -> dict[str, float]:
    """Return a network's accuracy on images, each of which counts once, however many processes share them.

    Args:
        network: The network, on `accelerator`'s device and without its wrappers; it is left in evaluation mode.
        pixels: The images with their classes.
        accelerator: Distributes the work and has the number format; it must split batches (`split_batches`).
        data_config: The preprocessing, of which `mean` and `std` count here; the network's if not given.
        batch_size: Images of a batch over all processes.
        num_workers: Processes that load images for each process.
        channels_last: Whether the images have the channels last in memory.

    Returns:
        `top1` and `mean_per_class`, percent.

    Raises:
        DivergedError: If an output is infinite or not a number.
    """
    data_config = resolve_model_data_config(network) if data_config is None else data_config
    processes = accelerator.num_processes
    loader = DataLoader(pixels, batch_size=max(1, batch_size // processes) * processes, num_workers=num_workers)
    normalize = Normalize(data_config, channels_last)
    predicted = _predict(network, loader, len(pixels), normalize, accelerator)
    return accuracies(predicted, pixels.images.own_labels(), len(pixels.images.class_names))


def accuracies(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return the accuracy over all images and the mean of the classes' accuracies, percent.

    Args:
        predicted: Class that was predicted for each image.
        labels: Class of each image.
        num_classes: Number of classes; those without a test image do not count in the mean.
    """
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[predicted == labels], minlength=num_classes)
    seen = counts > 0
    return {
        "top1": 100 * float(right.sum()) / len(labels),
        "mean_per_class": 100 * float((right[seen] / counts[seen]).mean()),
    }


@torch.no_grad()
def _predict(
    network: nn.Module, loader: DataLoader, count: int, normalize: Normalize, accelerator: Accelerator
) -> np.ndarray:
    """Return the predicted class of every image, of which each process sees its share."""
    network.eval()
    predicted = np.full(count, -1, dtype=np.int64)
    for pixels, positions in accelerator.prepare(loader):
        with accelerator.autocast():
            logits = network(normalize(pixels))
        classes = logits.argmax(dim=1).where(logits.isfinite().all(dim=1), -1)
        # The last batch is filled up with images of earlier ones; their predictions are the same.
        classes, positions = accelerator.gather((classes, positions))
        predicted[positions.cpu().numpy()] = classes.cpu().numpy()
    if (predicted < 0).any():
        failed = (predicted < 0).sum()
        raise DivergedError(f"the outputs on {failed} of {count} test images are infinite or not a number")
    return predicted
