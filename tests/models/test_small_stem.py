"""Base networks for images of 32 pixels: what differs from the base network, and that nothing else does."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from torch import Tensor, nn
from torch.nn import functional as F

from timm_lp.models.small_stem import SMALL_STEMS, with_small_stem

from .networks import NUM_CLASSES, SMALL, assert_same, randomize, seed

STEMS = {
    "alexnet": "features.0",
    "resnet18": "conv1",
    "resnet34": "conv1",
    "resnet50": "conv1",
    "resnext50_32x4d": "conv1",
    "densenet121": "features.conv0",
}
# The authors' code, with 100 classes: the base network, and lp2.
PARAMETERS = {
    "alexnet": (57_392_036, 68_087_844),
    "resnet18": (11_220_132, 61_452_388),
    "resnet34": (21_328_292, 116_471_268),
    "resnet50": (23_705_252, 171_170_660),
    "resnext50_32x4d": (23_177_124, 201_543_652),
    "densenet121": (7_048_676, 54_391_780),
}
SHALLOW = {**SMALL, "resnet34": SMALL["resnet18"]}

every_network = pytest.mark.parametrize("base", STEMS)
every_family = pytest.mark.parametrize("base", ["alexnet", "resnet18", "densenet121"])


def create(name: str, base: str, **kwargs: Any) -> nn.Module:
    """Return a network in the small form of its base network."""
    return timm.create_model(name, **{"num_classes": NUM_CLASSES, **SHALLOW[base], **kwargs})


def images(channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


@every_network
def test_number_of_parameters(base: str) -> None:
    with torch.device("meta"):
        networks = [
            timm.create_model(f"{base}_small_stem", num_classes=100),
            timm.create_model(f"lp2_{base}_small_stem", num_classes=100, preserve=False),
        ]
    assert tuple(sum(p.numel() for p in network.parameters()) for network in networks) == PARAMETERS[base]


@pytest.mark.parametrize("prefix", ["", "lp2_"], ids=["base", "lp2"])
@every_network
def test_maps_that_convolutions_see(base: str, prefix: str) -> None:
    options = {"preserve": False} if prefix else {}
    with torch.device("meta"):
        model = create(f"{prefix}{base}_small_stem", base, **options).eval()
        sizes = []
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("pre_logits"):
                module.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[-1]))
        model(torch.empty(1, 3, 32, 32))
    assert sorted(set(sizes), reverse=True) == ([32, 15, 7] if base == "alexnet" else [32, 16, 8, 4, 2])


@pytest.mark.usefixtures("narrow_classics")
@every_network
def test_computes_the_base_network_with_another_first_convolution(base: str) -> None:
    small = randomize(create(f"{base}_small_stem", base)).double().eval()
    reference = create(base, base).double().eval()
    stem, conv = (network.get_submodule(STEMS[base]) for network in (small, reference))
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))

    # The small kernel in the middle of the large one, without its stride.
    margin = (conv.kernel_size[0] - 3) // 2
    weights = small.state_dict()
    weights[f"{STEMS[base]}.weight"] = F.pad(stem.weight.detach(), [margin] * 4)
    reference.load_state_dict(weights)
    conv.stride, conv.padding = (1, 1), (margin + 1, margin + 1)
    with torch.no_grad():
        torch.testing.assert_close(small(images().double()), reference(images().double()))


@every_network
def test_weights_of_the_stem_are_drawn_as_the_others_of_the_network(base: str) -> None:
    with seed():
        weight = create(f"{base}_small_stem", base).get_submodule(STEMS[base]).weight
    channels, fan_in = len(weight), weight[0].numel()
    std = {"alexnet": 1 / math.sqrt(3 * fan_in), "densenet121": math.sqrt(2 / fan_in)}  # torch's default; He's
    assert float(weight.detach().std()) == pytest.approx(std.get(base, math.sqrt(2 / (9 * channels))), rel=0.15)


@every_family
def test_variants_of_a_seed_start_as_one_function(base: str, narrow_classics: None) -> None:
    networks = []
    for prefix in ("", "large_", "lp2_"):
        with seed():
            networks.append(create(f"{prefix}{base}_small_stem", base).eval())
    with torch.no_grad():
        expected, *others = (network(images()) for network in networks)
    for other in others:
        assert_same(other, expected)


@pytest.mark.parametrize("prefix", ["", "lp16_"], ids=["base", "lp16"])
@every_family
def test_features(base: str, prefix: str) -> None:
    model = create(f"{prefix}{base}_small_stem", base, features_only=True, in_chans=1).eval()
    original = create(base, base, features_only=True)
    stride = 4 if base == "alexnet" else 2
    assert model.feature_info.channels() == original.feature_info.channels()
    assert model.feature_info.reduction() == [r // stride for r in original.feature_info.reduction()]
    with torch.no_grad():
        sizes = [feature.shape[-1] for feature in model(images(channels=1))]
    assert sizes == ([32, 15, 7, 3] if base == "alexnet" else [32, 16, 8, 4, 2])


@pytest.mark.parametrize(
    ("asked", "reductions"), [(32, [1, 2, 4, 8, 16]), (16, [1, 2, 4, 8, 16]), (4, [1, 2, 4, 4, 4])]
)
def test_output_stride_is_that_of_the_small_stem(asked: int, reductions: list[int]) -> None:
    model = create("resnet18_small_stem", "resnet18", features_only=True, output_stride=asked)
    assert model.feature_info.reduction() == reductions
    with torch.no_grad():
        assert [32 // feature.shape[-1] for feature in model(images())] == reductions


def test_device_and_dtype() -> None:
    stem = create("resnet18_small_stem", "resnet18", device="meta", dtype=torch.float64).conv1
    assert (stem.weight.device.type, stem.weight.dtype) == ("meta", torch.float64)


@every_network
def test_configuration(base: str) -> None:
    name = f"{base}_small_stem"
    with torch.device("meta"):
        model = create(name, base, in_chans=1)
        features = model.forward_features(torch.empty(1, 1, 32, 32))
    config = model.pretrained_cfg
    assert config["architecture"] == name
    assert config["num_classes"] == 1000
    assert config["pool_size"] == tuple(features.shape[-2:])
    assert model.get_submodule(config["first_conv"]).in_channels == 1
    assert model.get_submodule(config["classifier"]).out_features == NUM_CLASSES
    data = resolve_model_data_config(model, use_test_size=True)
    assert (data["input_size"][1:], data["crop_pct"], data["interpolation"]) == ((32, 32), 1.0, "bicubic")


def test_the_smallest_image_of_alexnet() -> None:
    with torch.device("meta"):
        model = timm.create_model("alexnet_small_stem")
        smallest = torch.empty(model.pretrained_cfg["min_input_size"])
        assert model.forward_features(smallest[None]).shape == (1, 256, 1, 1)
        with pytest.raises(RuntimeError, match="too small"):
            model.forward_features(smallest[None, :, 1:, 1:])


def test_there_are_no_weights() -> None:
    assert timm.list_pretrained("*_small_stem*") == []
    with pytest.raises(RuntimeError, match="No pretrained weights exist for resnet18_small_stem"):
        create("resnet18_small_stem", "resnet18", pretrained=True)


def test_torchvisions_names(narrow_classics: None) -> None:
    torch.manual_seed(0)
    authors = torchvision.models.AlexNet(num_classes=NUM_CLASSES)
    authors.features[0] = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1)
    authors.classifier[1] = nn.Linear(256 * 6 * 6, 64)
    authors.classifier[4] = nn.Linear(64, 64)
    authors.classifier[6] = nn.Linear(64, NUM_CLASSES)
    overlay = {"state_dict": randomize(authors).state_dict(), "num_classes": NUM_CLASSES}
    for prefix in ("", "lp16_"):
        name = f"{prefix}alexnet_small_stem"
        model = create(name, "alexnet", pretrained=True, pretrained_cfg_overlay=overlay).eval()
        with torch.no_grad():
            assert_same(model(images()), authors.eval()(images()))


def test_saved_network_is_loaded_by_its_folder(tmp_path: Path) -> None:
    model = randomize(create("resnet18_small_stem", "resnet18", in_chans=1)).eval()
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images(channels=1)), model(images(channels=1)))


@pytest.mark.parametrize("prefix", ["", "lp2_"], ids=["base", "lp2"])
@pytest.mark.parametrize("base", ["resnet18", "densenet121"])
def test_another_stem_is_refused(base: str, prefix: str) -> None:
    message = rf"`stem_type` must not be given to {base}_small_stem, got 'deep'\. Its stem is .*; {base} takes"
    with pytest.raises(TypeError, match=message):
        create(f"{prefix}{base}_small_stem", base, stem_type="deep")
    assert create(f"{base}_small_stem", base, stem_type="").num_classes == NUM_CLASSES


@every_network
def test_name_of_the_form_with_a_small_stem(base: str) -> None:
    small = with_small_stem(base)
    assert small == SMALL_STEMS[base].name == f"{base}_small_stem"
    assert timm.is_model(small)
    assert with_small_stem(small) == small


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vgg16", "its first convolution has stride 1"),
        ("convnext_tiny", "the authors' code has no other stem for it"),
        ("convnextv2_tiny", "the authors' code has no other stem for it"),
        ("replknet31", "the authors' code has no other stem for it"),
        ("resnet18_small_stem", "it is a small one"),
    ],
)
def test_what_needs_no_small_stem_keeps_its_own(name: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with_small_stem.cache_clear()
    with caplog.at_level(logging.INFO, logger="timm_lp"):
        assert [with_small_stem(name) for _ in range(2)] == [name, name]
    assert caplog.messages == [f"{name} keeps its stem: {reason}."]


@pytest.mark.parametrize("name", ["resnet17", "lp2_resnet18", "resnet18.a1_in1k", "mobilenetv3_small_100"])
def test_name_without_a_small_stem_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`name` must be one of alexnet, resnet18, .*, got '{name}'\. Other networks"
    ):
        with_small_stem(name)
