"""`pretrained=True` from a real HTTP server on loopback, in a process of its own that knows nothing but timm."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from timm.models import save_for_hf
from torch import Tensor

from ..hub_server import HubServer, environment, serve
from ..processes import WarmPython
from .networks import NUM_CLASSES, create_trained, images, randomize

BASE = "timm/resnet18.a1_in1k"
OWN = "someone/lp4-resnet18"

SCRIPT = """
import json
import sys
import timm
import torch

folder = sys.argv[1]
x, own_logits = torch.load(f"{folder}/expected.pt", weights_only=True)


@torch.no_grad()
def run(name, x=x, forward="forward", **kwargs):
    model = timm.create_model(name, pretrained=True, **kwargs).eval()
    return getattr(model, forward)(x), model


def difference(actual, expected):
    return float((actual - expected).abs().max() / (expected - expected.mean(dim=0)).abs().max())


base, _ = run("resnet18.a1_in1k")
result = {}
logits, _ = run("lp16_resnet18.a1_in1k")
result["lp16"] = difference(logits, base)

gray = x[:, :1]
adapted = {"num_classes": 10, "in_chans": 1}
base, _ = run("resnet18.a1_in1k", gray, "forward_features", **adapted)
features, model = run("lp2_resnet18.a1_in1k", gray, "forward_features", **adapted)
result["adapted"] = difference(features, base)
result["adapted_shape"] = list(model(gray).shape)

logits, model = run("hf-hub:OWN")
result["own"] = difference(logits, own_logits)
result["own_architecture"] = model.pretrained_cfg["architecture"]
result["own_hub_id"] = model.pretrained_cfg["hf_hub_id"]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    base = randomize(timm.create_model("resnet18.a1_in1k"))
    own = create_trained("lp4_resnet18")
    save_for_hf(base, str(root / BASE), safe_serialization=True)
    save_for_hf(own, str(root / OWN), safe_serialization=True)
    with torch.no_grad():
        expected: tuple[Tensor, Tensor] = (images(), own(images()))
    torch.save(expected, root / "expected.pt")
    with serve(root) as server:
        yield server


@pytest.fixture(scope="module")
def result(hub: HubServer, tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    before = len(hub.requests)  # other tests ask it too
    process = python("-c", SCRIPT.replace("OWN", OWN), hub.root, cwd=home, **environment(hub, home))
    requests = [request for request in hub.requests[before:] if request.startswith("GET")]
    over_xet = r"/api/models/(.*)/xet-read-token/.*", r"/\1/resolve/main/model.safetensors"  # the Hub sees only these
    return {**json.loads(process.stdout), "downloads": sorted(re.sub(*over_xet, request) for request in requests)}


@pytest.mark.parametrize("name", ["lp16", "adapted", "own"])
def test_weights_from_the_hub_keep_what_they_compute(result: dict[str, Any], name: str) -> None:
    assert result[name] < 1e-4


def test_number_of_classes_of_hub_weights(result: dict[str, Any]) -> None:
    assert result["adapted_shape"] == [2, 10]


def test_own_repository_says_its_architecture(result: dict[str, Any], hub: HubServer) -> None:
    assert result["own_architecture"] == "lp4_resnet18"
    assert result["own_hub_id"] == OWN
    config = json.loads((hub.root / OWN / "config.json").read_text())
    assert config["architecture"] == "lp4_resnet18"
    assert config["num_classes"] == NUM_CLASSES


def test_only_the_weights_are_downloaded_and_once(result: dict[str, Any]) -> None:
    assert result["downloads"] == [
        f"GET /{OWN}/resolve/main/config.json",
        f"GET /{OWN}/resolve/main/model.safetensors",
        f"GET /{BASE}/resolve/main/model.safetensors",
    ]


def test_the_server_speaks_to_the_real_client(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    api = HfApi(endpoint=hub.url)
    info = api.model_info(BASE, revision=hub.commit(BASE))
    assert info.sha == hub.commit(BASE)
    assert {file.rfilename for file in info.siblings} == {"config.json", "model.safetensors"}
    path = api.hf_hub_download(BASE, "config.json", cache_dir=tmp_path)
    assert Path(path).read_bytes() == (hub.root / BASE / "config.json").read_bytes()
    with pytest.raises(EntryNotFoundError, match="no such file: nothing"):
        api.hf_hub_download(BASE, "nothing", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("timm/nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(BASE, revision="nothing")
