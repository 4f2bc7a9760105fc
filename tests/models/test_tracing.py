"""Whole networks through torch's tracers, as timm's own networks go through them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from timm_lp import LpConv2d

from ..covering import covering
from .networks import SMALL, assert_same, create_trained, images, seed

# The head of timm's VGG, which is also AlexNet's, asks for the size of its input.
SYMBOLIC = [arch for arch in SMALL if not arch.startswith(("vgg16", "alexnet"))]


def move_masks(model: nn.Module) -> None:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LpConv2d):
                module.C.mul_(1.1)
                module.log2p.add_(0.1)


def output_and_gradients(network: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor) -> list[Tensor]:
    with seed():
        output = network(x)
    return [output.detach(), *torch.autograd.grad(output.square().mean(), [*model.parameters()])]


def assert_follows(traced: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor) -> None:
    """Compare values and gradients, before and after the masks have changed."""
    for _ in range(2):
        values, expected = (output_and_gradients(network, model, x) for network in (traced, model))
        for value, other in zip(values, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6)
        move_masks(model)


def build(arch: str) -> tuple[nn.Module, Tensor]:
    """Return a network and images in float64, in which the gradients in front of a norm are 0 for sure."""
    return create_trained(f"lp2_{arch}").double(), images(arch).double()


@covering(1, arch=SYMBOLIC, training={"eval": False, "train": True})
def test_symbolic_trace(arch: str, training: bool) -> None:
    model, x = build(arch)
    traced = torch.fx.symbolic_trace(model.train(training))
    assert dict(traced.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert_follows(traced, model, x)


@pytest.mark.parametrize("arch", ["resnet18", "convnextv2_tiny"])
def test_make_fx(arch: str) -> None:
    model, x = build(arch)
    assert_follows(make_fx(model)(x), model, x)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize("arch", ["resnet18", "convnext_tiny"])
def test_jit_trace(arch: str) -> None:
    model, x = build(arch)
    assert_follows(torch.jit.trace(model, (x,)), model, x)


@pytest.mark.parametrize(
    ("arch", "layer"), [("resnet18", "layer1.0.conv1"), ("densenet121", "features.conv0"), ("replknet31", "stages.2")]
)
def test_torchvision_extracts_features(arch: str, layer: str) -> None:
    model = create_trained(f"lp2_{arch}")
    assert any(name.startswith(layer) for name in get_graph_node_names(model)[1])
    extractor = create_feature_extractor(model, return_nodes={layer: "features"})
    seen: list[Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda module, args, output: seen.append(output))
    for _ in range(2):
        with torch.no_grad():
            model(images(arch))
            assert_same(extractor(images(arch))["features"], seen.pop())
        move_masks(model)


def test_fusing_a_norm_into_a_convolution() -> None:
    model = create_trained("lp2_resnet18")
    conv, norm = model.conv1, model.bn1
    assert isinstance(conv, LpConv2d)
    x = images()
    with torch.no_grad():
        expected = norm(conv(x))
        fused = fuse_conv_bn_eval(conv, norm)
        assert_same(fused(x), expected)
        assert isinstance(fused, LpConv2d)
        assert torch.equal(fused.mask(), conv.mask())
