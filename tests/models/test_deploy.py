"""Deployment: masks folded into plain convolutions, and exported networks that run without us."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from timm_lp import LpConv2d, lp_convert

from ..covering import covering
from ..processes import WarmPython
from .networks import NUM_CLASSES, assert_same, create_trained, images, randomize, stir


def converted_mobilenet() -> nn.Module:
    torch.manual_seed(0)
    base = timm.create_model("mobilenetv3_small_050", num_classes=NUM_CLASSES)
    return stir(lp_convert(randomize(base), 4.0)).eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: create_trained("lp2_resnet18"),
    "convnext_tiny": lambda: create_trained("lp2_convnext_tiny"),
    "densenet121": lambda: create_trained("lp16_densenet121"),
    "mobilenetv3": converted_mobilenet,
}

RUN_EXPORTED = """
import sys

sys.modules["timm_lp"] = sys.modules["timm"] = None  # importing them fails
import torch

x, expected = torch.load("expected.pt", weights_only=True)
torch.testing.assert_close(torch.export.load("model.pt2").module()(x), expected, rtol=1e-4, atol=1e-5)
"""


@torch.no_grad()
def run(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


@pytest.mark.parametrize("network", NETWORKS)
def test_reparameterized_network_is_plain(network: str) -> None:
    model = NETWORKS[network]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    merged = reparameterize_model(model)
    assert_same(run(merged, images()), run(model, images()))
    assert not any(type(module).__module__.startswith("timm_lp") for module in merged.modules())
    plain = {name for name, module in merged.named_modules() if type(module) is nn.Conv2d}
    assert {name for name, module in model.named_modules() if isinstance(module, LpConv2d)} <= plain
    assert not any(key.endswith((".C", ".log2p")) for key in merged.state_dict())

    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    with torch.no_grad():
        next(merged.parameters()).zero_()
    assert next(model.parameters()).any()
    expected = run(model, images())
    assert reparameterize_model(model, inplace=True) is model
    assert_same(run(model, images()), expected)


# Networks with blocks that merge their own branches for deployment, which must not hide the masks.
MERGING = ["efficientvit_m0", "levit_128s", "repvgg_a0", "mobileone_s0", "repghostnet_050", "shvit_s1"]


@covering(1, name=MERGING, arguments={"lp": {}, "same_size": {"kernel_scale": 1}, "large": {"masked": False}})
def test_blocks_with_a_merge_of_their_own(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = lp_convert(timm.create_model(name, num_classes=NUM_CLASSES), **arguments).eval()
    with torch.no_grad():  # gently: some of these networks amplify rounding with weights of any size
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.2 * torch.rand_like(tensor))
    x = torch.randn(1, *model.pretrained_cfg["input_size"])
    merged = reparameterize_model(model)
    expected = run(model, x)
    assert (run(merged, x) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not any(isinstance(module, LpConv2d) for module in merged.modules())
    assert pickle.loads(pickle.dumps(model)).state_dict().keys() == model.state_dict().keys()


def test_exported_program_runs_without_us(tmp_path: Path, python: WarmPython) -> None:
    merged = reparameterize_model(NETWORKS["convnext_tiny"]())
    torch.export.save(torch.export.export(merged, (images(),)), tmp_path / "model.pt2")
    torch.save((images(), run(merged, images())), tmp_path / "expected.pt")
    python("-c", RUN_EXPORTED, cwd=tmp_path)


def test_onnx_runs_without_us(tmp_path: Path) -> None:
    model = NETWORKS["resnet18"]()
    path = tmp_path / "model.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(reparameterize_model(model), (images(),), path, dynamo=True, dynamic_shapes=({0: batch},))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.cat([images(), -images()])
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_same(torch.from_numpy(actual), run(model, x))
