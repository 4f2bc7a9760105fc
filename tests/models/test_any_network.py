"""Variants of any network of timm by name: created, with features, saved, loaded, merged, looked at.

Ten run with all tests; `pytest -m families` runs the smallest network of every family of timm.
"""

import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import build_model_with_cfg
from torch import Tensor, nn
from torch.nn.utils import prune

from timm_lp import LpConv2d, lp_convert, lp_merge
from timm_lp.masks.statistics import layer_masks, summarize
from timm_lp.models import lp_models

from ..networks import assert_unchanged, randomize, snapshot
from ..processes import WarmPython
from ..test_timm_families import NETWORKS, OTHER_SIZES, SIZE, SMALLER, STANDARDIZED

SOME = (
    *("test_byobnet", "test_convnext", "dla46x_c", "test_efficientnet", "test_mambaout", "test_coatnet"),
    *("mobilenetv3_small_050", "test_resnet", "starnet_s050", STANDARDIZED),
)
PATCHES = "whose only convolutions cut images into patches"
REFUSED = {  # and what is said of it; every other network of the walk has variants
    **dict.fromkeys(["beit_base_patch16_224", "cait_xxs24_224", "convit_tiny", "crossvit_tiny_240"], PATCHES),
    **dict.fromkeys(["deepseek_vit_412m", "deit_tiny_patch16_224", "gmlp_ti16_224", "qwen3_vit_88m"], PATCHES),
    **dict.fromkeys(["samvit_base_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224"], PATCHES),
    **dict.fromkeys(["swinv2_tiny_window8_256", "test_vit", "test_vit_relpos"], PATCHES),
    "vit_tiny_patch16_dinov3_qkvb": PATCHES,
    STANDARDIZED: "Left alone since it has a forward of its own: stem.conv1, ",
}
COLOUR = ("csatv2",)  # timm warns of one channel
SMALL_ERROR = 1e-3  # of the largest output, in float32
CREATE = "import timm, torch; model = timm.create_model('local-dir:{folder}', pretrained=True).eval();"


@torch.no_grad()
def error(outputs: Any, expected: Any) -> float:
    """Return the largest difference of outputs, relative to the largest that is expected."""
    if isinstance(outputs, Tensor):
        return ((outputs - expected).abs().max() / expected.abs().max().clamp_min(1e-3)).item()  # heads may start at 0
    assert len(outputs) == len(expected)
    return max(map(error, outputs, expected))


def create(name: str, base: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **SMALLER.get(base, {}), **kwargs).eval()


def images_for(model: nn.Module, name: str, in_chans: int = 3) -> Tensor:
    config: Any = model.pretrained_cfg
    size = config["input_size"][1:] if config.get("fixed_input_size") else [OTHER_SIZES.get(name, SIZE)] * 2
    return torch.randn(2, in_chans, *size)


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.families) for name in NETWORKS]
)
@torch.no_grad()
def test_a_variant_by_its_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert timm.is_model(f"lp2_{name}")
    if name in REFUSED:
        with pytest.raises(ValueError, match=re.escape(REFUSED[name])):
            create(f"lp2_{name}", name)
        return
    base = create(name, name, num_classes=10)
    images = images_for(base, name)
    expected = base(images)
    del base  # some have gigabytes of weights
    model = create(f"lp2_{name}", name, num_classes=10)
    assert any(isinstance(module, LpConv2d) for module in model.modules())
    assert error(model(images), expected) < SMALL_ERROR  # preserved

    assert summarize(layer_masks(model)[:1]).p_median == 2
    expected = randomize(model)(images)
    timm.models.save_for_hf(model, str(tmp_path))
    assert torch.equal(load(tmp_path)(images), expected)
    model = lp_merge(model)
    assert not any(isinstance(module, LpConv2d) for module in model.modules())
    assert error(model(images), expected) < SMALL_ERROR
    expected = model(images)
    timm.models.save_for_hf(model, str(tmp_path))
    del model
    assert error(load(tmp_path)(images), expected) < SMALL_ERROR
    assert not [message for message in caplog.messages if "cannot build" in message]


def load(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.families) for name in NETWORKS]
)
@torch.no_grad()
def test_its_features_are_those_of_the_network(name: str) -> None:
    if name in REFUSED:
        pytest.skip("it has no variants")
    in_chans = 3 if name in COLOUR else 1
    arguments: dict[str, Any] = {"features_only": True, "in_chans": in_chans}
    base = create(name, name, **arguments)
    model = create(f"lp2_{name}", name, **arguments)
    assert type(model) is type(base)
    assert model.feature_info.channels() == base.feature_info.channels()
    assert model.feature_info.reduction() == base.feature_info.reduction()
    images = images_for(base, name, in_chans)
    assert error(model(images), base(images)) < SMALL_ERROR
    last = create(f"lp2_{name}", name, out_indices=base.feature_info.out_indices[-1:], **arguments)
    assert error(last(images)[0], base(images)[-1]) < SMALL_ERROR


CONVERSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "all options": ("mobilenetv3_small_050", {"p_init": 4.0, "trainable_mask": False, "preserve": False}),
    "large, some layers": ("test_resnet", {"masked": False, "filter_fn": lambda module, fqn: "layer1" in fqn}),
    "kernels of their size": ("test_efficientnet", {"kernel_scale": 1}),
    "a small stem": ("resnet18_small_stem", {"p_init": 16.0}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, nn.Module]]:
    """Networks that were converted by hand, merged ones among them, and where timm saved them."""
    folder, networks = tmp_path_factory.mktemp("saved"), {}
    for kind, (name, arguments) in CONVERSIONS.items():
        base = randomize(timm.create_model(name, num_classes=5, in_chans=1))
        networks[kind] = lp_convert(base, **arguments).eval()
    networks["merged"] = lp_merge(networks["all options"])
    networks["cropped"] = lp_merge(networks["a small stem"], crop=True)
    for number, network in enumerate(networks.values()):
        timm.models.save_for_hf(network, str(folder / str(number)))
    return {kind: (folder / str(number), network) for number, (kind, network) in enumerate(networks.items())}


def test_what_is_converted_by_hand_loads_where_nobody_imports_this_package(
    saved: dict[str, tuple[Path, nn.Module]], tmp_path: Path, python: WarmPython
) -> None:
    images = torch.randn(2, 1, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    code = [f"import torch; images = torch.load({str(tmp_path / 'images.pt')!r})"]
    for kind, (folder, _) in saved.items():
        code.append(CREATE.format(folder=folder) + f"torch.save(model(images).detach(), {str(tmp_path / kind)!r})")
        code.append(f"print(sum(not parameter.requires_grad for parameter in model.parameters()), {kind!r})")
    run = python("-c", "\n".join(code), cwd=tmp_path)
    for kind, (_, network) in saved.items():
        assert error(torch.load(tmp_path / kind), network(images)) < 1e-6, kind
        frozen = sum(not parameter.requires_grad for parameter in network.parameters())
        assert f"{frozen} {kind}" in run.stdout


@torch.no_grad()
def test_some_layers_by_their_names(tmp_path: Path) -> None:
    base = randomize(timm.create_model("test_resnet", num_classes=5)).eval()
    torch.save(base.state_dict(), tmp_path / "base.pth")
    images = torch.randn(2, 3, 64, 64)
    for number, (name, layers) in enumerate({"lp2": ["layer1", "*.conv1"], "large": ["layer1.0.conv2"]}.items()):
        overlay = {"file": str(tmp_path / "base.pth"), "num_classes": 5}
        arguments: dict[str, Any] = {"num_classes": 5, "pretrained_cfg_overlay": overlay, "lp_layers": layers}
        model = timm.create_model(f"{name}_test_resnet", pretrained=True, **arguments).eval()
        assert error(model(images), base(images)) < SMALL_ERROR
        sizes = {fqn: conv.weight.shape for fqn, conv in base.named_modules() if isinstance(conv, nn.Conv2d)}
        grown = [fqn for fqn in sizes if model.get_submodule(fqn).weight.shape != sizes[fqn]]
        expected = [fqn for fqn in sizes if fqn.startswith("layer1.") or fqn.endswith(".conv1")]
        assert grown == (expected if name == "lp2" else layers)
        timm.models.save_for_hf(randomize(model), str(tmp_path / str(number)))
        loaded = timm.create_model(f"local-dir:{tmp_path / str(number)}", pretrained=True).eval()
        assert torch.equal(loaded(images), model(images))
    for taken in ({"conversion": NOTE}, {"lp_layers": ["nowhere"]}):
        with pytest.raises((TypeError, ValueError), match=r"`lp_layers` must (not be given to lp_test|name conv)"):
            timm.create_model("lp_test_resnet", **{"lp_layers": ["layer1"], **taken})


def test_the_note_is_plain_data(saved: dict[str, tuple[Path, nn.Module]]) -> None:
    config = json.loads((saved["large, some layers"][0] / "config.json").read_text())
    assert config["architecture"] == "large_test_resnet"
    modules = timm.create_model("test_resnet").named_modules()
    layers = [fqn for fqn, module in modules if isinstance(module, nn.Conv2d) and "layer1" in fqn]
    assert config["model_args"]["conversion"] == {"layers": layers, "masked": False, "kernel_scale": 2}
    cropped = json.loads((saved["cropped"][0] / "config.json").read_text())["model_args"]["cropped"]
    assert cropped["layer4.0.conv2"] == [3, 3]


MASKED = {"masked": True, "p_init": 2.0, "trainable_mask": True, "preserve": True}
NOTE = {"layers": ["conv1.0"], "kernel_scale": 2, **MASKED}


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ({**NOTE, "shape": "round"}, "got one with other ['shape']. If a newer version of timm-lp wrote it"),
        ({"masked": True}, "preserve, trainable_mask, got one with other ['kernel_scale', 'layers', "),
        ({"layers": ["conv1.0"], "masked": False, "kernel_scale": 2, "p_init": 2}, "got one with other ['p_init']"),
        ("lp2", "`conversion` must be a note of lp_convert with kernel_scale, layers, masked, got 'lp2'"),
        ({**NOTE, "layers": []}, "must name the converted layers, got []"),
        ({**NOTE, "layers": "conv1.0"}, "must name the converted layers, got 'conv1.0'"),
        ({**NOTE, "layers": ["conv1.0", ["conv1.0"]]}, "must name the converted layers, got ['conv1.0', ['conv1.0']]"),
        ({**NOTE, "layers": ["conv1.0", "conv_stem"]}, "must name convolutions of ResNet, got 'conv_stem': it is none"),
        ({**NOTE, "layers": ["x" * 10**6]}, "got 'xxxxxxxxxxxx...xxxxxxxxxxxxx': it is none. Build the network as it"),
        ({**NOTE, "layers": ["fc"]}, "got 'fc': it is none"),
        ({**NOTE, "masked": "false"}, "must have true or false as 'masked', got 'false'"),
        ({**NOTE, "trainable_mask": 2}, "must have true or false as 'trainable_mask', got 2"),
        ({**NOTE, "preserve": None}, "must have true or false as 'preserve', got None"),
        ({**NOTE, "kernel_scale": 10**9}, "`kernel_scale` must be 1 or 2, got 1000000000"),
        ({**NOTE, "kernel_scale": "2"}, "`kernel_scale` must be 1 or 2, got '2'"),
        *(
            ({**NOTE, "p_init": p_init}, f"`p_init` must be a finite number >= 1, got {got}")
            for p_init, got in [(0.5, "0.5"), ("16", "'16'"), (1e39, "1e+39"), (10**400, "1000000000")]
        ),
    ],
)
def test_a_note_that_does_not_fit_is_refused(note: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        timm.create_model("lp_test_resnet", conversion=note)
    model = timm.create_model("test_resnet")
    before = snapshot(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        lp_convert(model, conversion=note)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"merged": "yes"}, "`merged` must be true or false, got 'yes'"),
        ({"cropped": {"conv1.0": [3, 3]}}, "got {'conv1.0': [3, 3]}, and it is not merged"),
        *(
            ({"merged": True, "cropped": cropped}, "`cropped` must be the two sides, pixels, of kernels of a merged ")
            for cropped in ("conv1.0", {"conv1.0": 3}, {"conv1.0": [3]}, {"conv1.0": ["3", "3"]})
        ),
        ({"merged": True, "cropped": {"fc": [3, 3]}}, "`cropped` must name convolutions of ResNet, got 'fc'"),
        *(
            ({"merged": True, "cropped": {"conv1.0": side}}, "must be smaller than (7, 7) by an even number of pixels")
            for side in ([10**9, 10**9], [2, 2], [-1, 1])
        ),
    ],
)
def test_a_merge_that_is_none_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        timm.create_model("lp_test_resnet", conversion=NOTE, **arguments)


def test_a_layer_that_cannot_be_converted_any_more() -> None:
    model = timm.create_model("test_resnet")
    prune.l1_unstructured(model.conv1[0], "weight", 0.5)
    with pytest.raises(ValueError, match=r"got 'conv1\.0': it has hooks\. Build the network as it was then"):
        lp_convert(model, conversion=NOTE)


def test_a_note_fixes_the_options() -> None:
    with pytest.raises(TypeError, match="`p_init` must not be given to lp_test_resnet"):
        timm.create_model("lp_test_resnet", conversion=NOTE, p_init=4)
    for name in ("lp2_test_resnet", "large_test_resnet"):
        with pytest.raises(ValueError, match=f"the network that it is of, lp_test_resnet, got {name}"):
            timm.create_model(name, conversion=NOTE)


def test_names_that_are_none() -> None:
    deprecated = "lp2_tv_resnet34"
    for name in ("lp2_resnet17", "lp3_resnet18d", "lp2_lp2_resnet18d", "lp2_large_resnet18", "large_", deprecated):
        assert not timm.is_model(name)
        assert not hasattr(lp_models, name)
        with pytest.raises(RuntimeError, match="Unknown model"):
            timm.create_model(name)
    with pytest.raises(RuntimeError, match=r"Invalid pretrained tag \(nope\)"):
        timm.create_model("lp2_resnet18d.nope")


# Imports timm and nothing of this package, in a loader's worker started anew too.
ELSEWHERE = """
import warnings; warnings.simplefilter("error")
import timm
from torch.utils.data import DataLoader, Dataset

class Parameters(Dataset):
    def __init__(self):
        self.entries = [timm.model_entrypoint("lp16_test_efficientnet"), timm.create_model]

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        model = self.entries[index](*["large_test_byobnet"] * index)
        return sum(parameter.numel() for parameter in model.parameters())

if __name__ == "__main__":
    before = timm.list_models()
    for name in ("lp2_resnet18d", "lp4_regnety_002.pycls_in1k"):
        assert timm.get_pretrained_cfg(name).hf_hub_id.endswith(name.partition("_")[2].partition(".")[0] + "." + (
            name.partition(".")[2] or "ra2_in1k")), name
    assert timm.is_model("large_mobilenetv3_small_050")
    assert timm.models.is_model_pretrained("lp8_regnety_004") and not timm.models.is_model_pretrained("lp8_regnet")
    asked = {"lp2_resnet18d", "lp4_regnety_002", "large_mobilenetv3_small_050", "lp8_regnety_004"}
    assert {*timm.list_models()} - {*before} == asked
    assert timm.list_models("lp*_regnety*") == ["lp4_regnety_002", "lp8_regnety_004"]
    assert "lp4_regnety_002.pycls_in1k" in timm.list_pretrained("lp4_*")
    assert timm.get_pretrained_cfg("lp2_resnet18d", allow_unregistered=False).tag == "ra2_in1k"

    here = Parameters()
    assert [*DataLoader(here, num_workers=1, batch_size=None, multiprocessing_context="spawn")] == [here[0], here[1]]
"""


def test_the_registry_of_a_process_that_does_not_import_this_package(tmp_path: Path, python: WarmPython) -> None:
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    python("elsewhere.py", cwd=tmp_path)


def through_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_file])
@torch.no_grad()
def test_copies(copied: Callable[[nn.Module], nn.Module]) -> None:
    model = randomize(timm.create_model("lp2_test_efficientnet"))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(copied(model)(images), model(images))
    assert copied(model).no_weight_decay() == model.no_weight_decay()


def test_a_network_that_is_not_of_timm(tmp_path: Path) -> None:
    model = lp_convert(OfTheUser(), p_init=4, trainable_mask=False)
    torch.save({"conversion": model.lp_conversion, "weights": randomize(model).state_dict()}, tmp_path / "network.pt")
    saved = torch.load(tmp_path / "network.pt")
    loaded = lp_convert(OfTheUser(), conversion=saved["conversion"])
    loaded.load_state_dict(saved["weights"])
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(images), model(images))
    with pytest.raises(ValueError, match="must name convolutions of Linear, got '0': it is none"):
        lp_convert(nn.Linear(2, 2), conversion=saved["conversion"])


class OfTheUser(nn.Sequential):
    """A network that does without timm's builder."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def own_network(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
    return OfTheUser()


def test_a_network_that_the_user_registered() -> None:
    name = timm.models.register_model(own_network).__name__
    model = timm.create_model(f"lp8_{name}")
    assert isinstance(model[0], LpConv2d)
    assert model[0].kernel_size == (7, 7)
    assert model[0].p_init == 8


class OfTimmsKind(nn.Module):
    """A network that timm's builder builds, for which no weights are registered."""

    def __init__(self, num_classes: int = 5, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 4
        self.stem = nn.Conv2d(in_chans, 4, 3, padding=1)
        self.scale = nn.ParameterDict({"C": torch.rand(4)})  # named as one of a mask's parameters
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scale["C"] * self.stem(x).mean((2, 3)))


def built_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return build_model_with_cfg(OfTimmsKind, "built_network", pretrained, **kwargs)


@torch.no_grad()
def test_a_registered_network_with_weights_in_a_file(tmp_path: Path) -> None:
    timm.models.register_model(built_network)
    torch.save(OfTimmsKind().state_dict(), tmp_path / "weights.pth")
    config = {"file": str(tmp_path / "weights.pth"), "num_classes": 5, "first_conv": "stem", "classifier": "head"}
    base, model = (
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay=config)
        for name in ("built_network", "lp4_built_network")
    )
    images = torch.randn(2, 3, 8, 8)
    assert error(model(images), base(images)) < SMALL_ERROR
    timm.models.save_for_hf(model, str(tmp_path / "saved"))
    loaded = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
    assert torch.equal(loaded(images), model(images))


def large_resnet26d(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
    return OfTheUser()


def test_a_name_that_the_user_registers_is_the_users() -> None:
    timm.models.register_model(large_resnet26d)  # which warns where such a name is there
    assert type(timm.create_model("large_resnet26d")) is OfTheUser
