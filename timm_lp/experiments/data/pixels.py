"""Turn images into pixels: a seed settles each augmentation, and timm gives the preprocessing."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import AutoAugment, RandAugment
from timm.data.transforms import str_to_interp_mode
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import RandomCrop, Resize

from .decoding import MIB, DecodedImages, ImageSet

Transform = Callable[[Image.Image], Tensor]


def train_transform(
    data_config: dict[str, Any],
    *,
    crop_mode: str = "rrc",
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    auto_augment: str | None = None,
) -> Transform:
    """Return timm's augmentations up to the pixels: `uint8`, `(3, H, W)`.

    Args:
        data_config: The network's preprocessing.
        crop_mode: `"rrc"` for crops of random size and shape, or `"pad"` for crops of the whole image with a margin of
            an eighth around it, as is usual for CIFAR.
        scale: Least and largest area of a crop of random size, fractions.
        ratio: Least and largest width of it over its height.
        hflip: Probability of a horizontal flip.
        auto_augment: A policy that timm knows.

    Raises:
        ValueError: If timm does not know the policy.
    """
    try:
        transform = create_transform(
            input_size=data_config["input_size"],
            interpolation=data_config["interpolation"],
            is_training=True,
            scale=scale,
            ratio=ratio,
            hflip=hflip,
            auto_augment=auto_augment,
            color_jitter=None,  # type: ignore[arg-type] # timm leaves it out then
            use_prefetcher=True,  # timm's word for pixels that are normalized on the device
        )
    except AssertionError as error:
        raise ValueError(
            f"`auto_augment` must be a policy of timm's (as rand-m9-mstd0.5), got {auto_augment!r}: {error}"
        ) from error
    steps = transform.transforms
    for step in steps:
        if isinstance(step, (RandAugment, AutoAugment)):
            _keep_a_bit(step)
    if crop_mode == "pad":
        size = data_config["input_size"][1:]
        whole = Resize(size, interpolation=str_to_interp_mode(data_config["interpolation"]))
        steps[:1] = [whole, RandomCrop(size, padding=[size[1] // 8, size[0] // 8])]
    return transform


def _keep_a_bit(policy: RandAugment | AutoAugment) -> None:
    """Let posterizing leave a bit of each channel: large magnitudes ask for none, which Pillow refuses."""
    groups = [policy.ops] if isinstance(policy, RandAugment) else policy.policy
    for operation in (operation for group in groups for operation in group):
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(_at_least_a_bit, operation.level_fn)


def _at_least_a_bit(level_fn: Callable[..., tuple[int]], level: float, hparams: dict[str, Any]) -> tuple[int]:
    return (max(1, *level_fn(level, hparams)),)


def eval_transform(data_config: dict[str, Any]) -> Transform:
    """Return timm's preprocessing up to the pixels: `uint8`, `(3, H, W)`."""
    return create_transform(**data_config, use_prefetcher=True)


def pixels_mib(images: ImageSet, data_config: dict[str, Any]) -> float:
    """Return the size of all test images of a set as a network sees them, MiB."""
    return len(images) * math.prod(data_config["input_size"]) / MIB


def least_test_side(data_config: dict[str, Any]) -> int:
    """Return how small a JPEG's shorter side may be decoded for a test: twice what it is then scaled to, pixels."""
    return math.ceil(2 * max(data_config["input_size"][1:]) / data_config["crop_pct"])


def least_train_side(data_config: dict[str, Any], crop_mode: str, scale_min: float, ratio: Sequence[float]) -> int:
    """Return how small a JPEG's shorter side may be decoded so that no crop is enlarged for it, pixels.

    Args:
        data_config: The network's preprocessing.
        crop_mode: As of `train_transform`.
        scale_min: Least area of a crop of random size, a fraction.
        ratio: Least and largest width of it over its height.
    """
    size = max(data_config["input_size"][1:])
    return 2 * size if crop_mode == "pad" else math.ceil(size / math.sqrt(scale_min * min(ratio[0], 1 / ratio[1])))


class Normalize:
    """Makes a network's input of pixels, on the device where they are.

    Args:
        data_config: Has `mean` and `std` of the channels, fractions of the pixels' range.
        channels_last: Whether to put the channels last in memory.
    """

    def __init__(self, data_config: dict[str, Any], channels_last: bool = False) -> None:
        self._mean, self._std = (
            255 * torch.tensor(data_config[key], dtype=torch.float32).view(1, -1, 1, 1) for key in ("mean", "std")
        )
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return normalized images `(N, 3, H, W)` of `uint8` pixels."""
        self._mean, self._std = self._mean.to(pixels.device), self._std.to(pixels.device)
        return pixels.to(torch.float32).sub_(self._mean).div_(self._std).contiguous(memory_format=self._format)


class TrainPixels(Dataset):
    """Augmented training images; an augmentation depends on the seed, the epoch and the image alone.

    It is the same in every process and worker, and after an interruption. Items are asked for by epoch and position.

    Args:
        images: The images.
        transform: The augmentations.
        seed: Seed of the trial.
        limit_mib: Decoded images are kept up to this size, MiB.
        least_side: As of `DecodedImages`.
    """

    def __init__(
        self, images: ImageSet, transform: Transform, seed: int, limit_mib: float, least_side: int | None = None
    ) -> None:
        self._images, self._transform, self._seed = images, transform, seed
        self._labels = images.own_labels()
        self._decoded = DecodedImages(images, limit_mib, least_side=least_side)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def num_classes(self) -> int:
        """Number of classes, whether they have images or not."""
        return len(self._images.class_names)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[int, int]]) -> list[tuple[Tensor, int]]:
        """Return a batch; a `DataLoader` asks for it so."""
        decoded = self._decoded.several([position for _, position in items])
        with _generators_kept():
            return [self._augmented(image, *item) for image, item in zip(decoded, items, strict=True)]

    def _augmented(self, image: Image.Image, epoch: int, position: int) -> tuple[Tensor, int]:
        _seed_generators(self._seed, epoch, int(self._images.indices[position]))
        return self._transform(image), int(self._labels[position])


class EvalPixels(Dataset):
    """Test images as the network sees them but for the normalization, each with its position.

    Args:
        images: The images.
        transform: The preprocessing.
        limit_mib: Pixels are kept up to this size, MiB.
        least_side: As of `DecodedImages`.
    """

    def __init__(self, images: ImageSet, transform: Transform, limit_mib: float, least_side: int | None = None) -> None:
        self.images = images
        self._pixels = DecodedImages(images, limit_mib, transform, least_side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self._pixels[position], position

    def __getitems__(self, positions: list[int]) -> list[tuple[Tensor, int]]:
        """Return a batch; a `DataLoader` asks for it so."""
        return list(zip(self._pixels.several(positions), positions, strict=True))


class EpochSampler(Sampler[tuple[int, int]]):
    """Every image once, in an order that depends on the seed and the epoch alone.

    Args:
        num_images: How many there are.
        seed: Seed of the trial.

    Attributes:
        epoch: The epoch of the next pass.
        start: How many images of that epoch are left out, since they were seen before a restart.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        self.num_images, self.seed, self.epoch, self.start = num_images, seed, 0, 0

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_images)
        return iter([(self.epoch, int(position)) for position in order[self.start :]])


def _seed_generators(*seeds: int) -> None:
    """Seed all generators that timm's transforms use."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leave the generators as they were."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
