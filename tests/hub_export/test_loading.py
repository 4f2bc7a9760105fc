"""Published networks through timm, transformers and segmentation_models_pytorch, without importing us."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from hub_export import stage

from ..hub_server import HubServer, environment, serve
from .conftest import LABELS

# Each repository is seeded with a staged folder, as a push would leave it.
LP, MERGED = "alice/lp2-resnet18", "alice/lp2-resnet18-merged"


@pytest.fixture(scope="module")
def root(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    stage(network, root / LP, label_names=LABELS)
    stage(network, root / MERGED, label_names=LABELS, merged=True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.save((x, network(x)), root / "expected.pt")
    Image.new("RGB", (80, 60), (200, 30, 90)).save(root / "image.png")
    return root


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[HubServer]:
    with serve(root) as server:
        yield server


def run(script: str, hub: HubServer, home: Path, *arguments: str) -> dict[str, Any]:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(hub.root), *arguments],
        cwd=home,
        env={**os.environ, **environment(hub, home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


PREPARE = """
import json
import sys
import torch

root, *repositories = sys.argv[1:]
x, expected = torch.load(f"{root}/expected.pt", weights_only=True)


def error(logits):
    return float((logits.detach() - expected).abs().max() / expected.abs().max())

"""

TIMM = """
import timm

result = {}
for name in repositories:
    model = timm.create_model(f"hf-hub:{name}", pretrained=True).eval()
    masks = sum(type(module).__name__ == "LpConv2d" for module in model.modules())
    names = list(model.pretrained_cfg["label_names"])
    result[name] = {"error": error(model(x)), "masks": masks, "labels": names}
print(json.dumps(result))
"""

TRANSFORMERS = """
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

result = {}
for name in repositories:
    model = AutoModelForImageClassification.from_pretrained(name).eval()
    size = AutoImageProcessor.from_pretrained(name)(x[0], return_tensors="pt")["pixel_values"].shape
    answers = pipeline("image-classification", model=name, top_k=7)(f"{root}/image.png")
    labels = [model.config.id2label[i] for i in range(7)]
    found = sorted(answer["label"] for answer in answers)
    result[name] = {"error": error(model(x).logits), "labels": labels, "answers": found, "size": list(size)}
print(json.dumps(result))
"""

SEGMENTATION = """
import segmentation_models_pytorch as smp

result = {}
for kind in (smp.Unet, smp.DeepLabV3Plus):
    channels = (16, 8, 8, 8, 8) if kind is smp.Unet else 16
    model = kind("tu-lp2_resnet18", encoder_weights=None, classes=3, decoder_channels=channels)
    result[kind.__name__] = list(model.eval()(x[:1]).shape)
    model(x).sum().backward()
    result[f"{kind.__name__}_masks"] = all(
        parameter.grad is not None for name, parameter in model.named_parameters() if name.endswith("log2p")
    )
print(json.dumps(result))
"""


def test_timm_loads_it_at_a_pinned_commit(hub: HubServer, tmp_path: Path) -> None:
    pinned = f"{LP}@{hub.commit(LP)}"
    result = run(PREPARE + TIMM, hub, tmp_path, LP, pinned, MERGED)
    for name, masks in ((LP, 13), (pinned, 13), (MERGED, 0)):
        assert result[name]["error"] < 1e-5
        assert result[name]["masks"] == masks
        assert result[name]["labels"] == LABELS


def test_transformers_loads_it(hub: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    result = run(PREPARE + TRANSFORMERS, hub, tmp_path, LP, MERGED)
    for name in (LP, MERGED):
        assert result[name]["error"] < 1e-5
        assert result[name]["labels"] == result[name]["answers"] == LABELS
        assert result[name]["size"] == [1, 3, 64, 64]


def test_segmentation_uses_our_backbones(hub: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    result = run(PREPARE + SEGMENTATION, hub, tmp_path)
    assert result["Unet"] == result["DeepLabV3Plus"] == [1, 3, 64, 64]
    assert result["Unet_masks"]
    assert result["DeepLabV3Plus_masks"]
