"""Convolutions of every shape, in one piece, in blocks or a tap at a time, compared with the plain formula.

By default a test takes few combinations of `SHAPES`, `WAYS` and `FORMATS` (see `tests/covering.py`), and `test_shapes`
counts what they reach.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from timm_lp.layers import LpConv2d
from timm_lp.ops import MaskCache, can_mask_fast, masked_kernel, operators, plain_conv2d, reach, schedule
from timm_lp.ops.runtime import memory_format_of
from timm_lp.ops.schedule import Schedule
from timm_lp.ops.window import Geometry

from ..layers.comparison import image, output_and_gradients, randomize, sides

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
# In and out channels, kernel, the other arguments of the layer, size of the map.
SHAPES: dict[str, tuple[int, int, Any, dict[str, Any], tuple[int, int]]] = {
    "3x3": (2, 3, 3, {"padding": 1}, (4, 5)),
    "map_smaller_than_kernel": (2, 3, 7, {"padding": 3}, (2, 3)),
    "one_pixel": (3, 2, 5, {"padding": 2}, (1, 1)),
    "one_pixel_even": (2, 2, 4, {"padding": 2}, (1, 1)),
    "few_positions": (2, 16, 5, {"padding": 2}, (2, 2)),
    "even": (2, 3, (4, 2), {"padding": (2, 1)}, (5, 3)),
    "one_channel": (1, 1, 3, {"padding": 1}, (6, 4)),
    "one_channel_in": (1, 5, 3, {"padding": 1, "bias": False}, (3, 4)),
    "one_channel_out": (5, 1, 3, {"padding": 1}, (3, 4)),
    "stride": (2, 5, 3, {"padding": 1, "stride": 2}, (6, 5)),
    "stride_uneven": (2, 3, (3, 5), {"padding": (1, 2), "stride": (1, 2)}, (3, 6)),
    "patchify": (3, 5, 4, {"stride": 4}, (9, 4)),
    "dilation": (2, 3, 3, {"padding": 2, "dilation": 2}, (4, 3)),
    "dilation_uneven": (2, 3, (3, 2), {"padding": (3, 1), "dilation": (3, 2), "stride": (2, 1)}, (4, 5)),
    "depthwise": (3, 3, 5, {"padding": 2, "groups": 3}, (4, 6)),
    "depthwise_15x15": (2, 2, 15, {"padding": 7, "groups": 2}, (9, 5)),
    "depthwise_15x15_stride": (2, 2, 15, {"padding": 7, "groups": 2, "stride": 2}, (9, 5)),
    "multiplier": (2, 4, 3, {"padding": 1, "groups": 2}, (4, 3)),
    "groups": (4, 6, (2, 3), {"padding": 1, "groups": 2}, (3, 4)),
    "1x1": (3, 5, 1, {}, (4, 3)),
    "1x1_large": (2, 3, 1, {"bias": False}, (8, 8)),
    "1x1_stride": (3, 2, 1, {"stride": 2}, (4, 3)),
    "1x1_padding": (2, 3, 1, {"padding": 1}, (8, 8)),
    "more_padding_than_needed": (2, 3, 3, {"padding": 4}, (2, 3)),
    "valid": (2, 3, (3, 2), {"padding": "valid"}, (4, 5)),
    "same": (2, 3, (3, 5), {"padding": "same"}, (4, 5)),
}
FORMATS = {"contiguous": CONTIGUOUS, "channels_last": LAST}
each_shape = pytest.mark.parametrize("name", SHAPES)


@contextmanager
def small_blocks() -> Iterator[None]:
    """Make every block one or two channels, and everything that is multiplied at a time too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "_BLOCK_BYTES", 1)
        patch.setattr(operators, "ONEDNN_CHANNELS", 2)
        patch.setattr(operators, "_MANY_TAPS_CHANNELS", 1)
        patch.setattr(operators, "_POINTWISE_PIXELS", 1)
        patch.setattr(masked_kernel, "_CHUNK_BYTES", 1)
        patch.setattr(schedule, "_WORTH_A_CONVOLUTION", -1)
        patch.setattr(reach, "ONEDNN_CHANNELS", 1)
        schedule.make_schedule.cache_clear()
        yield
    schedule.make_schedule.cache_clear()


@contextmanager
def tap_by_tap() -> Iterator[None]:
    """Convolve dense kernels a tap at a time where some taps meet padding, whatever is the fastest."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_TAP_NUMBERS", "_TAP_PRODUCTS", "_MOST_TAPS_OF_FEW_POSITIONS"):
            patch.setattr(operators, name, 1)
        patch.setattr(operators, "_MOST_TAPS_OF_A_CONTIGUOUS_KERNEL", 1)
        schedule.make_schedule.cache_clear()
        yield
    schedule.make_schedule.cache_clear()


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "whole": nullcontext,
    "blocks": small_blocks,
    "taps": tap_by_tap,
}


def build(name: str, dtype: torch.dtype = torch.float64, **more: Any) -> tuple[LpConv2d, Tensor]:
    in_channels, out_channels, kernel_size, arguments, size = SHAPES[name]
    layer = randomize(LpConv2d(in_channels, out_channels, kernel_size, **arguments, **more, dtype=dtype))
    assert isinstance(layer, LpConv2d)
    return layer, image(in_channels, size, dtype)


def geometry_of(layer: LpConv2d) -> Geometry:
    padding = tuple(before for before, _ in sides(layer))
    return Geometry(layer.stride, padding, layer.dilation, layer.groups)


def plain(layer: LpConv2d) -> Callable[[Tensor], Tensor]:
    """Return what a layer computes, in torch's own operators."""
    return lambda x: plain_conv2d(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry_of(layer))


def schedule_of(layer: LpConv2d, x: Tensor) -> Schedule:
    """Return how a layer convolves an input, in the dtype of both."""
    mask = MaskCache().get(layer.C, layer.log2p, layer.kernel_size)
    return schedule.make_schedule(
        tuple(x.shape),
        tuple(layer.weight.shape),
        mask.reach,
        mask.all_ones,
        geometry_of(layer),
        x.dtype,
        input_last=memory_format_of(x) is LAST,
        kernel_last=memory_format_of(layer.weight) is LAST,
    )


def is_fast(layer: LpConv2d, x: Tensor) -> bool:
    return can_mask_fast(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry_of(layer))


def assert_matches_plain(layer: LpConv2d, x: Tensor, tolerance: float = 1e-9) -> None:
    assert is_fast(layer, x)
    parameters = [*layer.parameters()]
    expected = output_and_gradients(plain(layer), x, *parameters)
    for value, reference in zip(output_and_gradients(layer, x, *parameters), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected[0], rtol=tolerance, atol=tolerance)
