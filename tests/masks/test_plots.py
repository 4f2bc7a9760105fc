from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from matplotlib.figure import Figure
from PIL import Image

from timm_lp.masks.group import Group
from timm_lp.masks.networks import demonstration
from timm_lp.masks.plots import plot_conformation, plot_p
from timm_lp.masks.statistics import layer_masks

from .networks import TINY


def _new(name: str = "lp2_resnet18") -> Group:
    return Group(name, (name,), layer_masks(timm.create_model(name, **TINY)))


def _degenerate() -> Group:
    group = demonstration()
    C = group.layers[0].C.clone()
    C[:100] = 0
    C[100:150, 0] = 0
    return replace(group, layers=[replace(group.layers[0], C=C), group.layers[1]])


def _many_layers() -> Group:
    group = demonstration()
    return replace(group, layers=[layer.pick([0, 1]) for layer in group.layers] * 2)


def _one_mask() -> Group:
    group = demonstration()
    return replace(group, layers=[group.layers[-1].pick([0])])


@pytest.mark.parametrize("group", [_new, _degenerate, _many_layers, _one_mask])
def test_pictures(group: Callable[[], Group], tmp_path: Path) -> None:
    plot_conformation(group(), tmp_path / "conformation.png")
    plot_p([group()], tmp_path / "p.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.width == 920
            assert 400 <= image.height <= 3000
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 20


def test_p_of_several_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    plot_p([_new(), _new("lp16_resnet18")], tmp_path / "p.png")
    (figure,) = figures
    overall, by_layer = figure.axes
    low, high = overall.get_ylim()
    assert low < 2 < 16 < high
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lp2_resnet18", "lp16_resnet18"]
    medians = [line.get_ydata() for line in by_layer.lines if len(line.get_xdata()) == 13]
    assert [set(values) for values in medians] == [{2.0}, {16.0}]


def test_the_start_is_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    group = demonstration()
    far = [replace(layer, p_init=16.0, sigma_init=(30.0, 40.0)) for layer in group.layers]
    plot_p([replace(group, layers=far)], tmp_path / "p.png")
    plot_conformation(replace(group, layers=far), tmp_path / "conformation.png")
    p, conformation = figures
    assert p.axes[0].get_ylim()[1] > 16
    assert conformation.axes[0].get_ylim()[1] > 50


def test_where_a_mask_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    group = demonstration()
    plot_conformation(group, tmp_path / "conformation.png")
    *_, rotation, directions = figures[0].axes
    oriented = [layer.conformation.gamma > 1.2 for layer in group.layers]
    theta = [layer.conformation.theta[keep] for layer, keep in zip(group.layers, oriented, strict=True)]
    for place, (expected, dots) in enumerate(zip(theta, rotation.collections, strict=True), start=1):
        positions = torch.as_tensor(dots.get_offsets())
        torch.testing.assert_close(positions[:, 1], expected)
        assert ((positions[:, 0] - place).abs() < 0.5).all()
    angles = [torch.as_tensor(dots.get_offsets())[:, 0] for dots in directions.collections]
    torch.testing.assert_close(torch.cat(angles[::2]), torch.deg2rad(torch.cat(theta)))
    torch.testing.assert_close(torch.cat(angles[1::2]), torch.deg2rad(torch.cat(theta) + 180))
