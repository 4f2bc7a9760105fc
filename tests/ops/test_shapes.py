"""What the tests of operators reach by default: each operator in each dtype, memory format and geometry that it has."""

from itertools import product
from typing import Any

import torch

from ..covering import default_cases
from .shapes import LAST, SHAPES, WAYS, build, schedule_of
from .test_bfloat16 import test_every_shape_is_as_exact_as_torch as in_bfloat16
from .test_fast import test_float32_matches_float64 as in_float32
from .test_fast import test_matches_the_plain_formula_in_each_memory_format as in_float64
from .test_operators import CHANNELS, FAMILIES, GEOMETRIES, GROUPED, MEMORY_FORMATS, exists, family_of
from .test_operators import test_operators_match_torch as of_operators

FUNCTIONS = ("convolve", "input_gradient", "kernel_gradient")
ALL = {(family, function) for family in ("dense", "depthwise", "matmul", "pointwise", "taps") for function in FUNCTIONS}


def reached(test: Any, dtype: torch.dtype) -> set[tuple[str, str]]:
    """Return the functions of operators that a test of layers runs."""
    functions = set()
    for case in default_cases(test):
        layer, x = build(case["name"], dtype)
        if case.get("in_channels_last") in ("input", "both") or case.get("memory_format") is LAST:
            x = x.to(memory_format=LAST)
        if case.get("in_channels_last") in ("weight", "both") or case.get("memory_format") is LAST:
            layer = layer.to(memory_format=LAST)
        with WAYS[case["way"]]():
            parts = schedule_of(layer, x).parts
        functions |= {(family_of(getattr(part.operators, name)), name) for part in parts for name in FUNCTIONS}
    return functions


def test_layers_reach_every_operator_in_every_dtype() -> None:
    assert reached(in_float64, torch.float64) == ALL
    assert reached(in_float32, torch.float32) == ALL
    dense = {(family, function) for family, function in ALL if family in ("dense", "depthwise")}
    # In bfloat16 only the kernel's gradient is ever faster as a product; taps take kernels of which none meets a pixel.
    assert reached(in_bfloat16, torch.bfloat16) >= {*dense, ("matmul", "kernel_gradient")}


def test_layers_reach_every_shape_in_every_way() -> None:
    for test in (in_float32, in_float64, in_bfloat16):
        assert {case["name"] for case in default_cases(test)} == SHAPES.keys()
    cases = default_cases(in_float64)
    assert {(case["name"], case["way"]) for case in cases} == {(name, way) for name in SHAPES for way in WAYS}


def test_each_operator_meets_every_geometry_and_format() -> None:
    names = {id(value): name for table in (GEOMETRIES, CHANNELS, GROUPED) for name, value in table.items()}
    met = set()
    for case in default_cases(of_operators):
        family, geometry, channels, memory_format = (names.get(id(value), value) for value in case.values())
        met |= {(family, geometry), (family, channels), (family, memory_format)}
    expected = {(family, memory_format) for family in FAMILIES for memory_format in MEMORY_FORMATS}
    for family, geometry, channels in product(FAMILIES, GEOMETRIES, CHANNELS | GROUPED):
        if exists(family, geometry, channels):
            expected |= {(family, geometry), (family, channels)}
    assert met == expected
