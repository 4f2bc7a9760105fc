import random
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader

from timm_lp.experiments.data.images import UnreadableImageError
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import (
    EpochSampler,
    EvalPixels,
    Normalize,
    TrainPixels,
    eval_transform,
    train_transform,
)

from ..images import make_folder

DATA_CONFIG = resolve_data_config({"img_size": 32, "crop_pct": 1.0})


def _pixels(limit_mib: float = 10, seed: int = 1, auto_augment: str | None = None) -> TrainPixels:
    images = load_data("digits").train.subset(range(20))
    return TrainPixels(images, train_transform(DATA_CONFIG, 0.35, 0.5, auto_augment), seed, limit_mib)


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5"])
def test_an_augmentation_depends_on_seed_epoch_and_image_alone(auto_augment: str | None) -> None:
    one, other = _pixels(auto_augment=auto_augment), _pixels(0, auto_augment=auto_augment)
    for position in (3, 7, 3):
        torch.testing.assert_close(one[0, position][0], other[0, position][0], rtol=0, atol=0)
    assert not torch.equal(one[0, 3][0], one[1, 3][0])
    assert not torch.equal(one[0, 3][0], _pixels(seed=2, auto_augment=auto_augment)[0, 3][0])


@pytest.mark.parametrize("policy", ["foo", "rand-z9"])
def test_unknown_augmentations_are_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=f"`auto_augment` must be a policy of timm's .*got '{policy}': Unknown"):
        train_transform(DATA_CONFIG, 0.35, 0.5, policy)


def test_augmenting_leaves_the_generators_as_they_were() -> None:
    pixels = _pixels(auto_augment="rand-m9-mstd0.5")
    draws = []
    for touch in (False, True):
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        if touch:
            pixels[0, 0]
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


def test_workers_change_nothing() -> None:
    sampler = EpochSampler(20, seed=1)
    batches = [list(DataLoader(_pixels(), batch_size=5, sampler=sampler, num_workers=workers)) for workers in (0, 1)]
    for (pixels, labels), (others, other_labels) in zip(*batches, strict=True):
        assert torch.equal(pixels, others)
        assert torch.equal(labels, other_labels)


def test_epochs_have_orders_of_their_own() -> None:
    sampler = EpochSampler(10, seed=1)
    first = list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert sorted(position for _, position in second) == list(range(10))
    assert [position for _, position in first] != [position for _, position in second]
    assert {epoch for epoch, _ in second} == {1}
    sampler.epoch = 0
    assert list(sampler) == first


@pytest.mark.parametrize("limit_mib", [10, 0], ids=["kept", "decoded again"])
def test_the_test_sees_what_timm_gives(limit_mib: float) -> None:
    images = load_data("digits").test.subset(range(4))
    pixels = EvalPixels(images, eval_transform(DATA_CONFIG), limit_mib)
    seen = Normalize(DATA_CONFIG)(torch.stack([pixels[i][0] for i in range(4)]))
    expected = torch.stack([create_transform(**DATA_CONFIG)(images.image(i)) for i in range(4)])
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)
    assert [pixels[i][1] for i in range(4)] == list(range(4))
    channels_last = Normalize(DATA_CONFIG, channels_last=True)(torch.stack([pixels[i][0] for i in range(4)]))
    assert channels_last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("limit_mib", [10, 0], ids=["kept", "not kept"])
def test_an_unreadable_image_shows_before_the_training(tmp_path: Path, limit_mib: float) -> None:
    make_folder(tmp_path, "train", ["ant", "bee"], 70)
    make_folder(tmp_path, "test", ["ant", "bee"])
    (tmp_path / "train" / "ant" / "66.png").write_bytes(b"")
    images = load_data(str(tmp_path)).train
    with pytest.raises(UnreadableImageError, match=r"66\.png"):
        TrainPixels(images, train_transform(DATA_CONFIG, 0.35, 0.5), 1, limit_mib)
