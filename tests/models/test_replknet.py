import re
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.utils import reparameterize_model
from torch import Tensor, nn

from timm_lp import LpConv2d
from timm_lp.models.reparam_large_kernel import ReparamLargeKernelConv

from ..covering import covering
from .networks import NUM_CLASSES, SMALL, assert_same, create, create_base, create_from, create_trained, images

KERNELS = SMALL["replknet31"]["kernel_sizes"]


class Original:
    """The forward pass of the original release in evaluation, from its state dict and under its names."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def conv_bn(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.conv.weight"]
        groups = x.shape[1] // weight.shape[1]
        return self.norm(f"{name}.bn", F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups))

    def block(self, name: str, x: Tensor) -> Tensor:
        out = F.relu(self.conv_bn(f"{name}.pw1", self.norm(f"{name}.prelkb_bn", x)))
        large = self.conv_bn(f"{name}.large_kernel.lkb_origin", out)
        if f"{name}.large_kernel.small_conv.conv.weight" in self.weights:
            large = large + self.conv_bn(f"{name}.large_kernel.small_conv", out)
        return x + self.conv_bn(f"{name}.pw2", F.relu(large))

    def ffn(self, name: str, x: Tensor) -> Tensor:
        out = F.gelu(self.conv_bn(f"{name}.pw1", self.norm(f"{name}.preffn_bn", x)))
        return x + self.conv_bn(f"{name}.pw2", out)

    def __call__(self, x: Tensor) -> Tensor:
        for layer, stride in enumerate((2, 1, 1, 2)):
            x = F.relu(self.conv_bn(f"stem.{layer}", x, stride))
        for stage in range(len(KERNELS)):
            if stage:
                x = F.relu(self.conv_bn(f"transitions.{stage - 1}.0", x))
                x = F.relu(self.conv_bn(f"transitions.{stage - 1}.1", x, 2))
            x = self.ffn(f"stages.{stage}.blocks.1", self.block(f"stages.{stage}.blocks.0", x))
        x = self.norm("norm", x).mean(dim=(2, 3))
        return F.linear(x, self.weights["head.weight"], self.weights["head.bias"])


def original_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    def rename(key: str) -> str:
        key = re.sub(r"^stages\.(\d)\.downsample", lambda match: f"transitions.{int(match[1]) - 1}", key)
        return key.replace("head.fc.", "head.")

    return {rename(key): value for key, value in weights.items()}


@pytest.mark.parametrize("arch", ["replknet31", "replknet_xl"])
def test_forward_is_that_of_the_original_release(arch: str) -> None:
    model = create_base(arch)
    x = images()
    with torch.no_grad():
        assert_same(model(x), Original(original_names(model.state_dict()))(x))


@covering(1, name=["replknet31", "lp16_replknet31", "large_replknet31"], headless={"head": False, "headless": True})
def test_original_weights_load(name: str, headless: bool) -> None:
    base = create_base("replknet31")
    weights = original_names(base.state_dict())
    assert "transitions.2.1.conv.weight" in weights
    if headless:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
    overlay = {"state_dict": weights, "num_classes": 0 if headless else NUM_CLASSES}
    model = create(name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    x = images()
    with torch.no_grad():
        assert_same(model.forward_features(x), base.forward_features(x))
        if not headless:
            assert_same(model(x), base(x))


def test_structure() -> None:
    with torch.device("meta"):
        model = timm.create_model("replknet31")
    large = [module for module in model.modules() if isinstance(module, ReparamLargeKernelConv)]
    assert [module.lkb_origin.conv.kernel_size[0] for module in large] == [31] * 2 + [29] * 2 + [27] * 6 + [13] * 2
    assert {module.small_conv.conv.kernel_size for module in large} == {(5, 5)}
    assert model.forward_features(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 512, 7, 7)


@pytest.mark.parametrize(
    "name", ["replknet31", "replknet_xl", "lp2_replknet31", "lp16_replknet_xl", "large_replknet31"]
)
def test_reparameterization_merges_branches_norms_and_masks(name: str) -> None:
    torch.manual_seed(0)
    model = create_base(name) if name in SMALL else create_trained(name)
    merged = reparameterize_model(model)
    x = images()
    with torch.no_grad():
        assert_same(merged(x), model(x))
    for module in merged.modules():
        assert not isinstance(module, LpConv2d)
        if isinstance(module, ReparamLargeKernelConv):
            assert type(module.lkb_reparam) is nn.Conv2d
            assert [child for child in module.children()] == [module.lkb_reparam]
    assert not any(key.endswith((".C", ".log2p")) or "small_conv" in key for key in merged.state_dict())
    assert all(module.lkb_reparam is None for module in model.modules() if isinstance(module, ReparamLargeKernelConv))
    again = reparameterize_model(merged)
    with torch.no_grad():
        assert torch.equal(again(x), merged(x))


@pytest.fixture
def stages() -> tuple[nn.Module, list[Tensor]]:
    """Return a network and what its stages give for `images()`."""
    model = create_base("replknet31")
    outputs: list[Tensor] = []
    with torch.no_grad():
        x = model.stem(images())
        for stage in model.stages:
            x = stage(x)
            outputs.append(x)
    return model, outputs


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ({}, [0, 1, 2, 3]),
        ({"indices": 2, "stop_early": True}, [2, 3]),
        ({"indices": [0, 1], "stop_early": True}, [0, 1]),
        ({"indices": [0, 3], "norm": True}, [0, 3]),
        ({"indices": [-4, 1], "norm": True}, [0, 1]),
    ],
    ids=str,
)
def test_forward_intermediates(
    stages: tuple[nn.Module, list[Tensor]], arguments: dict[str, Any], taken: list[int]
) -> None:
    model, outputs = stages
    with torch.no_grad():
        final, features = model.forward_intermediates(images(), **arguments)
        alone = model.forward_intermediates(images(), intermediates_only=True, **arguments)
        for feature, other, index in zip(features, alone, taken, strict=True):
            normed = arguments.get("norm") and index == 3
            assert torch.equal(feature, model.norm(outputs[index]) if normed else outputs[index])
            assert torch.equal(feature, other)
        stopped = arguments.get("stop_early") and max(taken) < 3
        assert torch.equal(final, outputs[max(taken)] if stopped else model.norm(outputs[3]))


@pytest.mark.parametrize(("indices", "last"), [([0, 1], 1), (1, 3)])
def test_prune_intermediate_layers(stages: tuple[nn.Module, list[Tensor]], indices: int | list[int], last: int) -> None:
    model, outputs = stages
    assert model.prune_intermediate_layers(indices, prune_norm=True) == (
        indices if isinstance(indices, list) else [last]
    )
    assert len(model.stages) == last + 1
    with torch.no_grad():
        assert torch.equal(model(images()), outputs[last])
        assert torch.equal(model.forward_intermediates(images(), [last])[1][0], outputs[last])
    assert model.num_classes == 0
    assert model.num_features == model.head_hidden_size == outputs[last].shape[1]
    model.reset_classifier(5, "avg")
    assert model(images()).shape == (2, 5)


def test_pruning_can_keep_norm_and_head() -> None:
    model = create_base("replknet31")
    with torch.no_grad():
        expected = model(images())
        model.prune_intermediate_layers([1, 3], prune_head=False)
        assert torch.equal(model(images()), expected)


def test_converted_network_prunes_too() -> None:
    base = create_base("replknet31")
    model = create_from(base, "lp2_replknet31")
    with torch.no_grad():
        expected = base.forward_intermediates(images(), [2], intermediates_only=True)[0]
        model.prune_intermediate_layers([2])
        assert_same(model(images()), expected)
