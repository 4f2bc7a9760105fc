"""Classes and functions of the user's own, by their paths."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from timm_lp import LpConv2d
from timm_lp.models import register_network
from timm_lp.models.user_networks import path_of, registered_name

from ..processes import WarmPython

PATH = "tests.user_networks:Tiny"
NAME = "tests_user_networks_Tiny"


def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def create(prefix: str = "", **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(prefix + register_network(PATH), **kwargs).eval()


def masked(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, LpConv2d)]


def test_timm_knows_it_and_its_variants() -> None:
    base, model = create(num_classes=5, width=4), create("lp2_", num_classes=5, width=4)
    assert (type(base).__name__, base.num_classes, model.num_features) == ("Tiny", 5, 256)
    assert masked(model) == ["stem", "blocks.0"]
    torch.testing.assert_close(model(images()), base(images()), rtol=1e-4, atol=1e-5)
    assert masked(create("lp2_", lp_layers=["depthwise"])) == ["blocks.0"]
    assert create("large_").stem.kernel_size == (7, 7)
    assert model.pretrained_cfg["input_size"] == (3, 16, 16)
    assert create().num_classes == 10, "its own default"


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model = create("lp8_", num_classes=3, lp_layers=["stem"])
    timm.models.save_for_hf(model, str(tmp_path / "saved"))
    loaded = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert masked(loaded) == ["stem"]
    assert torch.equal(loaded(images()), model(images()))


@pytest.mark.parametrize("prefix", ["", "lp4_", "large_"])
def test_weights_for_other_classes_start_it(prefix: str, tmp_path: Path) -> None:
    base = create(num_classes=7)
    torch.save(base.state_dict(), tmp_path / "base.pth")
    overlay = {"file": str(tmp_path / "base.pth")}
    model = create(prefix, pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay)
    features = [nn.Sequential(network.stem, nn.ReLU(), network.blocks) for network in (model, base)]
    torch.testing.assert_close(features[0](images()), features[1](images()), rtol=1e-4, atol=1e-5)
    assert model.head.weight.shape == (3, 512)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.user_networks:Nothing", "must be a class or function that can be imported, got tests.*:Nothing: Attr"),
        ("tests.no_module:Tiny", r"ModuleNotFoundError: No module named 'tests.no_module'\. Install its package"),
        ("subprocess:run", "must be a class of nn.Module, or a function that is annotated to return one, got sub"),
        ("tests.user_networks:unannotated", "annotated to return one, got tests.user_networks:unannotated"),
        ("tests.user_networks:Fixed", "must take num_classes, .* got tests.*Fixed with outputs"),
        ("tests/user_networks:Tiny", "must be a path like mypackage.nets:MyNet"),
        ("resnet18", "must be a path like mypackage.nets:MyNet, of which timm knows no resnet18"),
    ],
)
def test_what_is_no_network(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"`model` .*{message}"):
        register_network(path)


def test_names() -> None:
    assert registered_name("resnet18.a1_in1k") == "resnet18.a1_in1k"
    assert registered_name(PATH) == NAME
    assert registered_name(f"lp2_{PATH}") == f"lp2_{NAME}"
    assert path_of(f"lp16_{NAME}") == PATH
    assert path_of("resnet18") is None
    assert registered_name("tests.user_networks:tiny") == "tests_user_networks_tiny"
    assert masked(timm.create_model("lp2_tests_user_networks_tiny", num_classes=2)) == ["stem", "blocks.0"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'in_chans'"):
        timm.create_model("tests_user_networks_tiny", in_chans=1)


def test_no_configuration_has_code_imported(tmp_path: Path, python: WarmPython) -> None:
    """Anybody may have written it, so that its user must name the code."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    config = '{"architecture": "lp2_evil_Net", "built_by": "evil:Net", "num_classes": 2, "pretrained_cfg": {}}'
    (tmp_path / "config.json").write_text(config)
    code = """if True:
        import timm, timm_lp.models
        from timm_lp.trials.networks import find_networks
        for look in (lambda: timm.create_model("local-dir:."), lambda: find_networks(["."])):
            try:
                look()
            except (RuntimeError, ValueError) as error:
                print(error)
    """
    run = python("-c", code, cwd=tmp_path)
    assert "Unknown model (lp2_evil_Net)" in run.stdout
    assert "got . of 'lp2_evil_Net', which is built by evil:Net, code that timm does not have" in run.stdout
