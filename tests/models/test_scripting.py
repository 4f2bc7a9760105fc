"""torch.jit.script takes every network of ours that has no masks, as it takes timm's own."""

import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn

from timm_lp.models import ARCHITECTURES

from .networks import NUM_CLASSES, SMALL, assert_same, create_trained, images, randomize

pytestmark = [
    pytest.mark.usefixtures("narrow_classics"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script"),
]

ALIKE = {"resnet34": "resnet18", "replknet31_base": "replknet31", "replknet31_large": "replknet31"}
UNMASKED = [
    prefix + architecture.name
    for architecture in ARCHITECTURES
    if architecture.name in SMALL or not architecture.name.endswith("_small_stem")
    for prefix in (("", "large_") if architecture.name.startswith(("alexnet", "replknet")) else ("large_",))
]


def assert_scriptable(model: nn.Module, arch: str) -> None:
    x = images(arch)
    for training in (False, True):
        scripted = torch.jit.script(model.train(training))
        with torch.no_grad():
            torch.manual_seed(0)
            expected = model(x)
            torch.manual_seed(0)
            assert_same(scripted(x), expected)


@pytest.mark.parametrize("name", UNMASKED)
def test_a_network_without_masks(name: str) -> None:
    arch = name.removeprefix("large_")
    torch.manual_seed(0)
    model = randomize(timm.create_model(name, num_classes=NUM_CLASSES, **SMALL[ALIKE.get(arch, arch)]))
    assert_scriptable(model, arch)


@pytest.mark.parametrize("arch", ["alexnet", "resnet18", "densenet121", "convnext_tiny", "replknet31"])
def test_a_merged_network(arch: str) -> None:
    assert_scriptable(reparameterize_model(create_trained(f"lp2_{arch}")), arch)
