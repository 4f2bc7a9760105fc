import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from timm_lp.experiments.classification.evaluation import accuracies, evaluate
from timm_lp.experiments.classification.networks import create_network, preprocessing
from timm_lp.experiments.data.decoding import ImageSet
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import EvalPixels, eval_transform
from timm_lp.trials.record import DivergedError

from ..networks import TINY, config

DIGITS = load_data("digits")


def test_images_that_are_not_kept_are_tested_from_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(workers=1)
    network = create_network(chosen, "resnet18", "base", 10)
    data_config = preprocessing(chosen, network)
    kept, left = (EvalPixels(DIGITS.test, eval_transform(data_config), limit) for limit in (100, 0))
    expected = evaluate(network, kept, Accelerator(), data_config=data_config)
    decode = ImageSet.image

    def note(images: ImageSet, position: int, *_: object) -> Image.Image:
        (tmp_path / str(os.getpid())).touch()
        return decode(images, position)

    monkeypatch.setattr(ImageSet, "image", note)
    assert evaluate(network, left, Accelerator(), data_config=data_config, num_workers=1) == expected
    assert {int(path.name) for path in tmp_path.iterdir()}.isdisjoint({os.getpid()})


def test_accuracies() -> None:
    labels = np.array([0, 0, 0, 1, 3])
    assert accuracies(np.array([0, 0, 1, 1, 0]), labels, 4) == {
        "top1": 60.0,
        "mean_per_class": pytest.approx(100 * (2 / 3 + 1 + 0) / 3),
    }


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("lp2_resnet18", num_classes=10, **TINY)


@pytest.fixture(scope="module")
def pixels(network: nn.Module) -> EvalPixels:
    data_config = timm.data.resolve_model_data_config(network) | {"input_size": (3, 32, 32), "crop_pct": 1.0}
    return EvalPixels(DIGITS.test.subset(range(50)), eval_transform(data_config), 100)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 7}, {"channels_last": True}], ids=["usual", "batches", "last"])
def test_a_network_alone_is_enough(network: nn.Module, pixels: EvalPixels, settings: dict[str, int]) -> None:
    images = torch.stack([pixels[place][0] for place in range(len(pixels))]) / 255
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        predicted = network.eval()((images - mean) / std).argmax(1).numpy()
    expected = accuracies(predicted, pixels.images.own_labels(), 10)
    metrics = evaluate(network.train(), pixels, Accelerator(), **settings)
    assert metrics["top1"] == pytest.approx(expected["top1"], abs=2.01)  # give or take an image that rounding decides
    assert not network.training


def test_outputs_that_are_no_numbers_are_no_prediction(network: nn.Module, pixels: EvalPixels) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = x.new_zeros(len(x), 10)
            logits[0, 3] = float("nan")
            return logits

    with pytest.raises(DivergedError, match="the outputs on 5 of 50 test images are infinite or not a number"):
        evaluate(Broken(), pixels, Accelerator(), data_config=network.pretrained_cfg, batch_size=10)
