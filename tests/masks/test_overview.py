import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from timm_lp import LpConv2d
from timm_lp.masks.overview import draw_overview
from timm_lp.masks.statistics import layer_masks

from .networks import TINY, trained


@pytest.mark.parametrize("prepare", [trained, lambda model: model], ids=["trained", "untrained"])
def test_picture(prepare: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    draw_overview(layer_masks(prepare(timm.create_model("lp2_resnet18", **TINY))), tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as image:
        assert 700 <= image.width <= 1200
        assert 400 <= image.height <= 1300
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20
    assert (tmp_path / "masks.png").stat().st_size < 2**20


def test_training_changes_the_picture(tmp_path: Path) -> None:
    model = timm.create_model("lp2_resnet18", **TINY)
    for name in ("before", "again"):
        draw_overview(layer_masks(model), tmp_path / name)
    draw_overview(layer_masks(trained(model)), tmp_path / "after")
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "before.png").read_bytes() != (tmp_path / "after.png").read_bytes()


def test_picture_of_many_layers_stays_small(tmp_path: Path) -> None:
    model = trained(nn.Sequential(*(LpConv2d(2, 2, size) for size in (3, 5, 7) for _ in range(20))))
    draw_overview(layer_masks(model), tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as image:
        assert image.height <= 1500


def test_picture_survives_degenerate_masks(tmp_path: Path) -> None:
    model = trained(nn.Sequential(LpConv2d(2, 4, 5)))
    with torch.no_grad():
        model[0].C[0].zero_()
        model[0].C[1, 1] = 0
    (layer,) = layer_masks(model)
    assert layer.sigma.isinf().any()
    assert layer.conformation.gamma.isinf().any()
    draw_overview([layer], tmp_path / "masks.png")
    with torch.no_grad():
        model[0].C.zero_()
    draw_overview(layer_masks(model), tmp_path / "masks.png")


def test_no_picture_without_masks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`layers` must be those of a network with masks, got none"):
        draw_overview(layer_masks(timm.create_model("large_resnet18", **TINY)), tmp_path / "masks.png")
    assert not any(tmp_path.iterdir())


def test_numbers_need_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    layers = layer_masks(timm.create_model("lp2_resnet18", **TINY))
    assert len(layers) == 13
    with pytest.raises(ImportError, match="matplotlib"):
        draw_overview(layers, tmp_path / "masks.png")
