import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from timm_lp import LpConv2d
from timm_lp.masks import show, table
from timm_lp.masks.overview import draw_overview
from timm_lp.masks.statistics import layer_masks

from .networks import TINY, trained


def test_a_network_in_memory(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), LpConv2d(4, 2, 5))
    draw_overview(layer_masks(model), tmp_path / "written.png")
    show(model).savefig(tmp_path / "shown.png", dpi=200, metadata={"Software": None})
    assert (tmp_path / "shown.png").read_bytes() == (tmp_path / "written.png").read_bytes()
    lines = table(model).splitlines()
    assert [line.split("|")[1:4] for line in lines[2:]] == [[" 1     ", " 5x5    ", "     2 "]]
    assert table(model)._repr_html_().count("<tr>") == 2
    for function in (show, table):
        with pytest.raises(ValueError, match="`model` must have LpConv2d layers, got Conv2d without"):
            function(nn.Conv2d(3, 4, 3))


def test_pictures_before_and_after_training(tmp_path: Path) -> None:
    model = timm.create_model("lp2_resnet18", **TINY)
    for name in ("before", "again"):
        draw_overview(layer_masks(model), tmp_path / name)
    draw_overview(layer_masks(trained(model)), tmp_path / "after")
    before, again, after = ((tmp_path / f"{name}.png").read_bytes() for name in ("before", "again", "after"))
    assert before == again != after
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.width == 920
            assert 400 <= image.height <= 3300
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 20
        assert path.stat().st_size < 2**20


def test_picture_of_many_layers_stays_small(tmp_path: Path) -> None:
    model = trained(nn.Sequential(*(LpConv2d(2, 2, size) for size in (3, 5, 7) for _ in range(20))))
    draw_overview(layer_masks(model), tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as image:
        assert image.height <= 3300


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


def test_no_picture_without_masks_or_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="`layers` must be those of a network with masks, got none"):
        draw_overview(layer_masks(timm.create_model("large_resnet18", **TINY)), tmp_path / "masks.png")
    layers = layer_masks(timm.create_model("lp2_resnet18", **TINY))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="matplotlib"):
        draw_overview(layers, tmp_path / "masks.png")
    assert not any(tmp_path.iterdir())
