from typing import Any

import pytest
import torch

from timm_lp.layers import LpConv2d
from timm_lp.ops.masked_kernel import Range, block_ranges
from timm_lp.ops.reach import Reach, reach_of
from timm_lp.ops.schedule import Schedule, make_schedule
from timm_lp.ops.window import Geometry, Window

from ..covering import covering
from ..layers.comparison import image, output_and_gradients, randomize
from .shapes import FORMATS, LAST, geometry_of, plain, small_blocks

WHOLE, INNER = Window(0, 7, 0, 7), Window(2, 5, 2, 5)
SAME = Geometry((1, 1), (3, 3), (1, 1), 1)


def make(reach: Reach, size: tuple[int, ...] = (4, 64, 28, 28), groups: int = 1, all_ones: bool = False) -> Schedule:
    geometry, shape = SAME._replace(groups=groups), (64, 64 // groups, 7, 7)
    return make_schedule(size, shape, reach, all_ones, geometry, torch.float32, input_last=False, kernel_last=False)


def _whole(out_channels: int, window: Window) -> tuple[Range, ...]:
    return block_ranges(out_channels, window.size[0], (out_channels, window.size[0]))


def test_outlier_channels_are_convolved_by_themselves() -> None:
    main, outliers = make(Reach(WHOLE, INNER, 16)).parts
    assert (main.window, main.geometry.padding, main.ranges) == (INNER, (1, 1), _whole(64, INNER))
    assert (outliers.window, outliers.geometry.padding, outliers.ranges) == (WHOLE, (3, 3), _whole(16, WHOLE))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(make(Reach(WHOLE, WHOLE, 0)), id="none"),
        pytest.param(make(Reach(WHOLE, INNER, 60)), id="too_many"),
        pytest.param(make(Reach(WHOLE, INNER, 16), (1, 64, 6, 6)), id="a_small_map"),
        pytest.param(make(Reach(WHOLE, INNER, 16), groups=2), id="groups"),
    ],
)
def test_where_that_saves_nothing_all_are_convolved_at_once(made: Schedule) -> None:
    assert [part.window for part in made.parts] == [WHOLE]


def test_where_masks_are_one() -> None:
    assert make(Reach(WHOLE, WHOLE, 0), all_ones=True).main.all_ones
    main, outliers = make(Reach(WHOLE, INNER, 16), all_ones=True).parts
    assert main.all_ones
    assert not outliers.all_ones
    # A small map, where all taps are convolved at once and the outer ones are not 1.
    assert not make(Reach(WHOLE, INNER, 16), (1, 64, 6, 6), all_ones=True).main.all_ones


OUTLIERS: dict[str, tuple[Any, dict[str, Any], tuple[int, int]]] = {
    "padding": (9, {"padding": 4}, (11, 12)),
    "little_padding": ((7, 9), {"padding": (2, 3)}, (10, 13)),
    "stride": (9, {"padding": 4, "stride": 2}, (13, 12)),
    "dilation": (7, {"padding": 6, "dilation": 2}, (17, 15)),
    "even": (8, {"padding": 4}, (11, 12)),
    "map_smaller_than_kernel": (9, {"padding": 4}, (5, 6)),
}


@covering(2, shape=OUTLIERS, memory_format=FORMATS, needs=["all", "weight", "masks", "input"])
def test_few_channels_with_wide_masks(
    shape: tuple[Any, dict[str, Any], tuple[int, int]], memory_format: torch.memory_format, needs: str
) -> None:
    kernel_size, arguments, size = shape
    layer = randomize(LpConv2d(3, 12, kernel_size, **arguments, dtype=torch.float64))
    assert isinstance(layer, LpConv2d)
    outliers = torch.tensor([2, 3, 9])
    with torch.no_grad():
        layer.log2p.fill_(4)
        layer.C.copy_(torch.eye(2) / 1.5 + 0.01 * layer.C)
        layer.C[outliers] *= torch.tensor([0.5, 0.6, 0.4])[:, None, None]
    x = image(3, size, torch.float64).to(memory_format=memory_format)
    with small_blocks():
        found, channels = reach_of(layer.mask())
        assert channels is not None
        assert torch.equal(channels, outliers)
        shapes = (tuple(x.shape), tuple(layer.weight.shape))
        chosen = make_schedule(
            *shapes, found, False, geometry_of(layer), x.dtype, input_last=memory_format is LAST, kernel_last=False
        )
        assert chosen.outliers is not None
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(
                {"all": True, "weight": name == "weight", "masks": name in ("C", "log2p"), "input": False}[needs]
            )
        parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        expected = output_and_gradients(plain(layer), x, *parameters)
        for value, reference in zip(output_and_gradients(layer, x, *parameters), expected, strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            for _ in range(3):
                torch.testing.assert_close(layer(x), expected[0], rtol=1e-9, atol=1e-9)
