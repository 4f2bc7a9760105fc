from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from timm_lp.masks import conformation_matrix, gallery
from timm_lp.masks.gallery import draw_gallery, draw_shapes, evenly, mosaic
from timm_lp.masks.group import Group
from timm_lp.masks.networks import demonstration
from timm_lp.masks.statistics import LayerMasks


def test_mosaic() -> None:
    masks = torch.arange(3.0)[:, None, None, None] + torch.tensor([[0.0, 0.25, 0.5], [0.1, 0.2, 0.3]])
    array = mosaic(masks, columns=2)
    assert array.shape == (2 * 8 + 1, 2 * 12 + 1)  # each tap is 4 by 4, for the gap to be one
    assert array[8].isnan().all()
    assert array[:, 12].isnan().all()
    assert array[9:, 13:].isnan().all()
    taps = array[2:8:4, 2:12:4]
    assert torch.equal(taps, masks[0, 0])
    assert torch.equal(array[2:8:4, 15::4], masks[1, 0])
    assert torch.equal(array[11::4, 2:12:4], masks[2, 0])


@pytest.mark.parametrize(("theta", "is_horizontal"), [(0.0, True), (90.0, False)])
def test_a_mask_looks_as_theta_says(theta: float, is_horizontal: bool) -> None:
    layer = LayerMasks("conv", (9, 9), 2.0, (2.0, 2.0), conformation_matrix(4.0, 3.0, theta), torch.ones(1).double())
    bright = mosaic(layer.mask(), columns=8) > 0.3
    height, width = int(bright.any(dim=1).sum()), int(bright.any(dim=0).sum())
    assert (width > 2 * height) == is_horizontal
    assert (height > 2 * width) != is_horizontal


def test_evenly() -> None:
    assert evenly([1, 2, 3], 3) == [1, 2, 3]
    assert evenly(list(range(101)), 5) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("layers", [1, 8])
def test_picture(layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "_MAX_LAYERS", 6)
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    group = demonstration()
    draw_gallery(replace(group, layers=group.layers[:layers]), tmp_path / "gallery.png")
    (figure,) = figures
    monkeypatch.undo()
    figure.savefig(tmp_path / "gallery.png", dpi=100)
    with Image.open(tmp_path / "gallery.png") as image:
        assert image.width == 460
        assert image.height <= 900
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20
    drawn = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert drawn[0] == group.layers[0].fqn
    assert len(drawn) == min(layers, 6)
    assert drawn[-1] == group.layers[layers - 1].fqn
    assert ("(6 of 8 layers)" in figure.get_suptitle()) == (layers == 8)


def test_picture_of_degenerate_masks(tmp_path: Path) -> None:
    C = torch.zeros(3, 2, 2, dtype=torch.float64)
    C[1, 0, 0] = 1e3
    C[2] = torch.eye(2) * 1e6
    layer = LayerMasks("conv", (2, 4), 2.0, (2.0, 2.0), C, torch.ones(3).double())
    assert layer.radius_in_kernel.isnan().any()
    draw_gallery(Group("odd", ("odd",), [layer]), tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").stat().st_size > 0


def test_shapes(tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes.png")
    with Image.open(tmp_path / "shapes.png") as image:
        assert image.width == 920
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 100
