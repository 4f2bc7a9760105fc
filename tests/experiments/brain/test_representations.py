import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from timm_lp import lp_convert
from timm_lp.experiments.brain.representations import layer_rsms

from ...networks import Net, Shared, randomize


def _images(size: int = 8) -> Tensor:
    return torch.randn(10, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("centred", [True, False])
def test_is_numpys_correlation_of_what_each_convolution_returns(centred: bool) -> None:
    network = randomize(Net())
    rsms = layer_rsms(network, _images(), centred=centred)
    assert [*rsms] == ["stem", "block.conv", "last"]
    with torch.no_grad():
        stem = network.stem(_images())
        activities = network.block.conv(stem).flatten(1).double().numpy()
    expected = np.corrcoef(activities - activities.mean(0) if centred else activities)
    np.testing.assert_allclose(rsms["block.conv"], expected, atol=1e-6)


def test_splits_many_units_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomize(Net())
    whole = layer_rsms(network, _images(16), centred=True)
    monkeypatch.setattr("timm_lp.experiments.brain.representations._CHUNK", 5)
    for layer, rsm in layer_rsms(network, _images(16), centred=True).items():
        np.testing.assert_allclose(rsm, whole[layer], atol=1e-10)


def test_evaluates_and_leaves_no_hook() -> None:
    network = Net()
    before = network.block.norm.running_mean.clone()
    layer_rsms(network.train(), _images(), centred=True)
    assert torch.equal(network.block.norm.running_mean, before)
    assert not any(module._forward_hooks for module in network.modules())


def test_takes_the_layers_that_are_named() -> None:
    assert [*layer_rsms(Net(), _images(), ["head", "block"], centred=True)] == ["block", "head"]


def test_a_layer_that_runs_again_is_another_layer() -> None:
    assert [*layer_rsms(Shared(), _images(), centred=True)] == ["conv", "conv (2)", "conv (3)"]


@pytest.mark.parametrize("p", [2.0, 16.0, None])
def test_a_conversion_that_changes_no_function_changes_no_similarity(p: float | None) -> None:
    network = randomize(Net())
    before = layer_rsms(network, _images(), centred=True)
    converted = lp_convert(network, masked=False) if p is None else lp_convert(network, p_init=p)
    for layer, rsm in layer_rsms(converted, _images(), centred=True).items():
        np.testing.assert_allclose(rsm, before[layer], atol=1e-4)


class _Odd(nn.Module):
    """Has layers whose output has no row for each image, or nothing in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.merged = nn.Flatten(0, 1)
        self.pair = nn.LSTM(6, 2)
        self.unused = nn.Identity()
        self.silent = nn.Threshold(1e9, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.silent(self.conv(x)) + self.conv(x)
        self.pair(x[:, 0])
        return self.merged(x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["stem"], "`--layers` must name modules of the network, got stem. Its convolutions: conv."),
        ([""], "`--layers` must name modules of the network, got ."),
        (["merged"], "a row for each of 10 images, got merged with (20, 6, 6). Choose another layer."),
        (["pair"], "a row for each of 10 images, got pair with tuple."),
        (["unused"], "`--layers` must name modules that the network runs, got unused. Leave them out."),
        (["silent"], "values that are finite and vary, got others from silent."),
    ],
)
def test_refuses_layers_that_cannot_be_compared(layers: list[str], message: str) -> None:
    network = _Odd()
    with pytest.raises(ValueError, match=re.escape(message)):
        layer_rsms(network, _images(), layers, centred=True)
    assert not any(module._forward_hooks for module in network.modules())


def test_refuses_a_network_without_convolutions() -> None:
    with pytest.raises(ValueError, match=r"must have convolutions, got none\. Name other modules by --layers\."):
        layer_rsms(nn.Flatten(), _images(), centred=True)


def test_refuses_weights_that_are_no_numbers() -> None:
    network = Net()
    nn.init.constant_(network.stem.weight, float("nan"))
    with pytest.raises(ValueError, match="finite and vary, got others from stem"):
        layer_rsms(network, _images(), centred=True)
