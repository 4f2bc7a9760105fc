import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from hub_export.mask_report import Spread, draw_masks, mask_statistics
from timm_lp import LpConv2d

TINY = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "num_classes": 3}


def trained(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LpConv2d):
                layer.C.add_(0.1 * layer.C.abs().max() * torch.randn(layer.C.shape, generator=generator))
                layer.log2p.add_(0.1 * torch.randn(layer.log2p.shape, generator=generator))
    return model


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


@pytest.mark.parametrize("prepare", [trained, lambda model: model], ids=["trained", "untrained"])
def test_picture(prepare: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    draw_masks(prepare(timm.create_model("lp2_resnet18", **TINY)), tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as image:
        assert 700 <= image.width <= 1200
        assert 400 <= image.height <= 1300
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20
    assert (tmp_path / "masks.png").stat().st_size < 2**20


def test_training_changes_the_picture(tmp_path: Path) -> None:
    model = timm.create_model("lp2_resnet18", **TINY)
    for name in ("before", "again"):
        draw_masks(model, tmp_path / name)
    draw_masks(trained(model), tmp_path / "after")
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "before.png").read_bytes() != (tmp_path / "after.png").read_bytes()


def test_picture_of_many_layers_stays_small(tmp_path: Path) -> None:
    model = trained(nn.Sequential(*(LpConv2d(2, 2, size) for size in (3, 5, 7) for _ in range(20))))
    draw_masks(model, tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as image:
        assert image.height <= 1500


def test_picture_survives_degenerate_masks(tmp_path: Path) -> None:
    model = trained(nn.Sequential(LpConv2d(2, 4, 5)))
    with torch.no_grad():
        model[0].C[0].zero_()
    assert math.isinf(mask_statistics(model)[0].sigma.max)
    draw_masks(model, tmp_path / "masks.png")


def test_no_picture_without_masks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`model` must have LpConv2d layers, got ResNet without"):
        draw_masks(timm.create_model("large_resnet18", **TINY), tmp_path / "masks.png")
    assert not any(tmp_path.iterdir())


def test_statistics_need_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    model = timm.create_model("lp2_resnet18", **TINY)
    assert len(mask_statistics(model)) == 13
    with pytest.raises(ImportError, match="matplotlib"):
        draw_masks(model, tmp_path / "masks.png")
