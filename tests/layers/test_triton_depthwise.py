"""The Triton kernels, in Triton's interpreter.

It has to be switched on before Triton is imported, so that another process runs all cases, which this module's
`main` writes as JSON; the tests read it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from timm_lp.layers.window import Geometry

REPOSITORY = Path(__file__).parents[2]
SMALL_BLOCKS = {"_ROWS": 2, "_OUTPUTS": 8, "_GRADIENT_STEP": 8, "_GRADIENT_PIXELS": 64}
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-3}


class Case(NamedTuple):
    size: tuple[int, int, int, int]
    kernel_size: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    bias: bool = False
    dtype: torch.dtype = torch.float32
    small_blocks: bool = False
    strided: bool = False


CASES = {
    "7x7": Case((2, 3, 5, 9), (7, 7), (3, 3), bias=True),
    "7x7_small_blocks": Case((5, 2, 5, 9), (7, 7), (3, 3), small_blocks=True),
    "even": Case((1, 2, 10, 8), (8, 8), (4, 4)),
    "even_no_padding": Case((2, 2, 10, 9), (8, 8), (0, 0), bias=True),
    "one_channel": Case((2, 1, 9, 6), (7, 7), (3, 3)),
    "one_image": Case((1, 2, 6, 9), (9, 9), (4, 4), bias=True),
    "no_image": Case((0, 2, 6, 9), (9, 9), (4, 4), bias=True),
    "dilation": Case((2, 2, 8, 11), (7, 7), (6, 6), (2, 2), bias=True),
    "dilation_wide_small_blocks": Case((1, 1, 5, 38), (3, 9), (2, 4), (3, 2), small_blocks=True),
    "wide_small_blocks": Case((3, 1, 4, 37), (3, 7), (1, 3), bias=True, small_blocks=True),
    "wide_31_columns": Case((1, 1, 3, 40), (3, 31), (1, 15)),
    "step_of_one_tap": Case((1, 1, 2, 72), (3, 18), (1, 9)),
    "map_smaller_than_kernel": Case((2, 2, 3, 2), (13, 11), (6, 5)),
    "one_pixel": Case((1, 1, 1, 1), (7, 7), (3, 3)),
    "31x31": Case((1, 1, 12, 10), (31, 31), (15, 15), bias=True),
    "51x5": Case((1, 1, 9, 8), (51, 5), (25, 2)),
    "more_padding_than_kernel": Case((1, 2, 6, 5), (7, 7), (8, 9), bias=True),
    "strided": Case((2, 2, 5, 6), (7, 7), (3, 3), strided=True),
    "float16": Case((2, 2, 9, 5), (7, 7), (3, 3), bias=True, dtype=torch.float16),
}


def run(case: Case) -> dict[str, list[Any]]:
    """Return, for the value and each gradient, the error relative to the largest number, the size and the dtype."""
    from timm_lp.layers import triton_depthwise

    channels = case.size[1]
    geometry = Geometry((1, 1), case.padding, case.dilation, channels)
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(case.dtype)

    input, kernel = random(*case.size), random(channels, 1, *case.kernel_size)
    bias = random(channels) if case.bias else None
    if case.strided:
        input = input.contiguous(memory_format=torch.channels_last)
        larger = random(channels, 1, *(k + 2 for k in case.kernel_size))
        kernel = larger[..., 1:-1, 1:-1]
    exact_input, exact_kernel = (tensor.double().requires_grad_() for tensor in (input, kernel))
    exact = F.conv2d(exact_input, exact_kernel, None if bias is None else bias.double(), *geometry)
    grad_output = random(*exact.shape)
    exact.backward(grad_output.double())

    whole = slice(0, channels)
    value = triton_depthwise.convolve(input, [(whole, kernel)], bias, geometry)
    grad_input = triton_depthwise.input_gradient(grad_output, [(whole, kernel)], input.shape, geometry)
    (grad_kernel,) = triton_depthwise.kernel_gradient(input, grad_output, tuple(kernel.shape), [whole], geometry)
    results = {"value": (value, exact.detach()), "input": (grad_input, exact_input.grad)}
    results["kernel"] = (grad_kernel, exact_kernel.grad)
    return {name: [error(*pair), list(pair[0].shape), str(pair[0].dtype)] for name, pair in results.items()}


def error(value: Tensor, exact: Tensor) -> float:
    if value.shape != exact.shape:
        return float("inf")
    largest = exact.abs().amax().item() if exact.numel() else 0.0
    return (value - exact).abs().amax().item() / (largest or 1.0) if exact.numel() else 0.0


def refusals() -> dict[str, str]:
    from timm_lp.layers import triton_depthwise

    input, kernel = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 7, 7)
    strided, geometry = Geometry((1, 2), (3, 3), (1, 1), 1), Geometry((1, 1), (3, 3), (1, 1), 1)
    blocks = [(slice(0, 1), kernel)]
    calls: dict[str, Callable[[], Any]] = {
        "stride": lambda: triton_depthwise.convolve(input, blocks, None, strided),
        "stride_input": lambda: triton_depthwise.input_gradient(input[..., ::2], blocks, input.shape, strided),
        "stride_kernel": lambda: next(
            triton_depthwise.kernel_gradient(input, input[..., ::2], kernel.shape, [slice(0, 1)], strided)
        ),
        "dtype": lambda: triton_depthwise.convolve(input.double(), blocks, None, geometry),
    }
    messages = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as refusal:
            messages[name] = str(refusal)
    return messages


@contextmanager
def blocks_of(sizes: dict[str, int]) -> Iterator[None]:
    from timm_lp.layers import triton_depthwise

    saved = {name: getattr(triton_depthwise, name) for name in sizes}
    vars(triton_depthwise).update(sizes)
    try:
        yield
    finally:
        vars(triton_depthwise).update(saved)


def main() -> None:
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        with blocks_of(SMALL_BLOCKS if case.small_blocks else {}):
            results[name] = run(case)
    print(json.dumps({"cases": results, "refusals": refusals()}))  # noqa: T201


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    pytest.importorskip("triton", reason="Triton is not installed.")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "error", "-m", "tests.layers.test_triton_depthwise"]
    process = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("quantity", ["value", "input", "kernel"])
@pytest.mark.parametrize("name", CASES)
def test_matches_float64(interpreted: dict[str, Any], name: str, quantity: str) -> None:
    case = CASES[name]
    difference, size, dtype = interpreted["cases"][name][quantity]

    assert difference < TOLERANCES[case.dtype]
    assert dtype == str(case.dtype)
    if quantity == "input":
        assert tuple(size) == case.size


@pytest.mark.parametrize("name", ["stride", "stride_input", "stride_kernel"])
def test_refuses_strides(interpreted: dict[str, Any], name: str) -> None:
    assert "`geometry` must have a stride of 1, got (1, 2)." in interpreted["refusals"][name]


def test_refuses_other_dtypes(interpreted: dict[str, Any]) -> None:
    assert "`input` must be float32, float16 or bfloat16, got torch.float64." in interpreted["refusals"]["dtype"]


if __name__ == "__main__":
    main()
