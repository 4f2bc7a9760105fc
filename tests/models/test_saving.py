"""What timm saves of a network that was changed after timm built it: pruned, with another head, in a larger one."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import prune

from timm_lp import LpConv2d, lp_convert, lp_merge
from timm_lp.models import saving

from ..networks import randomize

WARNING = "timm.create_model cannot build the ResNet again that is saved in"


def small(**kwargs: int) -> nn.Module:
    torch.manual_seed(0)
    return randomize(timm.create_model("test_resnet", num_classes=7, **kwargs))


def narrow(model: nn.Module) -> nn.Module:
    """Remove half of a block's channels, as tools for structured pruning do."""
    block = model.layer1[0]
    width = block.conv1.out_channels // 2
    block.conv1 = nn.Conv2d(block.conv1.in_channels, width, 3, padding=1, bias=False)
    block.bn1 = type(block.bn1)(width)
    block.conv2 = nn.Conv2d(width, block.conv2.out_channels, 3, padding=1, bias=False)
    return model


def pruned(model: nn.Module) -> nn.Module:
    prune.l1_unstructured(model.layer1[0].conv1, "weight", 0.5)
    return model


def pruned_for_good(model: nn.Module) -> nn.Module:
    prune.remove(pruned(model).layer1[0].conv1, "weight")
    return model


def with_stride(model: nn.Module) -> nn.Module:
    """Give the stem another stride, which no weight tells."""
    model.conv1[0].stride = (1, 1)
    return model


def with_classifier(model: nn.Module) -> nn.Module:
    model.reset_classifier(3, "max")
    return model


def with_head(model: nn.Module) -> nn.Module:
    model.fc = nn.Sequential(nn.Linear(model.num_features, 4), nn.ReLU(), nn.Linear(4, 2))
    return model


def by_hand(model: nn.Module) -> nn.Module:
    model.conv1[0] = LpConv2d.from_conv2d(model.conv1[0])
    return model


def wrapped(model: nn.Module) -> nn.Module:
    return nn.Sequential(model, nn.Linear(7, 2))


KEPT: dict[str, Callable[[], nn.Module]] = {
    "pruned for good": lambda: lp_convert(pruned_for_good(small())),
    "pruned for good, later": lambda: pruned_for_good(lp_convert(small())),
    "another classifier": lambda: lp_convert(with_classifier(small())),
    "another classifier, later": lambda: with_classifier(lp_convert(small(), masked=False)),
    "part of a larger network": lambda: wrapped(lp_convert(small()))[0],
    "converted in a larger network": lambda: lp_convert(wrapped(small()), 4, trainable_mask=False)[0],
    "merged in a larger network": lambda: lp_merge(lp_convert(wrapped(small()), 16).eval(), crop=True)[0],
}
LOST: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "pruned": (lambda: pruned(lp_convert(small())), "layer1.0.conv1.weight, layer1.0.conv1.weight_orig, "),
    "pruned, earlier": (lambda: lp_convert(pruned(small())), "layer1.0.conv1.weight, layer1.0.conv1.weight_orig, "),
    "narrower": (lambda: lp_convert(narrow(small())), "layer1.0.conv1.weight, layer1.0.conv1.log2p, "),
    "narrower, large": (lambda: lp_convert(narrow(small()), masked=False), "layer1.0.conv1.weight, layer1.0.bn1"),
    "another stride": (lambda: lp_convert(with_stride(small())), "conv1.0."),
    "another head": (lambda: with_head(lp_convert(small())), "fc.weight, fc.bias, fc.0.weight and 3 more"),
    "a layer by hand": (lambda: by_hand(small()), "conv1.0.weight, conv1.0, conv1.0.log2p and 1 more"),
}


@pytest.mark.parametrize("kind", KEPT)
@torch.no_grad()
def test_what_can_be_kept_is_kept(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = KEPT[kind]().eval()
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    assert not [message for message in caplog.messages if "cannot build" in message]
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(images), model(images))


@pytest.mark.parametrize("kind", LOST)
def test_what_is_lost_is_said_when_it_is_saved(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "timm_lp.models.saving")
    build, difference = LOST[kind]
    model, state = build(), torch.get_rng_state()
    caplog.clear()
    timm.models.save_for_hf(model, str(tmp_path))
    (message,) = caplog.messages
    assert message.startswith(f"{WARNING} {tmp_path}: it has another {difference}")
    assert ("lp_convert(network, conversion=" in message) == (kind != "a layer by hand")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_advice_brings_it_back(tmp_path: Path) -> None:
    model = with_head(lp_convert(narrow(small()), p_init=16))
    timm.models.save_for_hf(model, str(tmp_path))
    note = json.loads((tmp_path / "config.json").read_text())["model_args"]["conversion"]
    again = lp_convert(with_head(narrow(small())), conversion=note)
    again.load_state_dict(torch.load(tmp_path / "pytorch_model.bin"))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_a_larger_network_and_its_parts_have_a_note_each() -> None:
    model = nn.ModuleDict({"net": small(), "other": small(), "stem": nn.Conv2d(3, 3, 3)})
    lp_convert(model, filter_fn=lambda module, fqn: not fqn.startswith("other"))
    assert model.lp_conversion["layers"] == [*(f"net.{layer}" for layer in model.net.lp_conversion["layers"]), "stem"]
    assert model.net.pretrained_cfg["architecture"] == "lp_test_resnet"
    assert model.other.pretrained_cfg["architecture"] == "test_resnet"
    assert not hasattr(model.other, "lp_conversion")


def test_networks_of_timm_are_saved_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timm.models.save_for_hf(with_head(small()), str(tmp_path))
    assert not caplog.messages


def test_what_timm_pushes_is_checked_too() -> None:
    assert timm.models.push_to_hf_hub.__globals__["save_for_hf"] is timm.models.save_for_hf
    assert timm.models.save_for_hf.__wrapped__ is saving.save_for_hf


def test_a_network_that_is_being_pruned_cannot_be_merged() -> None:
    model = pruned(lp_convert(small()))
    with pytest.raises(ValueError, match=r"ResNet that cannot \(RuntimeError\)\. Where it is pruned, call torch"):
        lp_merge(model)
