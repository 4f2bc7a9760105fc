"""Images per second of loading, of training, and of both together: is the loading the bottleneck?"""

import time
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader

from ..data.loading import load_data
from ..data.sampling import draw
from .batches import images_at_once
from .config import FinetuneConfig
from .networks import check_checkpoint, check_variant, create_network, preprocessing
from .training import Training
from .trial import train_pixels

_WARMUP = 3
_ROUND = 5
_SECONDS = 10.0


def measure_speed(config: FinetuneConfig, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return images per second of every variant of every network on the first data set, over all processes.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Returns:
        A row for each network and variant: `model`, `variant`, `loading`, `training` (on one batch, again and again)
        and `both`.
    """
    networks = [(model, variant) for model in config.model for variant in config.variants]
    for model, variant in networks:
        check_variant(config, model, variant, images_at_once(config, accelerator))
    data = load_data(config.dataset[0], config.read_options)
    for model in config.model:
        check_checkpoint(config, model, len(data.train.class_names))
    drawn = draw(data, config.sampler, config.shots, config.seeds[0])
    rows = []
    for model, variant in networks:
        network = create_network(config, model, variant, len(data.train.class_names))
        data_config = preprocessing(config, network)
        pixels = train_pixels(config, drawn.train, data_config, config.seeds[0], config.cache_mib)
        training = Training(config, network, pixels, data_config, config.seeds[0], accelerator)
        loader = training.loader
        batch = next(iter(loader))
        rows.append(
            {
                "model": model,
                "variant": variant,
                "loading": _rate(_endless(loader), lambda *_: None, accelerator),
                "training": _rate(repeat(batch), training.update, accelerator),
                "both": _rate(_endless(loader), training.update, accelerator),
            }
        )
        accelerator.free_memory()
    return rows


def _endless(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def _rate(batches: Iterator[Any], use: Any, accelerator: Accelerator) -> float:
    """Return images per second of some seconds of taking batches and using them."""
    for number, (pixels, labels) in enumerate(islice(batches, _WARMUP), 1):
        use(pixels, labels, number)
    _wait(accelerator)
    images, start, done = 0, time.perf_counter(), False
    while not done:
        for pixels, labels in islice(batches, _ROUND):
            use(pixels, labels, 1)
            images += len(labels)
        # One process decides: one that goes on alone would wait for the others' gradients for ever.
        (done,) = broadcast_object_list([time.perf_counter() - start > _SECONDS])
    _wait(accelerator)
    return accelerator.num_processes * images / (time.perf_counter() - start)


def _wait(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
