import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.utils import random_seed

from timm_lp.experiments.classification.batches import BatchAugmentation, create_criterion, num_workers

from ..networks import config

IMAGES = torch.arange(8 * 3 * 12 * 12, dtype=torch.float32).view(8, 3, 12, 12) / 1000
LABELS = torch.arange(8)


def _augmented(**settings: object) -> tuple[torch.Tensor, torch.Tensor]:
    random_seed(3)
    return BatchAugmentation(config(**settings), 10, torch.device("cpu"))(IMAGES.clone(), LABELS)


def test_nothing_is_the_usual() -> None:
    images, labels = _augmented()
    assert torch.equal(images, IMAGES)
    assert labels is LABELS


@pytest.mark.parametrize("remode", ["const", "rand", "pixel"])
def test_erasing_is_timms(remode: str) -> None:
    images, labels = _augmented(reprob=0.5, remode=remode, recount=3)
    random_seed(3)
    expected = RandomErasing(0.5, mode=remode, max_count=3, device="cpu")(IMAGES.clone())
    assert torch.equal(images, expected)
    assert not torch.equal(images, IMAGES)
    assert labels is LABELS


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)], ids=["mixup", "cutmix", "both"])
def test_mixing_is_timms(mixup: float, cutmix: float, mode: str) -> None:
    settings = {"mixup": mixup, "cutmix": cutmix, "mixup_prob": 0.9, "mixup_switch_prob": 0.3, "mixup_mode": mode}
    images, targets = _augmented(**settings, smoothing=0.2)
    random_seed(3)
    mix = Mixup(mixup, cutmix, None, 0.9, 0.3, mode, label_smoothing=0.2, num_classes=10)
    expected, expected_targets = mix(IMAGES.clone(), LABELS)
    assert torch.equal(images, expected)
    assert torch.equal(targets, expected_targets)
    assert not torch.equal(images, IMAGES)


def test_images_are_erased_before_they_are_mixed() -> None:
    images, _ = _augmented(mixup=0.8, reprob=1.0, remode="const")
    random_seed(3)
    erased = RandomErasing(1.0, mode="const", device="cpu")(IMAGES.clone())
    expected, _ = Mixup(0.8, num_classes=10)(erased, LABELS)
    assert torch.equal(images, expected)


def test_labels_are_smoothed_once() -> None:
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    for settings in ({}, {"mixup": 0.8, "mixup_prob": 0.0}, {"mixup": 1e-9}):
        chosen = config(**settings, smoothing=0.3)
        _, targets = _augmented(**settings, smoothing=0.3)
        loss = create_criterion(chosen)(logits, targets)
        expected = torch.nn.CrossEntropyLoss(label_smoothing=0.3)(logits, LABELS)
        if chosen.mixes:  # timm spreads the smoothing over all classes too
            expected = SoftTargetCrossEntropy()(logits, targets)
        torch.testing.assert_close(loss, expected)


def test_what_is_drawn_follows_the_generators() -> None:
    one, other = (_augmented(cutmix=1.0, reprob=0.5)[0] for _ in range(2))
    assert torch.equal(one, other)
    random.seed(4)
    np.random.seed(4)
    assert not torch.equal(
        one, BatchAugmentation(config(cutmix=1.0), 10, torch.device("cpu"))(IMAGES.clone(), LABELS)[0]
    )


def test_loading_processes_share_the_machines_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two machines with 8 GPUs and 64 cores each, a GPU has 8 of the cores, not 4."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    on_gpus = SimpleNamespace(device=torch.device("cuda"), num_processes=16)
    assert num_workers(config(), on_gpus) == 8
    assert num_workers(config(workers=3), on_gpus) == 3
