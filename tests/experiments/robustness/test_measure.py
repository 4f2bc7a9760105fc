"""What is measured once and taken over, and what is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from timm_lp.experiments.data.corruptions.images import CorruptedSet, array_part
from timm_lp.experiments.robustness import measure as measuring
from timm_lp.experiments.robustness.measure import measure
from timm_lp.experiments.robustness.networks import describe_networks
from timm_lp.trials.networks import find_networks

from .conftest import CLASSES, MakeTrial


def test_images_that_were_cropped_before_are_measured_apart(
    make_trial: MakeTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = describe_networks(find_networks([str(make_trial(tmp_path, "base", 1))]).networks)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    part = array_part(images, [0, 1, 2] * 2, list(CLASSES), 0, 6)
    tests: list[bool] = []

    def evaluate(*given: Any, **options: Any) -> dict[str, float]:
        tests.append(True)
        return original(*given, **options)

    original = measuring.evaluate
    monkeypatch.setattr(measuring, "evaluate", evaluate)
    for is_cropped, expected in ((True, 1), (True, 1), (False, 2), (False, 2)):
        corrupted = CorruptedSet("x", "", {("fog", 1): part}, list(CLASSES), 3, is_cropped)
        measure(subjects, corrupted, accelerator, tmp_path / "measured")
        assert len(tests) == expected
