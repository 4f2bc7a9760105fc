"""Published networks through timm, transformers and segmentation_models_pytorch, without importing us."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from hub_export import stage
from timm_lp import lp_convert

from ..hub_server import HubServer, environment, serve
from ..models.networks import create
from ..processes import WarmPython
from .conftest import LABELS

# Each repository is seeded with a staged folder, as a push would leave it.
LP, MERGED, BY_HAND = "alice/lp2-resnet18", "alice/lp2-resnet18-merged", "alice/converted"


@pytest.fixture(scope="module")
def root(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    stage(network, root / LP, label_names=LABELS)
    stage(network, root / MERGED, label_names=LABELS, merged=True)
    by_hand = lp_convert(create("resnet18"), p_init=2)
    by_hand.load_state_dict(network.state_dict())
    by_hand.pretrained_cfg["input_size"] = (3, 64, 64)
    stage(network, root / BY_HAND, label_names=LABELS)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.save((x, network(x)), root / "expected.pt")
    Image.new("RGB", (80, 60), (200, 30, 90)).save(root / "image.png")
    return root


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[HubServer]:
    with serve(root) as server:
        yield server


SCRIPT = """
import json
import sys
from importlib.util import find_spec

import timm
import torch

root, *repositories = sys.argv[1:]
x, expected = torch.load(f"{root}/expected.pt", weights_only=True)
result = {}


def error(logits):
    return float((logits.detach() - expected).abs().max() / expected.abs().max())


for name in repositories:
    model = timm.create_model(f"hf-hub:{name}", pretrained=True).eval()
    masks = sum(type(module).__name__ == "LpConv2d" for module in model.modules())
    names = list(model.pretrained_cfg["label_names"])
    result[name] = {"error": error(model(x)), "masks": masks, "labels": names}

if find_spec("transformers"):
    from transformers import AutoImageProcessor, AutoModelForImageClassification, TimmWrapperConfig, pipeline

    config = TimmWrapperConfig(architecture="lp2_test_efficientnet", num_labels=7)
    model = AutoModelForImageClassification.from_config(config).eval()
    masks = sum(type(module).__name__ == "LpConv2d" for module in model.modules())
    result["named"] = {"shape": list(model(x).logits.shape), "masks": masks}
    for name in repositories[:3]:
        model = AutoModelForImageClassification.from_pretrained(name).eval()
        size = AutoImageProcessor.from_pretrained(name)(x[0], return_tensors="pt")["pixel_values"].shape
        answers = pipeline("image-classification", model=name, top_k=7)(f"{root}/image.png")
        labels = [model.config.id2label[i] for i in range(7)]
        found = sorted(answer["label"] for answer in answers)
        read = {"error": error(model(x).logits), "labels": labels, "answers": found, "size": list(size)}
        result[f"transformers {name}"] = read

if find_spec("segmentation_models_pytorch"):
    import segmentation_models_pytorch as smp

    for kind in (smp.Unet, smp.DeepLabV3Plus):
        channels = (16, 8, 8, 8, 8) if kind is smp.Unet else 16
        model = kind("tu-lp2_resnet18", encoder_weights=None, classes=3, decoder_channels=channels)
        logits = model(x)
        logits.sum().backward()
        masks = [parameter for name, parameter in model.named_parameters() if name.endswith("log2p")]
        stem = model.encoder.model.conv1.log2p  # timm's residual branches start at zero, and get no gradient yet
        trained = all(parameter.grad is not None for parameter in masks) and bool(stem.grad.all())
        result[kind.__name__] = {"shape": list(logits.shape), "masks": len(masks), "trained": trained}
    model = smp.Unet("tu-lp4_regnety_002", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8)).eval()
    result["any"] = {"shape": list(model(x).shape), "p": model.encoder.model.stem.conv.p_init}

print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def result(hub: HubServer, tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    repositories = [LP, MERGED, BY_HAND, f"{LP}@{hub.commit(LP)}"]
    process = python("-c", SCRIPT, hub.root, *repositories, cwd=home, **environment(hub, home))
    return json.loads(process.stdout.splitlines()[-1])


def test_timm_loads_it_at_a_pinned_commit_too(result: dict[str, Any], hub: HubServer) -> None:
    for name, masks in ((LP, 13), (f"{LP}@{hub.commit(LP)}", 13), (BY_HAND, 13), (MERGED, 0)):
        assert result[name]["error"] < 1e-5
        assert result[name]["masks"] == masks
        assert result[name]["labels"] == LABELS


@pytest.mark.parametrize("name", [LP, MERGED, BY_HAND])
def test_transformers_loads_it(result: dict[str, Any], name: str) -> None:
    pytest.importorskip("transformers")
    loaded = result[f"transformers {name}"]
    assert loaded["error"] < 1e-5
    assert loaded["labels"] == loaded["answers"] == LABELS
    assert loaded["size"] == [1, 3, 64, 64]


def test_transformers_builds_a_variant_of_any_network(result: dict[str, Any]) -> None:
    pytest.importorskip("transformers")
    assert result["named"] == {"shape": [2, 7], "masks": 13}


def test_segmentation_takes_a_variant_of_any_network(result: dict[str, Any]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    assert result["any"] == {"shape": [2, 1, 64, 64], "p": 4}


@pytest.mark.parametrize("kind", ["Unet", "DeepLabV3Plus"])
def test_segmentation_trains_our_backbones(result: dict[str, Any], kind: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    assert result[kind] == {"shape": [2, 3, 64, 64], "masks": 20, "trained": True}
