import copy
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers import StdConv2d
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from timm_lp import LpConv2d, lp_convert

from .covering import covering
from .networks import (
    Namesakes,
    Net,
    Shared,
    as_timm,
    assert_same_function,
    assert_unchanged,
    image,
    names_of,
    randomize,
    relative_error,
    snapshot,
)

EXPONENTS = [1, 2, 256]  # tests of the layer and of checkpoints take those between
# How many convolutions are converted, how many are not (squeeze-excite gates, classifiers, forwards of their own), and
# what makes the network small without changing its shape.
NARROW = {"channels": (64, 64, 64, 64)}
FAMILIES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "resnet18": (20, 0, NARROW),
    "seresnet18": (20, 16, NARROW),
    "resnetv2_18": (20, 1, NARROW),
    "vgg11_bn": (8, 2, {"mlp_ratio": 1 / 64}),
    "densenet121": (120, 0, {"growth_rate": 8}),
    "dla46_c": (48, 1, {}),
    "convnext_atto": (40, 0, {}),
    "mobilenetv3_small_050": (34, 19, {}),
    "hardcorenas_a": (34, 17, {}),
    "efficientnet_lite0": (49, 0, {}),
    "tf_efficientnet_b0": (44, 37, {}),
    "mnasnet_small": (46, 20, {}),
    "regnety_002": (44, 26, {}),
    "ghostnet_050": (80, 15, {}),
    "repvgg_a0": (44, 0, {}),
    "xcit_nano_12_p16_224": (11, 0, {"depth": 3}),
}


@covering(1, name=[*FAMILIES], p=EXPONENTS)
def test_timm_families_keep_their_function(name: str, p: float) -> None:
    converted, left, arguments = FAMILIES[name]
    model = randomize(timm.create_model(name, num_classes=10, **arguments))
    with torch.no_grad():
        expected = model(image())
    lp = lp_convert(model, p)
    convs = [module for module in lp.modules() if isinstance(module, nn.Conv2d)]
    assert sum(type(conv) is LpConv2d for conv in convs) == converted
    assert len(convs) == converted + left
    assert relative_error(lp, expected, image()) < 1e-4


@pytest.mark.parametrize("masked", [True, False], ids=["lp", "large"])
def test_names_of_a_networks_own_do_not_decide(masked: bool) -> None:
    model = randomize(Namesakes())
    converted = lp_convert(copy.deepcopy(model), 16, masked=masked)
    assert [converted.get_submodule(name).kernel_size for name in names_of(model, nn.Conv2d)] == [(7, 7), (3, 3)] * 2
    assert_same_function(converted, model, image(8))


@covering(
    1,
    name=["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet"],
    arguments=[{"masked": False}, {"kernel_scale": 1, "p_init": 8}],
)
def test_other_variants_keep_the_function(name: str, arguments: dict[str, Any]) -> None:
    model = randomize(timm.create_model(name))
    converted = lp_convert(copy.deepcopy(model), **arguments)
    kernels = [c.kernel_size for c in converted.modules() if isinstance(c, nn.Conv2d)]
    assert (kernels == [c.kernel_size for c in model.modules() if isinstance(c, nn.Conv2d)]) == ("p_init" in arguments)
    assert_same_function(converted, model, image())


@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("vgg11", ["pre_logits.fc1", "pre_logits.fc2"]),
        ("mobilenetv3_small_050", ["conv_head"]),
        ("efficientnet_lite0", []),
        ("seresnet18", []),
    ],
)
def test_classifiers_and_gates_stay(name: str, stay: list[str]) -> None:
    with torch.device("meta"):
        base = timm.create_model(name)
        model = lp_convert(copy.deepcopy(base))
    plain = [name for name in names_of(model, nn.Conv2d) if ".se." not in name]
    assert plain == stay
    gates = [name for name in names_of(base, nn.Conv2d) if ".se." in name]
    assert bool(gates) == (name in ("mobilenetv3_small_050", "seresnet18"))
    for name in stay + gates:
        assert type(model.get_submodule(name)) is nn.Conv2d
        assert repr(model.get_submodule(name)) == repr(base.get_submodule(name))
    assert len(names_of(model, LpConv2d)) == len(names_of(base, nn.Conv2d)) - len(stay + gates)


def test_convolutions_with_a_forward_of_their_own_stay_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    same = ["conv_stem", "blocks.1.0.conv_dw", "blocks.2.0.conv_dw", "blocks.3.0.conv_dw", "blocks.5.0.conv_dw"]
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_b0")
    before = [model.get_submodule(name) for name in same]
    lp_convert(model)
    assert [model.get_submodule(name) for name in same] == before
    assert caplog.messages == [
        "Not every chosen convolution of EfficientNet is converted. "
        f"Left alone since it has a forward of its own: {', '.join(same)}."
    ]


def test_standardized_convolutions_stay_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    conv_layer = partial(StdConv2d, eps=1e-8)
    model = randomize(timm.create_model("resnetv2_18", num_classes=4, conv_layer=conv_layer, **NARROW))
    standardized = [name for name, module in model.named_modules() if isinstance(module, StdConv2d)]
    before = snapshot(model)
    with pytest.raises(
        ValueError, match=r"must have a convolution to convert.* forward of its own: stem\.conv, stages"
    ):
        lp_convert(model)
    assert_unchanged(model, before)
    converted = lp_convert(copy.deepcopy(model), filter_fn=lambda module, fqn: True)
    assert names_of(converted, LpConv2d) == ["head.fc"]
    assert caplog.messages == [
        "Not every chosen convolution of ResNetV2 is converted. "
        f"Left alone since it has a forward of its own: {', '.join(standardized)}."
    ]
    assert_same_function(converted, model, image())


def test_convolutions_that_cannot_be_replaced_stay_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(OrderedDict((name, nn.Conv2d(3, 3, 3, padding=1)) for name in "abcdef"))
    model.b = parametrizations.weight_norm(model.b)
    model.c.register_forward_hook(lambda module, args, output: 2 * output)
    model.d.register_forward_pre_hook(lambda module, args: (3 * args[0],))
    model.e.weight = model.f.weight
    expected = model(image(8)).detach()
    before = [snapshot(model[i]) for i in range(1, 6)]
    model.g = nn.LazyConv2d(3, 3)
    lp_convert(model)
    for i in range(1, 6):
        assert_unchanged(model[i], before[i - 1])
    assert names_of(model, LpConv2d) == ["a"]
    assert type(model.g) is nn.LazyConv2d
    assert model.e.weight is model.f.weight
    assert relative_error(model[:6], expected, image(8)) < 1e-5
    assert caplog.messages == [
        "Not every chosen convolution of Sequential is converted. "
        "Left alone since its weight is parametrized: b. "
        "Left alone since it has hooks: c, d. "
        "Left alone since its weight or bias is shared with another layer: e, f. "
        "Left alone since it is not initialised yet: g."
    ]


@pytest.mark.parametrize("built_by", [lambda model: model, as_timm], ids=["plain", "timm"])
def test_a_convolution_under_two_names_stays_one(built_by: Callable[[nn.Module], nn.Module]) -> None:
    model = built_by(randomize(Shared()))
    expected = model(image(8)).detach()
    converted = lp_convert(model)
    assert type(converted.conv) is LpConv2d
    assert converted.again[0] is converted.alias is converted.conv
    assert len([*converted.parameters()]) == 6
    assert {tensor.device.type for tensor in converted.state_dict().values()} == {"cpu"}
    assert relative_error(converted, expected, image(8)) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p_init": 0.5}, r"`p_init` must be a finite number >= 1, got 0\.5"),
        ({"p_init": float("nan")}, "`p_init` must be a finite number >= 1, got nan"),
        ({"p_init": float("inf")}, "`p_init` must be a finite number >= 1, got inf"),
        ({"p_init": 0, "masked": False}, "`p_init` must be a finite number >= 1, got 0"),
        ({"kernel_scale": 3}, "`kernel_scale` must be 1 or 2, got 3"),
        ({"kernel_scale": 0, "masked": False}, "`kernel_scale` must be 1 or 2, got 0"),
        (
            {"filter_fn": lambda module, fqn: False},
            r"`model` must have a convolution to convert, got Net with 3 Conv2d, of which `filter_fn` chose 0\. "
            r"Choose others with `filter_fn`\.$",
        ),
    ],
    ids=["below_one", "nan", "inf", "zero", "scale_3", "scale_0", "no_match"],
)
@pytest.mark.parametrize("built_by", [lambda model: model, as_timm], ids=["plain", "timm"])
def test_errors_change_nothing(
    built_by: Callable[[nn.Module], nn.Module], arguments: dict[str, Any], message: str
) -> None:
    model = built_by(Net())
    model.block.eval()
    model.stem.weight.requires_grad_(False)
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        lp_convert(model, **arguments)
    assert_unchanged(model, before)


def test_converting_twice_is_an_error_and_changes_nothing() -> None:
    model = lp_convert(Net(), filter_fn=lambda module, fqn: fqn != "stem")
    before = snapshot(model)
    message = r"`model` must not be converted yet, got Net with 2 LpConv2d \(the first is 'block\.conv'\)\. Build"
    for arguments in ({}, {"masked": False}, {"filter_fn": lambda module, fqn: fqn == "stem"}):
        with pytest.raises(ValueError, match=message):
            lp_convert(model, **arguments)
        assert_unchanged(model, before)


def test_a_model_without_convolutions_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have a convolution to convert, got Linear with 0 Conv2d"):
        lp_convert(nn.Linear(3, 3))


def test_a_timm_model_that_cannot_be_traced_is_an_error_and_changes_nothing() -> None:
    class Reading(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * x.sum().item()

    model = as_timm(Reading())
    model.block.eval()
    before = snapshot(model)
    message = r"`filter_fn` must be given for Reading: .+ \(3, 8, 8\) .+ failed \(.+\)\. Pass `filter_fn=lambda"
    with pytest.raises(ValueError, match=message):
        lp_convert(model)
    assert_unchanged(model, before)
    assert len(names_of(lp_convert(model, filter_fn=lambda module, fqn: True), LpConv2d)) == 3


def test_a_plain_model_converts_every_convolution_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "timm_lp")
    model = randomize(Net())
    converted = lp_convert(copy.deepcopy(model), 16)
    assert names_of(converted, LpConv2d) == ["stem", "block.conv", "last"]
    assert [module.kernel_size for module in converted.modules() if type(module) is LpConv2d] == [
        (8, 8),
        (7, 7),
        (3, 7),
    ]
    assert caplog.messages == ["Converted 3 convolutions of Net."]
    assert_same_function(converted, model, image(16))


@pytest.mark.parametrize("masked", [True, False], ids=["lp", "large"])
def test_conversion_leaves_the_rest_as_it_is(masked: bool) -> None:
    model = as_timm(Net().train())
    model.block.norm.eval()
    model.last.eval()
    model.head.bias.requires_grad_(False)
    model.stem.weight.requires_grad_(False)
    training = {name: module.training for name, module in model.named_modules()}
    requires_grad = {name: p.requires_grad for name, p in model.named_parameters()}
    state, head, norm, others = torch.get_rng_state(), model.head, model.block.norm, snapshot(model.head)
    assert lp_convert(model, masked=masked) is model
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: module.training for name, module in model.named_modules()} == training
    assert {name: p.requires_grad for name, p in model.named_parameters() if name in requires_grad} == requires_grad
    assert model.head is head
    assert model.block.norm is norm
    assert_unchanged(model.head, others)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_large_is_made_of_plain_convolutions() -> None:
    model = randomize(Net())
    large = lp_convert(copy.deepcopy(model), masked=False)
    assert names_of(large, nn.Conv2d) == ["stem", "block.conv", "last"]
    assert [large.get_submodule(n).kernel_size for n in names_of(large, nn.Conv2d)] == [(8, 8), (7, 7), (3, 7)]
    assert large.state_dict().keys() == model.state_dict().keys()
    assert not hasattr(large, "no_weight_decay")
    assert_same_function(large, model, image(16))


def test_kernel_scale_1_keeps_the_kernels() -> None:
    model = randomize(Net())
    converted = lp_convert(copy.deepcopy(model), 4, kernel_scale=1)
    assert [converted.get_submodule(n).kernel_size for n in names_of(converted, LpConv2d)] == [(4, 4), (3, 3), (1, 3)]
    assert_same_function(converted, model, image(16))


@pytest.mark.parametrize("trainable_mask", [True, False])
def test_trainable_mask(trainable_mask: bool) -> None:
    model = lp_convert(Net(), 256, trainable_mask=trainable_mask)
    masks = [p for name, p in model.named_parameters() if name.endswith((".C", ".log2p"))]
    assert len(masks) == 6
    assert all(p.requires_grad == trainable_mask for p in masks)
    assert all(p.requires_grad for p in model.parameters()) == trainable_mask
    assert all(p.requires_grad for name, p in model.named_parameters() if not name.endswith((".C", ".log2p")))


def test_without_preserving_the_masks_damp_the_function() -> None:
    model = randomize(Net())
    expected = model(image(16)).detach()
    assert relative_error(lp_convert(copy.deepcopy(model), 2, preserve=False), expected, image(16)) > 0.01
    # At p = 256 the mask is a box around the kernel, and nothing is left to damp.
    assert relative_error(lp_convert(copy.deepcopy(model), 256, preserve=False), expected, image(16)) < 1e-5


def test_filter_fn_chooses_among_the_convolutions() -> None:
    seen = []

    def depthwise(module: nn.Module, fqn: str) -> bool:
        seen.append((type(module), fqn))
        return module.groups > 1

    model = lp_convert(Net(), filter_fn=depthwise)
    assert seen == [(nn.Conv2d, name) for name in ("stem", "block.conv", "last")]
    assert names_of(model, LpConv2d) == ["block.conv"]
    assert names_of(model, nn.Conv2d) == ["stem", "last"]
    chosen = lp_convert(timm.create_model("test_efficientnet"), filter_fn=lambda module, fqn: ".se." in fqn)
    assert all(".se." in name for name in names_of(chosen, LpConv2d))


@pytest.mark.parametrize("masked", [True, False], ids=["lp", "large"])
def test_a_bare_convolution_is_returned_converted(masked: bool) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    before = snapshot(conv)
    converted = lp_convert(conv, masked=masked)
    assert type(converted) is (LpConv2d if masked else nn.Conv2d)
    assert converted.kernel_size == (7, 7)
    assert_unchanged(conv, before)
    assert_same_function(converted, conv, image(8))
    if masked:
        assert converted.no_weight_decay() == {"C", "log2p", *PATTERNS}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_meta_device(name: str) -> None:
    with torch.device("meta"):
        model = lp_convert(timm.create_model(name))
    on_cpu = lp_convert(timm.create_model(name))
    shapes = {key: tensor.shape for key, tensor in on_cpu.state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert not any(tensor.is_meta for tensor in on_cpu.state_dict().values())
    assert model(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, model.num_classes)


def test_a_grayscale_model_keeps_its_function() -> None:
    model = randomize(timm.create_model("test_efficientnet", in_chans=1))
    assert_same_function(lp_convert(copy.deepcopy(model)), model, image(channels=1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_dtype_is_kept(name: str, dtype: torch.dtype) -> None:
    model = lp_convert(timm.create_model(name).to(dtype))
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert names_of(model, LpConv2d)


class Owning(Net):
    """Spares parameters of its own from weight decay."""

    def no_weight_decay(self) -> set[str]:
        return {"head.bias"}


PATTERNS = {"*.C", "*.log2p"}
MASKS = {f"{conv}.{name}" for conv in ("stem", "block.conv", "last") for name in ("C", "log2p")}


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [lambda model: model, copy.deepcopy, through_pickle], ids=["same", "copy", "pickle"])
@pytest.mark.parametrize(("net", "own"), [(Net, set()), (Owning, {"head.bias"})], ids=["none", "own"])
def test_no_weight_decay_names_the_masks(
    net: type[nn.Module], own: set[str], copied: Callable[[nn.Module], nn.Module]
) -> None:
    model = copied(lp_convert(net()))
    assert model.no_weight_decay() == MASKS | PATTERNS | own
    model.no_weight_decay().clear()
    assert model.no_weight_decay() == MASKS | PATTERNS | own


@pytest.mark.parametrize("layer_decay", [None, 0.75])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_timm_optimizers_do_not_decay_the_masks(name: str, layer_decay: float | None) -> None:
    model = lp_convert(timm.create_model(name))
    optimizer = create_optimizer_v2(model, opt="adamw", weight_decay=0.05, layer_decay=layer_decay)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == {id(p) for p in model.parameters()}
    for module in model.modules():
        if isinstance(module, LpConv2d):
            assert decay[id(module.C)] == decay[id(module.log2p)] == 0
            assert decay[id(module.weight)] == 0.05


def test_only_modules_are_taken() -> None:
    with pytest.raises(TypeError, match=r"`model` must be an nn\.Module, got 'resnet18'"):
        lp_convert("resnet18")
