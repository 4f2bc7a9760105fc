from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

from timm_lp.models.loading import load_network

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
    with pytest.raises(ValueError, match=r"`name` must be a registered network, .* got 'resnet17'\. timm.list_models"):
        load_network("resnet17")
    with pytest.raises(ValueError, match=r"`name` must be a folder that holds a network, got .* without config\.json"):
        load_network(str(tmp_path))
