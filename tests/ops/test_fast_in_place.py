"""Outputs and gradients of `masked_conv2d` may be changed in place, as those of `nn.Conv2d`."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timm_lp.layers import LpConv2d
from timm_lp.ops import runtime

from .shapes import CONTIGUOUS, LAST, build, each_shape, is_fast, plain

MODES: dict[str, tuple[torch.dtype, Callable[[], Any]]] = {
    "float32": (torch.float32, contextlib.nullcontext),
    "bfloat16": (torch.bfloat16, contextlib.nullcontext),
    "autocast": (torch.float32, lambda: torch.autocast("cpu", torch.bfloat16)),
}
CASES = [(memory_format, *mode) for memory_format in (CONTIGUOUS, LAST) for mode in MODES.values()]
each_case = pytest.mark.parametrize(
    ("memory_format", "dtype", "mode"),
    CASES,
    ids=[f"{memory_format}-{mode}" for memory_format in ("contiguous", "channels_last") for mode in MODES],
)
# One for each operator: see `choose_operators`.
each_operator = pytest.mark.parametrize("name", ["3x3", "one_pixel", "depthwise", "1x1_large"])


def build_in(name: str, memory_format: torch.memory_format, dtype: torch.dtype) -> tuple[LpConv2d, Tensor]:
    layer, x = build(name, dtype)
    return layer.to(memory_format=memory_format), x.to(memory_format=memory_format).requires_grad_()


def assert_free(tensor: Tensor, *others: Tensor) -> None:
    """Check that a tensor is no view, and shares memory neither with others nor with what this thread uses again."""
    assert not tensor._is_view()
    taken = [*others, *runtime._thread.__dict__.values()]
    assert tensor.untyped_storage().data_ptr() not in {other.untyped_storage().data_ptr() for other in taken}


@each_shape
@pytest.mark.usefixtures("each_way")
def test_outputs_and_gradients_are_no_views(name: str) -> None:
    for memory_format, dtype, mode in CASES:
        layer, x = build_in(name, memory_format, dtype)
        leaves = [x, *layer.parameters()]
        with mode():
            assert is_fast(layer, x)
            output = layer(x)
            with torch.no_grad():
                evaluated = layer(x)
        assert_free(output, *leaves)
        assert_free(evaluated, *leaves)
        grad_output = torch.ones_like(output)
        for create_graph in (True, False):
            gradients = torch.autograd.grad(output, leaves, grad_output, create_graph=create_graph, retain_graph=True)
            for number, gradient in enumerate(gradients):
                assert_free(gradient, *leaves, grad_output, *gradients[:number])
        weight = torch.ones((), dtype=dtype, requires_grad=True)
        for tensor in (evaluated, *gradients):
            tensor.mul_(weight)  # torch refuses it for a view that was made while gradients were off


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: y.relu_(),
    "silu": lambda y: nn.functional.silu(y, inplace=True),
    "multiply": lambda y: y.mul_(1.5),
    "part": lambda y: y[:, 0].zero_() + y[:, 0],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@each_case
@each_operator
@pytest.mark.usefixtures("each_way")
def test_an_output_changes_in_place(
    name: str,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    mode: Callable[[], Any],
    change: Callable[[Tensor], Tensor],
) -> None:
    layer, x = build_in(name, memory_format, dtype)

    def step(own: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        with mode():
            output = change(own(layer(x)))
        return (output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))

    for value, reference in zip(step(lambda y: y), step(torch.clone), strict=True):
        assert torch.equal(value, reference)


@each_case
@each_operator
@pytest.mark.usefixtures("each_way")
def test_hooks_that_change_the_output(
    name: str, memory_format: torch.memory_format, dtype: torch.dtype, mode: Callable[[], Any]
) -> None:
    layer, x = build_in(name, memory_format, dtype)
    leaves = [x, *layer.parameters()]
    with mode():
        output = layer(x)
        output.retain_grad()
        (2 * output).relu().sum().backward()
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None

    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, inputs, y: y.mul_(2))
    layer.register_full_backward_hook(lambda module, of_inputs, of_outputs: seen.extend(of_outputs))
    with mode():
        layer(x).relu().sum().backward()
    torch.testing.assert_close(seen, [output.grad / 2])
    for leaf, reference in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, reference)


@pytest.mark.parametrize("memory_format", [CONTIGUOUS, LAST], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_with_an_operation_in_place(use_reentrant: bool, memory_format: torch.memory_format) -> None:
    layer, x = build_in("1x1_large", memory_format, torch.float64)
    leaves = [*layer.parameters()]
    expected = torch.autograd.grad(plain(layer)(x).relu().sum(), leaves)
    block = nn.Sequential(layer, nn.ReLU(inplace=True))
    torch.utils.checkpoint.checkpoint(block, x, use_reentrant=use_reentrant).sum().backward()
    for leaf, reference in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, reference)


def test_the_output_of_a_frozen_layer() -> None:
    layer, x = build("1x1_large")
    layer.requires_grad_(False)
    weight = torch.ones((), dtype=x.dtype, requires_grad=True)
    output = layer(x)
    assert not output.requires_grad
    output.mul_(weight).sum().backward()
    torch.testing.assert_close(weight.grad, plain(layer)(x).sum())


@each_case
@pytest.mark.parametrize("size", [1, 7, 8, 9])
def test_single_taps_before_an_activation_in_place(
    size: int, memory_format: torch.memory_format, dtype: torch.dtype, mode: Callable[[], Any]
) -> None:
    block = nn.Sequential(LpConv2d(8, 16, 1), nn.ReLU(inplace=True)).to(dtype).to(memory_format=memory_format)
    with mode():
        block(torch.ones(2, 8, size, size, dtype=dtype).to(memory_format=memory_format)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
