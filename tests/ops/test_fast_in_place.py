"""Outputs and gradients of `masked_conv2d` may be changed in place, as those of `nn.Conv2d`."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from timm_lp.layers import LpConv2d
from timm_lp.ops import runtime

from ..covering import covering
from .shapes import FORMATS, SHAPES, WAYS, build, is_fast, plain

MODES: dict[str, tuple[torch.dtype, Callable[[], Any]]] = {
    "float32": (torch.float32, contextlib.nullcontext),
    "bfloat16": (torch.bfloat16, contextlib.nullcontext),
    "autocast": (torch.float32, lambda: torch.autocast("cpu", torch.bfloat16)),
}
Mode = tuple[torch.dtype, Callable[[], Any]]
OPERATORS = ["3x3", "one_pixel", "depthwise", "1x1_large"]  # one for each: see `RULE`


def build_in(name: str, memory_format: torch.memory_format, dtype: torch.dtype) -> tuple[LpConv2d, Tensor]:
    layer, x = build(name, dtype)
    return layer.to(memory_format=memory_format), x.to(memory_format=memory_format).requires_grad_()


def assert_free(tensor: Tensor, *others: Tensor) -> None:
    """Check that a tensor is no view, and shares memory neither with others nor with what this thread uses again."""
    assert not tensor._is_view()
    taken = [*others, *runtime._thread.__dict__.values()]
    assert tensor.untyped_storage().data_ptr() not in {other.untyped_storage().data_ptr() for other in taken}


@covering(2, name=[*SHAPES], memory_format=FORMATS, mode=MODES, way=[*WAYS])
def test_outputs_and_gradients_are_no_views(
    name: str, memory_format: torch.memory_format, mode: Mode, way: str
) -> None:
    dtype, context = mode
    layer, x = build_in(name, memory_format, dtype)
    leaves = [x, *layer.parameters()]
    with WAYS[way]():
        with context():
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


@covering(2, name=OPERATORS, memory_format=FORMATS, mode=MODES, change=CHANGES, way=[*WAYS])
def test_an_output_changes_in_place(
    name: str, memory_format: torch.memory_format, mode: Mode, change: Callable[[Tensor], Tensor], way: str
) -> None:
    dtype, context = mode
    layer, x = build_in(name, memory_format, dtype)

    def step(copied: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        with context():
            output = change(copied(layer(x)))
        return (output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))

    with WAYS[way]():
        for value, reference in zip(step(lambda y: y), step(torch.clone), strict=True):
            assert torch.equal(value, reference)


@covering(2, name=OPERATORS, memory_format=FORMATS, mode=MODES)
def test_hooks_that_change_the_output(name: str, memory_format: torch.memory_format, mode: Mode) -> None:
    dtype, context = mode
    layer, x = build_in(name, memory_format, dtype)
    leaves = [x, *layer.parameters()]
    with context():
        output = layer(x)
        output.retain_grad()
        (2 * output).relu().sum().backward()
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None

    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, inputs, y: y.mul_(2))
    layer.register_full_backward_hook(lambda module, of_inputs, of_outputs: seen.extend(of_outputs))
    with context():
        layer(x).relu().sum().backward()
    torch.testing.assert_close(seen, [output.grad / 2])
    for leaf, reference in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, reference)


@covering(1, use_reentrant=[False, True], memory_format=FORMATS)
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


@covering(2, size=[1, 7, 8, 9], memory_format=FORMATS, mode=MODES)
def test_single_taps_before_an_activation_in_place(
    size: int, memory_format: torch.memory_format, mode: Mode
) -> None:
    dtype, context = mode
    block = nn.Sequential(LpConv2d(8, 16, 1), nn.ReLU(inplace=True)).to(dtype).to(memory_format=memory_format)
    with context():
        block(torch.ones(2, 8, size, size, dtype=dtype).to(memory_format=memory_format)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
