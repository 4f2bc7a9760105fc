import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from timm_lp import lp_convert
from timm_lp.experiments.brain.alignment import align, sample_images
from timm_lp.experiments.brain.analysis import area_rsms
from timm_lp.experiments.brain.representations import layer_rsms
from timm_lp.experiments.brain.stimuli import network_input

from ...models.networks import create_base
from ...networks import Net, Shared, randomize
from .data import small_cortex


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


class _Uncalled(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def test_refuses_a_network_that_calls_no_convolution() -> None:
    with pytest.raises(ValueError, match=r"must run its convolutions as modules, got none that it calls\. Name others"):
        layer_rsms(_Uncalled(), _images(), centred=True)


def test_conversions_of_one_network_agree_alike_with_a_cortex() -> None:
    cortex = small_cortex(images=40).responses
    network = create_base("resnet18")
    images = network_input(cortex.images, network, 32)
    samples = sample_images(40, resamples=4, splits=1, permutations=1, seed=0)
    converted = {
        "base": network,
        "large": lp_convert(deepcopy(network), masked=False),
        **{f"lp{p}": lp_convert(deepcopy(network), p_init=p) for p in (2, 16)},
    }
    found = {
        variant: align(layer_rsms(model, images, centred=True), area_rsms(cortex), samples)
        for variant, model in converted.items()
    }
    assert len(found["base"].layers) == 13
    for alignment in found.values():
        # 780 pairs: two that rounding swaps change tau by 7e-6.
        np.testing.assert_allclose(alignment.tau, found["base"].tau, atol=1e-4)
        np.testing.assert_allclose(alignment.resampled, found["base"].resampled, atol=1e-4)


def test_damping_masks_change_the_similarities() -> None:
    network = randomize(Net())
    before = layer_rsms(network, _images(), centred=True)
    damped = lp_convert(network, preserve=False)
    assert np.abs(layer_rsms(damped, _images(), centred=True)["last"] - before["last"]).max() > 1e-3


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
