"""Derivatives of `masked_conv2d` beyond the first backward pass."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor

from timm_lp.layers import LpConv2d
from timm_lp.ops import MaskCache, masked_conv2d, plain_conv2d

from ..layers.comparison import image, randomize, seeded
from .shapes import build, each_shape, geometry_of, plain

# torch's own code for forward-mode differentiation uses what torch deprecates.
ignore_script = pytest.mark.filterwarnings("ignore:`torch.jit.script`")


def test_backward_twice_and_through_two_layers() -> None:
    first, second = (randomize(LpConv2d(2, 2, 5, padding=2, dtype=torch.float64)) for _ in range(2))
    leaves = [*first.parameters(), *second.parameters()]
    x = image(2, (3, 4), torch.float64)
    loss = second(first(second(x)).relu()).square().sum()
    reference = plain(second)(plain(first)(plain(second)(x)).relu()).square().sum()
    expected = torch.autograd.grad(reference, leaves)
    for keep in (True, False):
        values = torch.autograd.grad(loss, leaves, retain_graph=keep)
        for value, gradient in zip(values, expected, strict=True):
            torch.testing.assert_close(value, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("in_channels", "arguments"),
    [(1, {"padding": 1}), (2, {"padding": (2, 1), "stride": (1, 2)}), (2, {"groups": 2, "padding": 1})],
    ids=str,
)
def test_gradgradcheck(in_channels: int, arguments: dict[str, Any]) -> None:
    layer = randomize(LpConv2d(in_channels, 2, (3, 2), p_init=3, **arguments, dtype=torch.float64))
    x = image(in_channels, (2, 3), torch.float64)[:1].requires_grad_()
    tensors = (x, layer.weight, layer.bias, layer.C, layer.log2p)

    def convolve(*tensors: Tensor) -> Tensor:
        return masked_conv2d(*tensors, geometry_of(layer), MaskCache())

    assert torch.autograd.gradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(convolve, tensors)


@each_shape
def test_gradients_of_gradients_match_the_plain_formula(name: str) -> None:
    layer, x = build(name)
    leaves = [x.requires_grad_(), *layer.parameters()]

    def second(convolve: Callable[[Tensor], Tensor]) -> list[Tensor]:
        # The input and the loss depend on the leaves in other ways, too.
        gradients = torch.autograd.grad(convolve(x * x).square().sum(), leaves, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in gradients)
        return [*gradients, *torch.autograd.grad(penalty, leaves)]

    for value, reference in zip(second(layer), second(plain(layer)), strict=True):
        torch.testing.assert_close(value.detach(), reference.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_batched_gradients(name: str) -> None:
    layer, x = build(name)
    leaves = [x.requires_grad_(), *layer.parameters()]
    reference = plain(layer)(x)
    directions = torch.randn(4, *reference.shape, generator=seeded(), dtype=torch.float64)
    expected = torch.autograd.grad(reference, leaves, directions, is_grads_batched=True)
    values = torch.autograd.grad(layer(x), leaves, directions, is_grads_batched=True)
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@ignore_script
@pytest.mark.parametrize("name", ["3x3", "depthwise", "1x1_large"])
def test_torch_func(name: str) -> None:
    layer, x = build(name)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    tangents = {key: torch.ones_like(value) for key, value in parameters.items()}

    def fast(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))

    def slow(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return plain_conv2d(x, p["weight"], p.get("bias"), p["C"], p["log2p"], geometry_of(layer))

    def results(convolve: Callable[[dict[str, Tensor], Tensor], Tensor]) -> list[Any]:
        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return convolve(parameters, x).square().sum()

        each = torch.func.vmap(torch.func.grad(loss), (None, 0))
        return [
            torch.func.grad(loss)(parameters, x),
            torch.func.vmap(convolve, (None, 0))(parameters, x[:, None]),
            each(parameters, x[:, None]),
            torch.func.jvp(convolve, (parameters, x), (tangents, torch.ones_like(x))),
            torch.func.grad(lambda *p: torch.func.jvp(loss, p, (tangents, torch.ones_like(x)))[1])(parameters, x),
        ]

    torch.testing.assert_close(results(fast), results(slow), rtol=1e-9, atol=1e-9)


@ignore_script
def test_forward_mode() -> None:
    layer, x = build("3x3")

    def tangent(convolve: Callable[[Tensor], Tensor]) -> Tensor:
        with fwAD.dual_level():
            return fwAD.unpack_dual(convolve(fwAD.make_dual(x, torch.ones_like(x)))).tangent

    torch.testing.assert_close(tangent(layer), tangent(plain(layer)))
