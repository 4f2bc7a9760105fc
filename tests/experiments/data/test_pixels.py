import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.data.auto_augment import AutoAugment, RandAugment
from torch.utils.data import DataLoader

from timm_lp.experiments.data.decoding import DecodedImages, ImageSet, UnreadableImageError
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import (
    EpochSampler,
    EvalPixels,
    Normalize,
    TrainPixels,
    eval_transform,
    least_test_side,
    least_train_side,
    train_transform,
)

from ..images import make_folder

DATA_CONFIG = resolve_data_config({"img_size": 32, "crop_pct": 1.0})


def _pixels(limit_mib: float = 10, seed: int = 1, auto_augment: str | None = None) -> TrainPixels:
    images = load_data("digits").train.subset(range(20))
    return TrainPixels(images, train_transform(DATA_CONFIG, auto_augment=auto_augment), seed, limit_mib)


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
        train_transform(DATA_CONFIG, auto_augment=policy)


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


def test_an_unreadable_image_shows_when_it_is_met_or_where_it_is_known(tmp_path: Path) -> None:
    for split in ("train", "test"):
        make_folder(tmp_path, split, ["ant", "bee"])
    (tmp_path / "train" / "ant" / "1.png").write_bytes(b"")
    data = load_data(str(tmp_path))
    pixels = TrainPixels(data.train, train_transform(DATA_CONFIG), 1, 0)
    for items in ([(0, 1)], [(0, 0), (0, 1), (0, 2), (0, 3)]):
        with pytest.raises(UnreadableImageError, match=r"image 1 \(.*1\.png\) cannot be read"):
            pixels.__getitems__(items)
    known = data.checked(range(4)).train
    with pytest.raises(UnreadableImageError, match=r"image 1 \(.*1\.png\) cannot be read"):
        TrainPixels(known, train_transform(DATA_CONFIG), 1, 0)


def test_the_whole_image_with_a_margin() -> None:
    """A margin of an eighth, black, of which up to all is seen at one side; the rest is the image as it is."""
    transform = train_transform(DATA_CONFIG, crop_mode="pad", hflip=0.0)
    image = Image.fromarray(np.full((32, 32, 3), 200, dtype=np.uint8))
    seen = set()
    torch.manual_seed(0)
    for _ in range(200):
        black = (np.asarray(transform(image)) == 0).all(axis=0)
        rows, columns = black.all(axis=1).sum(), black.all(axis=0).sum()
        assert black.sum() == 32 * 32 - (32 - rows) * (32 - columns)
        seen |= {int(rows), int(columns)}
    assert seen == {0, 1, 2, 3, 4}


def test_images_of_other_sizes_are_scaled_before_the_margin() -> None:
    transform = train_transform(DATA_CONFIG, crop_mode="pad", hflip=0.0)
    assert transform(Image.new("RGB", (100, 50), "white")).shape == (3, 32, 32)


@pytest.mark.parametrize("policy", ["rand-m10-mstd0-inc1", "rand-m9-mstd0.5-inc1", "original", "originalr"])
def test_every_magnitude_leaves_an_image(policy: str) -> None:
    """Pillow refuses to keep none of a channel's bits, which the largest magnitude of posterizing asks for."""
    random.seed(0)
    transform = train_transform(DATA_CONFIG, auto_augment=policy)
    (augment,) = [step for step in transform.transforms if isinstance(step, (RandAugment, AutoAugment))]
    groups = [augment.ops] if isinstance(augment, RandAugment) else augment.policy
    found = [operation for group in groups for operation in group if operation.name.startswith("Posterize")]
    assert found
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for operation in found:
        operation.prob, operation.magnitude = 1.0, 10
        assert len(np.unique(np.asarray(operation(image)))) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_kept_stays_within_its_limit_and_workers_share_it(workers: int) -> None:
    """An image of 8x8 pixels takes 192 bytes: 7 of 20 fit."""
    images, decoded = load_data("digits").train.subset(range(20)), []
    expected = [np.asarray(images.image(position)) for position in range(20)]
    kept = DecodedImages(images, 7.5 * 192 / 2**20)

    class Positions(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, position: int) -> torch.Tensor:
            return torch.from_numpy(np.array(kept[position]))

    for _ in range(2):
        loader = DataLoader(Positions(), batch_size=4, num_workers=workers)
        decoded.append([np.asarray(item) for batch in loader for item in batch])
    assert [np.array_equal(one, other) for one, other in zip(decoded[0] + decoded[1], 2 * expected, strict=True)] == [
        True
    ] * 40
    assert sum(kept._kept.get(position) is not None for position in range(20)) == 7
    assert kept._kept.room == 96


@pytest.mark.exhaustive
def test_a_batch_of_photographs_takes_the_memory_of_a_few() -> None:
    """A peak of 32 photographs of 4 megapixels, decoded at once, is 512 MiB; each thread has one and one waits."""
    script = """
import resource, sys
import numpy as np, torch
from PIL import Image
from io import BytesIO
from timm_lp.experiments.data.decoding import ImageSet
from timm_lp.experiments.data.pixels import EvalPixels, TrainPixels, eval_transform, train_transform

buffer = BytesIO()
Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(buffer, "JPEG")
images = ImageSet([{"bytes": buffer.getvalue()}] * 32, [0] * 32, ["ant"], range(32))
config = {"input_size": (3, 32, 32), "interpolation": "bicubic", "crop_pct": 1.0, "mean": (0,) * 3, "std": (1,) * 3}
torch.set_num_threads(2)
train, test = TrainPixels(images, train_transform(config), 1, 0), EvalPixels(images, eval_transform(config), 0)
train[0, 0], test[0]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
train.__getitems__([(0, position) for position in range(32)])
test.__getitems__(list(range(32)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 200


@pytest.mark.parametrize(("scale_min", "sides"), [(0.08, (1000, 750)), (1.0, (500, 375))])
def test_a_draft_keeps_enough_pixels_for_each_crop(scale_min: float, sides: tuple[int, int]) -> None:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((4000, 3000)).save(buffer, "JPEG")
    images = ImageSet([{"bytes": buffer.getvalue()}], [0], ["ant"], [0])
    config = {"input_size": (3, 160, 160), "crop_pct": 0.875}
    least = least_train_side(config, "rrc", scale_min, (3 / 4, 4 / 3))
    assert images.image(0, least).size == sides
    assert min(sides) ** 2 * scale_min * 3 / 4 >= 160**2
    assert images.image(0, least_train_side(config, "pad", 1.0, (1, 1))).size == (500, 375)
    assert images.image(0, least_test_side(config)).size == (500, 375)
    assert images.image(0).size == (4000, 3000)
