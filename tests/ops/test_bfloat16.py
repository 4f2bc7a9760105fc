"""`masked_conv2d` in bfloat16: under autocast, and with parameters that are in bfloat16 themselves."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

from timm_lp.layers import LpConv2d
from timm_lp.ops import lp_mask, operators, scheduled
from timm_lp.ops.window import output_size

from ..covering import covering
from ..layers.comparison import image, output_and_gradients, randomize, seeded
from .shapes import FORMATS, SHAPES, WAYS, build, geometry_of, is_fast, plain
from .test_fast_properties import cases, draw_layer

BF16, F32 = torch.bfloat16, torch.float32
ROUNDING = 2.0**-8  # the largest relative error of a number that is rounded to bfloat16
ROUNDINGS = 5  # of the input, the kernel or the output's gradient, one convolution, the sum with another, and a reserve

Convolve = Callable[[Tensor], Tensor]
AUTOCAST, NATIVE = {"autocast": True, "bfloat16": False}, {"native": True, "emulated": False}
each_mode = pytest.mark.parametrize("autocast", AUTOCAST.values(), ids=AUTOCAST)


def set_cpu(patch: pytest.MonkeyPatch, native: bool) -> None:
    """Let the layers take this CPU for one that has instructions for bfloat16, or for one that has none."""
    for module in (scheduled, operators):
        patch.setattr(module, "computes_in_bfloat16", lambda: native)


@pytest.fixture(autouse=True)
def native_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cpu(monkeypatch, True)


def mode(autocast: bool) -> AbstractContextManager[None]:
    return torch.autocast("cpu", dtype=BF16, enabled=autocast)


def in_mode(convolve: Convolve, autocast: bool) -> Convolve:
    """Return a convolution that runs in a mode, forward pass only, as people use autocast."""

    def run(x: Tensor) -> Tensor:
        with mode(autocast):
            return convolve(x)

    return run


def in_dtype(layer: LpConv2d, x: Tensor, autocast: bool) -> tuple[LpConv2d, Tensor]:
    return (layer.float(), x.float()) if autocast else (layer.bfloat16(), x.bfloat16())


def magnitudes(layer: LpConv2d, x: Tensor) -> list[Tensor]:
    """Return what the output and each gradient are if every summand is taken with its magnitude, in float64.

    Rounding a factor of each summand, or their sum, moves the result by at most this times the rounding error.
    """
    exact = copy.deepcopy(layer).double()
    mask = lp_mask(exact.C, exact.log2p, exact.kernel_size)
    taps = mask[0].numel()
    each_tap = torch.eye(taps, dtype=torch.float64).view(taps, 1, *mask.shape[1:]).expand(taps, *mask.shape)
    slopes = torch.autograd.grad(mask, (exact.C, exact.log2p), each_tap, is_grads_batched=True)

    leaves = [x.double().abs(), exact.weight.detach().abs(), mask.detach()]
    for leaf in leaves:
        leaf.requires_grad_()
    output = exact._conv_forward(leaves[0], leaves[1] * leaves[2], None)
    weights = torch.randn(output.shape, generator=seeded(2), dtype=torch.float64).abs()
    of_x, of_weight, of_mask = torch.autograd.grad((output * weights).sum(), leaves)
    of_taps = of_mask.flatten(1).t()
    of_parameters = {
        "weight": of_weight,
        "bias": weights.sum(dim=(0, 2, 3)),
        "C": (slopes[0].abs() * of_taps[:, :, None, None]).sum(dim=0),
        "log2p": (slopes[1].abs() * of_taps).sum(dim=0),
    }
    output = output.detach() if exact.bias is None else output.detach() + exact.bias.detach().abs().view(-1, 1, 1)
    return [output, of_x, *(of_parameters[name] for name, _ in layer.named_parameters())]


def exact_values(layer: LpConv2d, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the output and the gradients of the plain formula in float64, and their magnitudes."""
    exact = copy.deepcopy(layer).double()
    return output_and_gradients(plain(exact), x.double(), *exact.parameters()), magnitudes(layer, x)


@cache
def exact_values_of_shape(name: str, autocast: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Return the exact values of a shape once: they depend on neither the memory format nor the CPU."""
    return exact_values(*in_dtype(*build(name), autocast))


def assert_as_exact_as_torch(
    layer: LpConv2d, x: Tensor, autocast: bool, exact: tuple[list[Tensor], list[Tensor]] | None = None
) -> None:
    """Compare with the plain formula in float64: neither the layer nor torch's convolution may be further from it."""
    expected, bounds = exact or exact_values(layer, x)
    with mode(autocast):
        assert is_fast(layer, x)
    for convolve in (layer, plain(layer)):
        values = output_and_gradients(in_mode(convolve, autocast), x, *layer.parameters())
        for value, reference, bound in zip(values, expected, bounds, strict=True):
            assert ((value.double() - reference).abs() <= ROUNDINGS * ROUNDING * bound + 1e-6).all()
    for value, dtype in zip(output_and_gradients(in_mode(layer, autocast), x), [BF16, x.dtype], strict=True):
        assert value.dtype == dtype


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(case=cases())
@each_mode
def test_is_as_exact_as_torch(case: dict[str, Any], autocast: bool) -> None:
    layer, x = in_dtype(*draw_layer(case), autocast)
    width = output_size(case["size"], layer.kernel_size, geometry_of(layer))[1]
    multiplies_channels = layer.groups == layer.in_channels < layer.out_channels
    assume(not (multiplies_channels and width == 1 and layer.stride[1] > 1))  # torch 2.14 is wrong in channels_last
    with WAYS[case["way"]]():
        assert_as_exact_as_torch(layer, x, autocast)


@covering(
    2,
    name=[*SHAPES],
    memory_format=FORMATS,
    native=NATIVE,
    autocast=AUTOCAST,
    way=["whole", "blocks"],
)
def test_every_shape_is_as_exact_as_torch(
    name: str,
    memory_format: torch.memory_format,
    native: bool,
    autocast: bool,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cpu(monkeypatch, native)
    layer, x = in_dtype(*build(name), autocast)
    layer, x = layer.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    with WAYS[way]():
        assert_as_exact_as_torch(layer, x, autocast, exact_values_of_shape(name, autocast))


LARGER: dict[str, dict[str, Any]] = {
    "dense": {"kernel_size": 7, "padding": 3},
    "cropped": {"kernel_size": 7, "padding": 3, "p_init": 16.0, "sigma_init": 1.0},
    "depthwise": {"kernel_size": 15, "padding": 7, "groups": 64},
}


def distance(value: Tensor, expected: Tensor) -> float:
    return (torch.linalg.vector_norm(value.double() - expected) / torch.linalg.vector_norm(expected)).item()


@covering(2, arguments=LARGER, native=NATIVE, autocast=AUTOCAST)
def test_errors_are_no_larger_than_torchs(
    arguments: dict[str, Any], native: bool, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_cpu(monkeypatch, native)
    layer = randomize(LpConv2d(64, 64, **arguments))
    layer, x = in_dtype(layer, image(64, (20, 20)), autocast)
    exact = copy.deepcopy(layer).double()
    expected = output_and_gradients(plain(exact), x.double(), *exact.parameters())
    values, others = (
        output_and_gradients(in_mode(convolve, autocast), x, *layer.parameters()) for convolve in (layer, plain(layer))
    )
    for value, other, reference in zip(values, others, expected, strict=True):
        assert distance(value, reference) <= 1.05 * distance(other, reference)


@pytest.mark.parametrize("name", ["3x3", "depthwise_15x15", "map_smaller_than_kernel"])
def test_gradients_of_masks_are_not_rounded_to_bfloat16(name: str) -> None:
    layer, x = build(name, F32)
    with mode(True):
        loss = layer(x).float().square().sum()
    for gradient in torch.autograd.grad(loss, (layer.weight, layer.C, layer.log2p)):
        assert gradient.dtype == F32
        assert not torch.equal(gradient, gradient.bfloat16().float())


@each_mode
@pytest.mark.parametrize("name", ["3x3", "map_smaller_than_kernel", "depthwise_15x15"])
def test_evaluation_is_training_without_gradients(name: str, autocast: bool) -> None:
    layer, x = in_dtype(*build(name), autocast)
    with mode(autocast):
        expected = layer(x).detach()
        with torch.no_grad():
            assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("backward_under_autocast", [False, True])
@pytest.mark.parametrize("name", ["3x3", "depthwise", "1x1_large"])
def test_second_derivatives_under_autocast(name: str, backward_under_autocast: bool) -> None:
    layer, x = build(name, F32)
    leaves = [x.requires_grad_(), *layer.parameters()]

    def second(convolve: Convolve) -> list[Tensor]:
        with mode(True):
            loss = convolve(x).float().square().sum()
        with mode(backward_under_autocast):
            gradients = torch.autograd.grad(loss, leaves, create_graph=True)
            penalty = sum(gradient.float().square().sum() for gradient in gradients)
            return [*gradients, *torch.autograd.grad(penalty, leaves)]

    for value, reference, leaf in zip(second(layer), second(plain(layer)), leaves * 2, strict=True):
        assert value.dtype == leaf.dtype
        scale = reference.detach().abs().max().item()
        torch.testing.assert_close(value.detach(), reference.detach(), rtol=0, atol=0.05 * scale)


@pytest.mark.parametrize("name", ["3x3", "depthwise_15x15", "1x1_large", "few_positions"])
def test_a_backward_pass_under_autocast(name: str) -> None:
    layer, x = build(name, F32)

    def gradients(backward_under_autocast: bool) -> list[Tensor]:
        with mode(True):
            loss = layer(x).float().square().sum()
        with mode(backward_under_autocast):
            return [*torch.autograd.grad(loss, [*layer.parameters()])]

    for value, reference in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(value, reference)


def test_autocast_to_another_dtype_and_other_devices_are_left_to_torch() -> None:
    layer, x = build("3x3", F32)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not is_fast(layer, x)
        assert layer(x).dtype == torch.float16
    with torch.autocast("cuda", dtype=BF16, enabled=False):
        assert is_fast(layer, x)
        assert layer(x).dtype == F32


def test_autocast_leaves_float64_as_it_is() -> None:
    layer, x = build("3x3")
    with mode(True):
        assert is_fast(layer, x)
        torch.testing.assert_close(layer(x), plain(layer)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("input", "weight"), [(BF16, F32), (F32, BF16)])
def test_mixed_dtypes_are_fast_under_autocast_only(input: torch.dtype, weight: torch.dtype) -> None:
    layer, x = build("3x3", weight)
    x = x.to(input)
    with mode(True):
        assert is_fast(layer, x)
        torch.testing.assert_close(layer(x), plain(layer)(x))
    with pytest.raises(RuntimeError) as expected:
        nn.Conv2d(2, 3, 3, dtype=weight)(x)
    with pytest.raises(RuntimeError) as raised:
        layer(x)
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("name", ["map_smaller_than_kernel", "depthwise_15x15", "groups"])
def test_autocast_keeps_only_the_input_and_the_mask_for_the_backward_pass(name: str) -> None:
    layer, x = build(name, F32)
    parameters = {tensor.data_ptr() for tensor in layer.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), mode(True):
        output = layer(x)
    assert sum(kept.values()) == 2 * x.numel() + 4 * layer.mask().numel()
    output.sum().backward()
