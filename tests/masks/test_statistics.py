import math
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from timm_lp import LpConv2d
from timm_lp.masks import conformation_matrix
from timm_lp.masks.statistics import LayerMasks, Spread, layer_masks, median, orientation_shares, pool, summarize

from .networks import TINY, trained


def _layer(fqn: str = "conv", count: int = 4, p_init: float = 2.0, sigma_init: float = 1.5) -> LayerMasks:
    """Return masks of a layer as they start."""
    C = torch.eye(2).double().repeat(count, 1, 1) / sigma_init
    log2p = torch.full((count,), math.log2(p_init), dtype=torch.float64)
    return LayerMasks(fqn, (7, 7), p_init, (sigma_init,) * 2, C, log2p)


def _with(gamma: list[float], theta: list[float], p: list[float]) -> LayerMasks:
    """Return masks of this conformation, in a layer that started with p = 2."""
    C = conformation_matrix(4.0, torch.tensor(gamma), torch.tensor(theta))
    return LayerMasks("conv", (15, 15), 2.0, (3.5, 3.5), C, torch.tensor(p).double().log2())


def test_spread() -> None:
    assert Spread.of(torch.tensor([[1.0, 4.0], [2.0, 8.0]])) == (1.0, 3.0, 8.0)
    assert Spread.over([torch.tensor([1.0, 2.0]), torch.tensor([9.0])]) == (1.0, 2.0, 9.0)
    assert str(Spread(1.23456, 2, 20)) == "1.23 to 20"
    assert str(Spread(2.0, 2.0, 2.0)) == "2"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([4.0, 1.0, 3.0, 2.0], 2.5),
        ([1.0, *[math.inf] * 3], math.inf),
        ([7.0], 7.0),
    ],
)
def test_median(values: list[float], expected: float) -> None:
    assert median(torch.tensor(values)) == expected


def test_median_of_nothing_or_of_the_unknown() -> None:
    assert math.isnan(median(torch.tensor([])))
    assert math.isnan(median(torch.tensor([1.0, math.nan, 2.0])))


def test_masks_of_a_network() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(LpConv2d(3, 3, (5, 7), p_init=4.0)))
    layer = model[1][0]
    with torch.no_grad():
        layer.log2p.copy_(torch.tensor([0.0, -1.0, 3.0]))  # below 0 it is reflected
        layer.C.copy_(torch.stack([torch.eye(2) / sigma for sigma in (1.0, 2.0, 4.0)]))
    (masks,) = layer_masks(model)
    assert (masks.fqn, masks.kernel_size, len(masks)) == ("1.0", (5, 7), 3)
    assert (masks.p_init, masks.sigma_init) == (4.0, (1.25, 1.75))
    assert masks.p.tolist() == [1, 2, 8]
    assert masks.p_change.tolist() == [0.25, 0.5, 2]
    assert masks.sigma.tolist() == [[1, 1], [2, 2], [4, 4]]
    assert masks.sigma_change[1].tolist() == pytest.approx([2 / 1.25, 2 / 1.75])
    torch.testing.assert_close(masks.mask(), layer.mask().detach().double(), rtol=1e-5, atol=1e-6)
    assert not masks.are_alike
    assert masks.pick([2, 2]).are_alike
    assert masks.pick([2, 0]).p.tolist() == [8, 1]
    values = (*masks.conformation, masks.left_angle, masks.radius, masks.radius_in_kernel)
    assert all(value.dtype == torch.float64 and value.shape == (3,) for value in values)


def test_layers_are_in_the_networks_order() -> None:
    assert layer_masks(timm.create_model("large_resnet18", **TINY)) == []
    names = [layer.fqn for layer in layer_masks(timm.create_model("lp2_resnet18", **TINY))]
    assert names[0] == "conv1"
    assert names.index("layer2.0.conv2") + 1 == names.index("layer2.0.downsample.0")  # as in the paper's Table 6


@pytest.mark.parametrize("name", ["C", "log2p"])
def test_masks_that_diverged_are_refused(name: str) -> None:
    model = nn.Sequential(LpConv2d(1, 2, 3))
    with torch.no_grad():
        getattr(model[0], name)[1] = math.nan
    with pytest.raises(ValueError, match=r"`model` must have finite masks, got nan or inf in 0\. Did its training"):
        layer_masks(model)


def test_new_masks_and_others() -> None:
    for name in ("lp2_resnet18", "lp256f_resnet18"):
        assert all(layer.are_new for layer in layer_masks(timm.create_model(name, **TINY)))
    layer = _layer()
    assert layer.are_new
    assert not _layer(p_init=4.0).pick([0]).p_moved.any()
    turned = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64) / 1.5  # as wide, but another box at p = 16
    assert not replace(layer, C=torch.cat([layer.C[:3], turned[None]])).are_new
    assert not replace(layer, log2p=layer.log2p + 1e-4).are_new
    assert replace(layer, log2p=layer.log2p + 1e-6).are_new


def test_pooled_trials() -> None:
    networks = [layer_masks(trained(timm.create_model("lp2_resnet18", **TINY), seed)) for seed in (1, 2)]
    together = pool(networks)
    assert len(together) == len(networks[0])
    for layer, one, other in zip(together, *networks, strict=True):
        assert len(layer) == 2 * len(one)
        assert torch.equal(layer.C, torch.cat([one.C, other.C]))
        assert torch.equal(layer.log2p, torch.cat([one.log2p, other.log2p]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([_layer("other")], r"got conv \(4 masks, 7x7, p from 2, sigma from 1.5x1.5\) in one and other \(4 masks"),
        ([_layer(count=5)], r"in one and conv \(5 masks, 7x7"),
        ([_layer(p_init=4.0)], r"in one and conv \(4 masks, 7x7, p from 4,"),
        ([_layer(sigma_init=2.0)], r"in one and conv \(4 masks, 7x7, p from 2, sigma from 2x2\) in another\. Look"),
        ([_layer(), _layer("b")], r"`networks` must have the same layers .* got 1 layers in one and 2 in another"),
    ],
)
def test_networks_that_cannot_be_pooled(other: list[LayerMasks], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool([[_layer()], other])


def test_summary() -> None:
    layer = _with([1.0, 1.1, 2.0, 4.0, 8.0], [0.0, 0.0, 10.0, 170.0, 80.0], [2.0, 2.0, 1.5, 2.5, 2.2])
    line = summarize([layer])
    assert (line.layer, line.kernel, line.masks, line.p_init) == ("conv", "15x15", 5, 2.0)
    assert line.p_median == pytest.approx(2.0)
    assert line.p_std == pytest.approx(math.sqrt(sum((p - 2.04) ** 2 for p in (2.0, 2.0, 1.5, 2.5, 2.2)) / 5))
    assert line.p_moved == pytest.approx(0.6)
    assert line.alpha == pytest.approx(4.0)
    assert line.gamma == pytest.approx(2.0)
    assert line.gamma_max == pytest.approx(8.0)
    assert line.elongated == pytest.approx(0.4)
    assert (line.oriented, line.horizontal, line.vertical) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert line.radius == pytest.approx(median(layer.radius))
    assert line.radius_in_kernel == pytest.approx(median(layer.radius_in_kernel))


def test_summary_of_new_masks() -> None:
    line = summarize(layer_masks(timm.create_model("lp16_resnet18", **TINY))[:1])
    assert (line.p_median, line.p_std, line.p_moved) == (16, 0, 0)
    assert line.gamma == pytest.approx(1)
    assert line.oriented == 0
    assert math.isnan(line.horizontal)
    assert math.isnan(line.vertical)


def test_summary_of_several_layers() -> None:
    line = summarize([_layer("a", 3), _with([2.0], [0.0], [3.0])], "both")
    assert (line.layer, line.kernel, line.masks, line.p_moved) == ("both", "7x7, 15x15", 4, 0.25)
    with pytest.raises(ValueError, match=r"`layers` must have one start of p, got \[2\.0, 4\.0\]\. Summarize them one"):
        summarize([_layer(), _layer(p_init=4.0)])


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        ([0.0, 15.0, 165.0, 179.9], (1.0, 0.0)),
        ([15.1, 74.9, 105.1, 164.9], (0.0, 0.0)),
        ([75.0, 90.0, 105.0, 45.0], (0.0, 0.75)),
    ],
)
def test_what_is_near_horizontal_and_vertical(theta: list[float], expected: tuple[float, float]) -> None:
    gamma = torch.tensor([1.3, 2.0, 5.0, math.inf])
    assert orientation_shares(gamma, torch.tensor(theta)) == expected
    with_round = torch.cat([gamma, torch.tensor([1.0, 1.1])])
    assert orientation_shares(with_round, torch.tensor([*theta, math.nan, 0.0])) == expected
