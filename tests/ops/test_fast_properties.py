from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from timm_lp.layers import LpConv2d
from timm_lp.ops import plain_conv2d
from timm_lp.ops.window import output_size

from ..layers.comparison import output_and_gradients, seeded
from .shapes import LAST, WAYS, geometry_of, is_fast

pixels, taps, few = st.integers(1, 9), st.integers(1, 7), st.integers(1, 3)


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """Draw a layer, the map of a size that its kernel fits on, and how both are laid out."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    group_in, group_out = draw(few), draw(few)
    if groups > 1 and draw(st.booleans()):
        group_in = group_out = 1
    kernel_size = draw(st.one_of(st.just((1, 1)), st.tuples(taps, taps)))
    padding = tuple(draw(st.integers(0, k)) for k in kernel_size)
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    shortest = [max(d * (k - 1) + 1 - 2 * p, 1) for k, p, d in zip(kernel_size, padding, dilation, strict=True)]
    return {
        "layer": {
            "in_channels": groups * group_in,
            "out_channels": groups * group_out,
            "kernel_size": kernel_size,
            "stride": draw(st.one_of(st.just((1, 1)), st.tuples(few, few))),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "bias": draw(st.booleans()),
        },
        "images": draw(few),
        "size": tuple(extent - 1 + draw(pixels) for extent in shortest),
        "log2p": draw(st.floats(-8, 8)),
        "C": draw(st.lists(st.sampled_from([-1.5, -0.5, 0.0, 0.2, 0.9, 2.5]), min_size=4, max_size=4)),
        "narrowest": draw(st.sampled_from([1.0, 4.0])),
        "in_channels_last": draw(st.sampled_from([(), ("input",), ("weight",), ("input", "weight")])),
        "way": draw(st.sampled_from([*WAYS])),
        "seed": draw(st.integers(0, 9)),
    }


def draw_layer(case: dict[str, Any]) -> tuple[LpConv2d, Tensor]:
    """Return the layer and the map of a case, in float64."""
    generator = seeded(case["seed"])
    layer = LpConv2d(**case["layer"], dtype=torch.float64)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            if parameter is not None:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        channels = torch.linspace(0, 1, layer.out_channels, dtype=torch.float64)
        widths = 1 + (case["narrowest"] - 1) * channels.view(-1, 1, 1)
        layer.C.copy_(torch.tensor(case["C"], dtype=torch.float64).view(2, 2) * widths)
        layer.log2p.copy_(case["log2p"] * (1 - 0.7 * channels))
    x = torch.randn(case["images"], layer.in_channels, *case["size"], generator=generator, dtype=torch.float64)
    if "weight" in case["in_channels_last"]:
        layer = layer.to(memory_format=LAST)
    if "input" in case["in_channels_last"]:
        x = x.to(memory_format=LAST)
    return layer, x


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(case=cases())
def test_matches_the_plain_formula(case: dict[str, Any]) -> None:
    layer, x = draw_layer(case)
    geometry, parameters = geometry_of(layer), [*layer.parameters()]
    assert min(output_size(case["size"], layer.kernel_size, geometry)) > 0
    assert is_fast(layer, x)

    expected = output_and_gradients(
        lambda x: plain_conv2d(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry), x, *parameters
    )
    with WAYS[case["way"]]():
        values = output_and_gradients(layer, x, *parameters)
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)
