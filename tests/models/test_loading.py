import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from timm_lp.models.loading import UnreachableError, load_network

from ..hub_export.conftest import use
from ..hub_server import serve

SMALL = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 4)}


def test_registered_networks_by_name() -> None:
    torch.manual_seed(0)
    expected = timm.create_model("lp2_resnet18", num_classes=3, **SMALL).state_dict()
    torch.manual_seed(0)
    loaded = load_network("lp2_resnet18", pretrained=False, num_classes=3, **SMALL).state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("form", ["{}", "local-dir:{}"])
def test_a_saved_network_by_its_folder(form: str, tmp_path: Path) -> None:
    network = timm.create_model("lp2_resnet18", num_classes=3, **SMALL)
    save_for_hf(network, str(tmp_path), model_args=SMALL, safe_serialization=True)
    loaded = load_network(form.format(tmp_path)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_a_folder_wins_over_a_registered_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("lp2_resnet18", num_classes=3, **SMALL)
    save_for_hf(network, str(tmp_path / "resnet18"), model_args=SMALL, safe_serialization=True)
    monkeypatch.chdir(tmp_path)
    assert load_network("resnet18").num_classes == 3


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    for name in ("resnet17", str(tmp_path)):
        with pytest.raises(ValueError, match=rf"`name` must be a registered network, .* got '{name}'\. timm"):
            load_network(name)


@pytest.mark.parametrize("name", ["resnet18", "lp2_resnet18.tv_in1k", "hf-hub:someone/cats", "hf-hub:someone/cats@v1"])
def test_without_a_network_nothing_waits(name: str, no_network: str, tmp_path: Path) -> None:
    message = f"{no_network} cannot be reached, and {tmp_path / 'empty'} does not hold the weights of {name}. Check the"
    with pytest.raises(UnreachableError, match=f"{re.escape(message)} connection, .*, or name a folder that holds a"):
        load_network(name)


def test_a_server_that_does_not_answer(no_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm_lp.models.loading._PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use(address, monkeypatch)
        with pytest.raises(UnreachableError, match=f"{address} cannot be reached"):
            load_network("resnet18")
        overlay = {"hf_hub_id": None, "url": f"{address}/cats.pth"}
        with pytest.raises(UnreachableError, match=f"{address} cannot be reached"):
            load_network("resnet18", pretrained_cfg_overlay=overlay)


def test_offline_mode_is_named(no_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="cannot be reached with HF_HUB_OFFLINE set, and"):
        load_network("resnet18")


def test_weights_at_an_address(no_network: str, tmp_path: Path) -> None:
    overlay = {"hf_hub_id": None, "url": f"{no_network}/cats.pth?a=b"}
    arguments: dict[str, Any] = {"num_classes": 3, **SMALL, "pretrained_cfg_overlay": {**overlay, "num_classes": 3}}
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    with pytest.raises(
        UnreachableError, match=f"{no_network} cannot be reached, and {re.escape(str(folder))} does not"
    ):
        load_network("resnet18", **arguments)
    folder.mkdir(parents=True)
    network = timm.create_model("resnet18", num_classes=3, **SMALL)
    torch.save(network.state_dict(), folder / "cats.pth")
    assert torch.equal(load_network("resnet18", **arguments).fc.weight, network.fc.weight)
    (folder / "cats.pth").unlink()
    with serve() as server, pytest.raises(OSError, match="404"):  # which is an answer
        load_network("resnet18", **{**arguments, "pretrained_cfg_overlay": {**overlay, "url": f"{server.url}/a.pth"}})


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", ["lp2_resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_cached_weights_need_no_network(
    name: str, weights: str, no_network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model("resnet18", num_classes=3, **SMALL)
    save_for_hf(network, str(tmp_path / "timm"), safe_serialization=weights.endswith(".safetensors"))
    arguments: dict[str, Any] = {"num_classes": 3, "pretrained_cfg_overlay": {"num_classes": 3}, **SMALL}
    arguments = {} if name.startswith("hf-hub") else arguments
    with serve() as server:
        server.seed(tmp_path / "timm", "timm/resnet18.a1_in1k")
        use(server.url, monkeypatch)
        first = load_network(name, **arguments)
    use(no_network, monkeypatch)
    if weights == "pytorch_model.bin":  # timm asks for safetensors first, and its client waits for them
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    assert torch.equal(load_network(name, **arguments).fc.weight, first.fc.weight)
