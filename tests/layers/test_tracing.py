"""One layer through torch's tracers: what they record is the plain formula, without a mask that was kept."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import aot_module, nop
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from timm_lp.layers import LpConv2d, lp_mask

from ..covering import covering
from .comparison import image, output_and_gradients, randomize

LAYERS: dict[str, dict[str, Any]] = {
    "dense": {"kernel_size": 5, "padding": 2},
    "depthwise": {"kernel_size": (7, 4), "padding": 3, "groups": 4, "stride": 2, "bias": False},
    "cropped": {"kernel_size": 9, "padding": "same", "p_init": 16, "sigma_init": 1.0},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
}
each_layer = pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)

State = dict[str, Tensor]


def build(arguments: dict[str, Any]) -> LpConv2d:
    layer = randomize(LpConv2d(4, 8, **arguments))
    assert isinstance(layer, LpConv2d)
    return layer


def expected(layer: LpConv2d, x: Tensor) -> Tensor:
    return layer._conv_forward(x, layer.masked_weight(), layer.bias)


def assert_follows(traced: Callable[[Tensor], Tensor], layer: LpConv2d) -> None:
    """Compare values and gradients, before and after the masks and the kernel have changed."""
    parameters = [*layer.parameters()]
    for _ in range(2):
        reference = output_and_gradients(lambda x: expected(layer, x), image(), *parameters)
        for value, other in zip(output_and_gradients(traced, image(), *parameters), reference, strict=True):
            torch.testing.assert_close(value, other, rtol=2e-5, atol=2e-5)
        with torch.no_grad():
            for parameter in (layer.C, layer.log2p, layer.weight):
                parameter.mul_(1.25)


@covering(1, arguments=LAYERS, nested=[False, True])
def test_symbolic_trace(arguments: dict[str, Any], nested: bool) -> None:
    layer = build(arguments)
    layer(image())  # What it keeps now must not be in the graph.
    traced = torch.fx.symbolic_trace(nn.Sequential(layer, nn.Identity()) if nested else layer)
    assert {name.rpartition(".")[2] for name in traced.state_dict()} >= {"weight", "C", "log2p"}
    assert_follows(traced, layer)


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_copies_of_a_symbolic_trace(copied: Callable[[nn.Module], nn.Module]) -> None:
    layer = build(LAYERS["dense"])
    twin = copied(torch.fx.symbolic_trace(layer))
    assert torch.equal(twin(image()), expected(layer, image()))
    before = layer(image())
    with torch.no_grad():
        twin.C.mul_(2)
    assert not torch.allclose(twin(image()), before)
    assert torch.equal(layer(image()), before)


@covering(1, arguments=LAYERS, tracing_mode=["real", "fake", "symbolic"], pre_dispatch=[False, True])
def test_make_fx_with_parameters_as_inputs(arguments: dict[str, Any], tracing_mode: str, pre_dispatch: bool) -> None:
    layer = build(arguments)
    layer(image())

    def call(parameters: State, x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))

    traced = make_fx(call, tracing_mode=tracing_mode, pre_dispatch=pre_dispatch)(
        dict(layer.named_parameters()), image()
    )
    assert_follows(lambda x: traced(dict(layer.named_parameters()), x), layer)


@covering(1, arguments=LAYERS, options=[{}, {"tracing_mode": "fake", "_allow_non_fake_inputs": True}])
def test_make_fx_of_a_layer(arguments: dict[str, Any], options: dict[str, Any]) -> None:
    layer = build(arguments)
    layer(image())
    assert_follows(make_fx(layer, **options)(image()), layer)


@each_layer
def test_make_fx_of_gradients(arguments: dict[str, Any]) -> None:
    layer = build(arguments)

    def gradients(convolve: Callable[[State, Tensor], Tensor]) -> Callable[[State, Tensor], list[Tensor]]:
        def call(parameters: State, x: Tensor) -> list[Tensor]:
            leaves = [value.detach().requires_grad_() for value in parameters.values()]
            loss = convolve(dict(zip(parameters, leaves, strict=True)), x).square().sum()
            return [*torch.autograd.grad(loss, leaves)]

        return call

    def fast(parameters: State, x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))

    parameters = dict(layer.named_parameters())
    traced = make_fx(gradients(fast))(parameters, image())
    for value, other in zip(traced(parameters, -image()), gradients(fast)(parameters, -image()), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-3)


def test_make_fx_of_a_backward_pass_alone() -> None:
    layer = build(LAYERS["dense"])
    parameters = [*layer.parameters()]
    output = layer(image())

    def backward(grad_output: Tensor) -> list[Tensor]:
        return [*torch.autograd.grad(output, parameters, grad_output, retain_graph=True)]

    grad_output = torch.ones_like(output)
    traced = make_fx(backward)(grad_output)
    for value, other in zip(traced(2 * grad_output), backward(2 * grad_output), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-3)


def test_aot_autograd() -> None:
    layer = build(LAYERS["dense"])
    assert_follows(aot_module(layer, nop), layer)


@covering(1, arguments=LAYERS, grad_mode={"grad": torch.enable_grad, "no_grad": torch.no_grad})
def test_a_fake_run_leaves_nothing_behind(arguments: dict[str, Any], grad_mode: Callable[[], Any]) -> None:
    layer, x = build(arguments), image()
    size = expected(layer, x).shape
    with FakeTensorMode(allow_non_fake_inputs=True), grad_mode():
        for _ in range(3):
            assert layer(x).shape == size
    assert_follows(layer, layer)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@each_layer
def test_jit_trace(arguments: dict[str, Any]) -> None:
    layer = build(arguments)
    layer(image())
    assert_follows(torch.jit.trace(layer, (image(),)), layer)


SCRIPTED: dict[str, dict[str, Any]] = {
    **LAYERS,
    "single_tap": {"kernel_size": 1, "bias": False},
    "uneven": {"kernel_size": (2, 3), "padding": "valid", "dilation": (1, 2), "sigma_init": (1, 2), "p_init": 4},
    "circular": {"kernel_size": 3, "padding": (1, 0), "padding_mode": "circular", "groups": 2},
}
ignore_deprecation = pytest.mark.filterwarnings("ignore:`torch.jit.script")


@ignore_deprecation
@covering(1, arguments=SCRIPTED, nested=[False, True])
def test_jit_script(arguments: dict[str, Any], nested: bool) -> None:
    layer = build(arguments)
    for _ in range(2):  # before and after a mask is kept
        assert_follows(torch.jit.script(nn.Sequential(layer, nn.Identity()) if nested else layer), layer)


@ignore_deprecation
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_jit_script_in_other_dtypes(dtype: torch.dtype) -> None:
    layer = build(LAYERS["dense"]).to(dtype)
    scripted, x = torch.jit.script(layer), image(dtype=dtype)
    assert torch.equal(scripted(x), expected(layer, x))


@ignore_deprecation
def test_jit_script_under_autocast() -> None:
    layer = build(LAYERS["dense"])
    scripted = torch.jit.script(layer)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(scripted(image()), expected(layer, image()))


@ignore_deprecation
@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 7), (1, 1)], ids=str)
def test_jit_script_of_the_mask(kernel_size: tuple[int, int]) -> None:
    layer = build({"kernel_size": kernel_size})
    scripted = torch.jit.script(lp_mask)
    for dtype in (torch.float32, torch.float64):
        C, log2p = layer.C.to(dtype), layer.log2p.to(dtype)
        assert torch.equal(scripted(C, log2p, kernel_size), lp_mask(C, log2p, kernel_size))
