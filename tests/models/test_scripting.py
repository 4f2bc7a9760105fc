"""torch.jit.script takes every network of ours, with masks, without, and merged, as it takes timm's own."""

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import set_scriptable
from timm.utils import reparameterize_model
from torch import Tensor, nn

from timm_lp import lp_convert

from ..processes import WarmPython
from .networks import (
    NUM_CLASSES,
    SMALL,
    assert_same,
    create,
    create_trained,
    every_architecture,
    images,
    randomize,
    stir,
)

pytestmark = [
    pytest.mark.usefixtures("narrow_classics"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
]

# The networks that timm lacks, and two of timm's own.
UNMASKED = ("alexnet", "replknet31", "large_resnet18", "large_convnextv2_tiny")


def assert_scriptable(model: nn.Module, x: Tensor) -> None:
    scripted = torch.jit.script(model)
    for training in (False, True):
        with torch.no_grad():
            torch.manual_seed(0)
            expected = model.train(training)(x)
            torch.manual_seed(0)
            assert_same(scripted.train(training)(x), expected)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(prefix + arch, marks=[] if prefix + arch in UNMASKED else pytest.mark.exhaustive)
        for prefix in ("", "large_")
        for arch in SMALL
    ],
)
def test_a_network_without_masks(name: str) -> None:
    torch.manual_seed(0)
    assert_scriptable(randomize(create(name)), images(name))


@every_architecture
def test_a_network_with_masks(arch: str) -> None:
    model, x = create_trained(f"lp2_{arch}"), images(arch)
    model(x)  # Masks are kept now, which must not be scripted.
    assert_scriptable(model, x)


def test_a_frozen_network_with_masks() -> None:
    model, x = create_trained("lp2_convnext_tiny"), images()
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.script(model))
        for _ in range(3):  # torch optimizes what it has run
            assert_same(frozen(x), model(x))


@pytest.mark.parametrize("arch", ["densenet121", "replknet31"])
def test_a_merged_network(arch: str) -> None:
    assert_scriptable(reparameterize_model(create_trained(f"lp2_{arch}")), images(arch))


def test_a_converted_network_of_timm_with_a_block_that_merges_itself() -> None:
    torch.manual_seed(0)
    model = stir(lp_convert(randomize(timm.create_model("repvgg_a0", num_classes=NUM_CLASSES)), p_init=4))
    assert_scriptable(model, images())


@pytest.mark.parametrize("arch", ["resnet18", "convnext_tiny"])
def test_a_network_that_timm_builds_for_scripting(arch: str) -> None:
    with set_scriptable(True):
        models = [create(f"lp16_{arch}"), create(f"lp2_{arch}", scriptable=True)]
    for model in models:
        assert_scriptable(stir(randomize(model)), images(arch))


def test_training() -> None:
    model, x = create_trained("lp2_resnet18").train(), images()
    scripted = torch.jit.script(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(4):  # torch optimizes what it has run
        expected, values = (
            torch.autograd.grad(network(x).square().sum(), [*network.parameters()]) for network in (model, scripted)
        )
        for value, reference in zip(values, expected, strict=True):
            assert (value - reference).abs().max() <= 1e-3 * reference.abs().max()
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            parameter.grad = gradient
        optimizer.step()


RUN = """
import sys
for name in ("timm", "timm_lp"):
    sys.modules[name] = None
import torch
for file in ("scripted", "frozen"):
    model, (x, expected) = torch.jit.load(f"{file}.pt"), torch.load("expected.pt")
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
"""


def test_a_scripted_network_runs_without_us(tmp_path: Path, python: WarmPython) -> None:
    model, x = create_trained("lp2_convnext_tiny"), images()
    scripted = torch.jit.script(model)
    scripted.save(tmp_path / "scripted.pt")
    torch.jit.freeze(scripted).save(tmp_path / "frozen.pt")
    with torch.no_grad():
        torch.save((x, model(x)), tmp_path / "expected.pt")
    python("-c", RUN, cwd=tmp_path)
