"""Images per second of loading, beside timm's loader, of training, and of both: is the loading the bottleneck?"""

import time
from collections.abc import Iterator
from io import BytesIO
from itertools import islice, repeat
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from timm.data import ImageDataset, create_loader
from torch.utils.data import DataLoader

from ..data.decoding import ImageSet
from ..data.loading import load_data
from ..data.pixels import EpochSampler, Normalize
from ..data.sampling import draw
from .batches import images_at_once, num_workers, train_loader, whole_batch_size
from .config import FinetuneConfig
from .networks import check_checkpoint, check_variant, create_network, preprocessing
from .training import Training
from .trial import augmentations, train_pixels

_WARMUP = 3
_ROUND = 5
_SECONDS = 10.0


def measure_speed(config: FinetuneConfig, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return images per second of every variant of every network on the data set, over all processes.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Returns:
        A row for each network and variant: `model`, `variant`, `first` and `loading` (of normalized images, when none
        is decoded yet, and later), `timm` (the same of timm's loader, with as many workers), `training` (on one batch,
        again and again) and `both`; 0 where there are too few batches, or timm's loader cannot read the data set.
    """
    if len(config.dataset) > 1:
        raise ValueError(f"`dataset` must be one with --measure-loading, got {', '.join(config.dataset)}. Name one.")
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
        normalize = Normalize(data_config, config.channels_last)
        # The second goes over the images that the first has just decoded.
        first, later = (
            accelerator.prepare(train_loader(config, pixels, EpochSampler(len(pixels), config.seeds[0]), accelerator))
            for _ in range(2)
        )
        loaders = {"first": iter(first), "loading": _endless(later)}
        if theirs := _timm_loader(config, drawn.train, data_config, accelerator):
            loaders["timm"] = _endless(theirs)
        turn = _ROUND * (1 + num_workers(config, accelerator))  # workers load a few batches in the others' turns
        loading = _rates(loaders, lambda pixels, *_, normalize=normalize: normalize(pixels), accelerator, turn)
        batch = next(iter(training.loader))
        rows.append(
            {
                "model": model,
                "variant": variant,
                **{"timm": 0.0, **loading},
                **_rates({"training": repeat(batch)}, training.update, accelerator),
                **_rates({"both": _endless(training.loader)}, training.update, accelerator),
            }
        )
        accelerator.free_memory()
    return rows


class _Reader:
    """Gives timm's data set the files of images, or their bytes, with their classes."""

    def __init__(self, images: ImageSet) -> None:
        self._images, self._labels = images, images.own_labels().tolist()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> tuple[BinaryIO, int]:
        source = self._images.sources[self._images.indices[position]]
        return open(source, "rb") if isinstance(source, str) else BytesIO(source["bytes"]), self._labels[position]


def _timm_loader(
    config: FinetuneConfig, images: ImageSet, data_config: dict[str, Any], accelerator: Accelerator
) -> DataLoader | None:
    """Return timm's loader of the same images with the same augmentations; None for images that are in no file."""
    if not isinstance(images.sources[images.indices[0]], (str, dict)):
        return None
    dataset = ImageDataset("", reader=_Reader(images))
    on_gpu = accelerator.device.type == "cuda"
    loader = create_loader(
        dataset,
        data_config["input_size"],
        whole_batch_size(config, len(images), accelerator) // accelerator.num_processes,
        is_training=True,
        num_workers=num_workers(config, accelerator),
        persistent_workers=num_workers(config, accelerator) > 0,
        distributed=accelerator.num_processes > 1,
        pin_memory=on_gpu,
        device=accelerator.device,
        use_prefetcher=False,
    )
    dataset.transform = augmentations(config, data_config)
    return loader


def _endless(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def _rates(
    sources: dict[str, Iterator[Any]], use: Any, accelerator: Accelerator, turn: int = _ROUND
) -> dict[str, float]:
    """Return images per second of some seconds of taking batches and using them, by source.

    The sources take turns of so many batches.
    """
    for batches in sources.values():
        for number, (pixels, labels) in enumerate(islice(batches, _WARMUP), 1):
            use(pixels.to(accelerator.device), labels, number)
    images, seconds, done = dict.fromkeys(sources, 0), dict.fromkeys(sources, 0.0), False
    while not done:
        for name, batches in sources.items():
            _wait(accelerator)
            before, start = images[name], time.perf_counter()
            for pixels, labels in islice(batches, turn):
                use(pixels.to(accelerator.device), labels, 1)
                images[name] += len(labels)
            _wait(accelerator)
            if images[name] > before:
                seconds[name] += time.perf_counter() - start
        # One process decides: one that goes on alone would wait for the others' gradients for ever.
        (done,) = broadcast_object_list([sum(seconds.values()) > len(sources) * _SECONDS])
    return {
        name: accelerator.num_processes * images[name] / seconds[name] if seconds[name] else 0.0 for name in sources
    }


def _wait(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
