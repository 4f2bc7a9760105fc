import pytest
import timm
import torch
from torch import nn

from timm_lp import LpConv2d
from timm_lp.masks.statistics import Spread, mask_statistics

from .networks import TINY


def test_spread() -> None:
    assert Spread.of(torch.tensor([[1.0, 4.0], [2.0, 8.0]])) == (1.0, 3.0, 8.0)
    assert Spread.over([torch.tensor([1.0, 2.0]), torch.tensor([9.0])]) == (1.0, 2.0, 9.0)
    assert str(Spread(1.23456, 2, 20)) == "1.23 to 20"
    assert str(Spread(2.0, 2.0, 2.0)) == "2"


def test_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(LpConv2d(3, 3, (5, 7))))
    layer = model[1][0]
    with torch.no_grad():
        layer.log2p.copy_(torch.tensor([0.0, 1.0, 3.0]))
        layer.C.copy_(torch.stack([torch.eye(2) / sigma for sigma in (1.0, 2.0, 4.0)]))
    (statistics,) = mask_statistics(model)
    assert (statistics.fqn, statistics.kernel_size, statistics.channels) == ("1.0", (5, 7), 3)
    assert statistics.p == pytest.approx((1, 2, 8))
    assert statistics.sigma == pytest.approx((1, 2, 4))


def test_statistics_of_a_network_without_masks() -> None:
    assert mask_statistics(timm.create_model("large_resnet18", **TINY)) == []
