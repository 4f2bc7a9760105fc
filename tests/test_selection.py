import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from timm_lp import LpConv2d, lp_convert
from timm_lp.selection import NormsLeftOut, feature_extractor_filter, tied_parameters, why_left_alone


class Net(nn.Module):
    """Features with a squeeze-excite gate and a convolution that is never run, and a convolution as classifier."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 4, 8)
        self.classifier = nn.Conv2d(4, 5, 1)
        self.pretrained_cfg: dict[str, Any] = {"input_size": (3, 8, 8), "first_conv": "stem"}

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        return self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.interpolate(self.forward_features(x), scale_factor=2.0))


class Shared(Net):
    """Has one norm and one convolution under two names, and two convolutions of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Sequential(self.norm, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.third = self.again[1]
        self.again[2].weight = self.again[1].weight

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x + self.third(self.again(self.stem(x)))[:, :3])


class Failing(Net):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x) * x.sum().item()


def chosen(model: nn.Module) -> list[str]:
    """Return the names of the convolutions that the default filter chooses."""
    chooses = feature_extractor_filter(model)
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and chooses(module, name)]


def tensors_of(model: nn.Module) -> list[Tensor | None]:
    return [
        tensor for module in model.modules() for tensor in (*module._parameters.values(), *module._buffers.values())
    ]


def test_chooses_what_the_features_run_on_a_map() -> None:
    assert chosen(Net()) == ["stem", "last"]


def test_without_forward_features_everything_that_is_run_counts() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    model.pretrained_cfg = {"input_size": (3, 8, 8)}
    assert chosen(model) == ["0"]


def test_in_a_model_that_is_not_timms_every_convolution_is_chosen() -> None:
    assert chosen(nn.Sequential(Failing())) == [
        f"0.{name}" for name in ("stem", "gate", "unused", "last", "classifier")
    ]
    assert chosen(nn.Conv2d(1, 1, 1)) == [""]


@pytest.mark.parametrize("config", [None, {}, "weights.pth", ("a", "b")], ids=str)
def test_an_attribute_that_timm_did_not_make_does_not_count(config: Any) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    model.pretrained_cfg = config
    assert chosen(model) == ["0", "2"]


@pytest.mark.parametrize("config", [None, {}, "weights.pth"], ids=str)
def test_timms_interface_is_enough(config: Any) -> None:
    model = Net()
    model.pretrained_cfg = config
    assert chosen(model) == ["stem", "last"]


@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("vgg11", ["pre_logits.fc1", "pre_logits.fc2"]),
        ("mobilenetv3_small_050", ["conv_head"]),
        ("ghostnet_050", ["conv_head"]),
        ("resnetv2_18", ["head.fc"]),
        ("efficientnet_lite0", []),
        ("xception41", []),
        ("convnext_atto", []),
        ("test_vit", []),
    ],
)
def test_classifiers_and_gates_of_timm_models_are_not_chosen(name: str, stay: list[str]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    names = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and ".se." not in name}
    assert sorted(names - {*chosen(model)}) == stay
    assert {*chosen(model)} <= names


@pytest.mark.parametrize(("name", "dropped"), [("test_resnet", []), ("test_efficientnet", ["conv_head"])])
def test_features_only_and_checkpointed_models_choose_the_same(name: str, dropped: list[str]) -> None:
    names = chosen(timm.create_model(name))
    assert chosen(timm.create_model(name, features_only=True)) == [name for name in names if name not in dropped]
    model = timm.create_model(name)
    model.set_grad_checkpointing()
    assert chosen(model) == names


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "convnext_atto", "mobilenetv3_small_050", "ghostnet_050"])
def test_grayscale_models_choose_the_same(name: str) -> None:
    with torch.device("meta"):
        gray, color = (timm.create_model(name, in_chans=channels) for channels in (1, 3))
    assert chosen(gray) == chosen(color) != []


@pytest.mark.parametrize(
    ("first_conv", "in_chans"), [("stem", None), (("stem", "last"), None), (None, 2), ((), 2), ("norm", 2)], ids=str
)
def test_finds_the_channels_of_the_input(first_conv: Any, in_chans: int | None) -> None:
    model = Net(in_channels=2)
    model.pretrained_cfg["first_conv"] = first_conv
    if in_chans:
        model.in_chans = in_chans
    assert chosen(model) == ["stem", "last"]


def test_falls_back_on_the_channels_of_the_configuration() -> None:
    model = Net(in_channels=2)
    model.pretrained_cfg = {"input_size": (2, 8, 8)}
    assert chosen(model) == ["stem", "last"]
    model.pretrained_cfg = {"input_size": (3, 8, 8)}
    with pytest.raises(ValueError, match=r"`filter_fn` must be given for Net: .+ \(3, 8, 8\)"):
        feature_extractor_filter(model)


def test_a_model_that_cannot_be_run_is_an_error_with_advice() -> None:
    message = (
        r"`filter_fn` must be given for Failing: running it on a meta tensor of shape \(3, 8, 8\) to find its feature "
        r"extractor failed \(RuntimeError: .+\)\. Pass `filter_fn=lambda module, fqn: True` to convert every Conv2d\."
    )
    with pytest.raises(ValueError, match=message) as error:
        feature_extractor_filter(Failing())
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.parametrize("build", [Net, Shared, Failing, partial(timm.create_model, "test_efficientnet")])
def test_the_model_is_not_changed(build: Callable[[], nn.Module]) -> None:
    model = build().train()
    next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = [module.training for module in model.modules()]
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    tensors = tensors_of(model)
    try:
        feature_extractor_filter(model)
    except ValueError:
        assert isinstance(model, Failing)
    assert all(now is then for now, then in zip(tensors_of(model), tensors, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert not torch.empty(0).is_meta


class Renamed(nn.Conv2d):
    pass


class Padding(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(F.pad(input, (1, 0, 1, 0)), weight, bias)


def with_hook(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda module, args, output: -output)
    return conv


def with_backward_hook(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_full_backward_hook(lambda module, grad_input, grad_output: None)
    return conv


def with_pre_hook(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_pre_hook(lambda module, args: (-args[0],))
    return conv


def with_forward(conv: nn.Conv2d) -> nn.Conv2d:
    """Patch the instance, as `accelerate.hooks.add_hook_to_module` does."""
    conv.forward = lambda x: -nn.Conv2d.forward(conv, x)
    return conv


def pruned(conv: nn.Conv2d) -> nn.Conv2d:
    return prune.l1_unstructured(conv, "weight", 0.5)


OWN_FORWARD = "it has a forward of its own"
HOOKS = "it has hooks"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (partial(nn.Conv2d, 3, 3, 3), None),
        (partial(Renamed, 3, 3, 3), None),
        (partial(LpConv2d, 3, 3, 3), OWN_FORWARD),
        (partial(Conv2dSame, 3, 3, 3), OWN_FORWARD),
        (partial(StdConv2d, 3, 3, 3), OWN_FORWARD),
        (partial(ScaledStdConv2d, 3, 3, 3), OWN_FORWARD),
        (partial(Padding, 3, 3, 3), OWN_FORWARD),
        (lambda: with_forward(nn.Conv2d(3, 3, 3)), OWN_FORWARD),
        (lambda: with_hook(nn.Conv2d(3, 3, 3)), HOOKS),
        (lambda: with_pre_hook(nn.Conv2d(3, 3, 3)), HOOKS),
        (lambda: with_backward_hook(nn.Conv2d(3, 3, 3)), HOOKS),
        (lambda: spectral_norm(nn.Conv2d(3, 3, 3)), HOOKS),
        (lambda: pruned(nn.Conv2d(3, 3, 3)), HOOKS),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "its weight is parametrized"),
        (partial(nn.LazyConv2d, 3, 3), "it is not initialised yet"),
    ],
    ids=(
        "plain renamed lp same std scaled_std padding patched hook pre_hook backward_hook "
        "spectral_norm pruned weight_norm lazy"
    ).split(),
)
def test_why_left_alone(build: Callable[[], nn.Conv2d], reason: str | None) -> None:
    conv = build()
    assert why_left_alone(conv, tied_parameters(nn.Sequential(conv, nn.Conv2d(3, 3, 3)))) == reason


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_tied_convolutions_are_left_alone(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    setattr(model[0], name, getattr(model[2], name))
    tied = tied_parameters(model)
    assert tied == {id(getattr(model[0], name))}
    reasons = [why_left_alone(conv, tied) for conv in model]
    assert reasons[1] is None
    assert [reason and "is shared with another layer" in reason for reason in reasons] == [True, None, True]


def test_a_module_under_two_names_is_not_tied() -> None:
    conv = nn.Conv2d(3, 3, 3)
    model = nn.Sequential(conv, nn.Sequential(conv))
    assert tied_parameters(model) == set()
    model.register_parameter("weight", conv.weight)
    assert tied_parameters(model) == {id(conv.weight)}


def stages() -> nn.Module:
    """Return a network of two stages, each of a depthwise and a pointwise convolution, with a tied pair behind them."""
    blocks = [nn.ModuleDict({"dw": nn.Conv2d(4, 4, 3, groups=4), "pw": nn.Conv2d(4, 4, 1)}) for _ in range(2)]
    tied = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    tied[1].weight = tied[0].weight
    return nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "stages": nn.ModuleList(blocks), "stem2": nn.Sequential(*tied)})


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["stem"], "stem"),
        (["stages.1", "stem"], "stem stages.1.dw stages.1.pw"),
        (["stages"], "stages.0.dw stages.0.pw stages.1.dw stages.1.pw"),
        (["*.pw"], "stages.0.pw stages.1.pw"),
        (["s*.[!1].?w"], "stages.0.dw stages.0.pw"),
        (["depthwise"], "stages.0.dw stages.1.dw"),
        (["*"], "stem stages.0.dw stages.0.pw stages.1.dw stages.1.pw"),
    ],
)
@pytest.mark.parametrize("masked", [True, False])
def test_layers_by_their_names(patterns: list[str], names: str, masked: bool) -> None:
    model = lp_convert(stages(), masked=masked, lp_layers=patterns)
    assert " ".join(model.lp_conversion["layers"]) == names
    large = {name for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size[0] > 3}
    assert large == {name for name in names.split() if not name.endswith("pw")}  # 1x1 becomes 3x3
    narrowed = lp_convert(stages(), lp_layers=patterns, filter_fn=lambda module, fqn: "0.pw" not in fqn)
    assert narrowed.lp_conversion["layers"] == [name for name in names.split() if "0.pw" not in name]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["stem", "stage"], "got 'stage', which names none of the network's. There are 5: stem, stages.0.dw, .*dw, "),
        (["stem", "pw"], "got 'pw', which names none"),
        (["stem2"], r"got 'stem2', which names stem2\.[01] for instance, left alone since its weight or bias is"),
        (["dw", ""], "got 'dw'"),
        ([], r"be a list of names of layers, got \[\]"),
        ("stem", r"be a list of names of layers, got 'stem'\. Write \['layer1'\]"),
    ],
)
def test_names_of_no_layers_change_nothing(patterns: Any, message: str) -> None:
    model = stages()
    with pytest.raises(ValueError, match=f"`lp_layers` must .*{message}"):
        lp_convert(model, lp_layers=patterns)
    assert not any(isinstance(module, LpConv2d) for module in model.modules())


def test_norms_return_their_input_and_nothing_else_changes() -> None:
    x = torch.randn(2, 4, 3, 3)
    expected = F.conv2d(x, torch.ones(1, 4, 3, 3)).relu()
    with NormsLeftOut():
        assert all(norm(x) is x for norm in (nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(3)))
        assert torch.equal(F.conv2d(x, torch.ones(1, 4, 3, 3)).relu(), expected)
    assert not torch.equal(nn.LayerNorm(3)(x), x)
