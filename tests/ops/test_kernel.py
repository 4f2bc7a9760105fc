"""The form that runs on every device: values, derivatives, few operations, and no tap that meets only padding."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from timm_lp.layers import LpConv2d, lp_mask
from timm_lp.ops import kernel, lp_conv2d, operators
from timm_lp.ops.kernel import mask_weight
from timm_lp.ops.window import Window, pixel_window

from ..covering import covering
from ..layers.comparison import image, output_and_gradients, reference_values, seeded
from .conftest import FEW_NUMBERS
from .shapes import FORMATS, SHAPES, assert_matches_plain, build, each_shape, geometry_of, plain

# Layers whose gradients the rule does not leave to torch, however small they are.
LARGE = {"few_positions", "depthwise", "depthwise_15x15", "depthwise_15x15_stride", *(n for n in SHAPES if "1x1" in n)}
# A view, an allocation, or no computation with tensors.
NOT_COUNTED = {"view", "_unsafe_view", "t", "slice", "split", "unbind", "detach", "zeros_like", "promote_types"}


def on_any_device(layer: LpConv2d) -> Callable[[Tensor], Tensor]:
    """Return what a layer computes where there is no fast way."""
    return lambda x: lp_conv2d(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry_of(layer))


# The reference's mask of a single tap has no graph.
@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape[2] != 1])
def test_matches_the_reference(name: str) -> None:
    layer, x = build(name)
    values = output_and_gradients(on_any_device(layer), x, *layer.parameters())
    for value, expected in zip(values, reference_values(layer, x), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@covering(1, name=[*SHAPES], input_format=FORMATS, dtype=[torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(name: str, input_format: torch.memory_format, dtype: torch.dtype) -> None:
    layer, x = build(name, torch.float64)
    layer, x = layer.to(dtype), x.to(dtype, memory_format=input_format)
    values = output_and_gradients(on_any_device(layer), x, *layer.parameters())
    expected = output_and_gradients(plain(layer), x, *layer.parameters())
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == dtype
        tolerance = 16 * torch.finfo(dtype).eps
        assert (value - reference).abs().max() <= tolerance * reference.abs().max() + tolerance


@pytest.mark.parametrize("needed", range(1, 8))
def test_any_subset_of_gradients(needed: int) -> None:
    layer, x = build("map_smaller_than_kernel")
    tensors = (layer.weight, layer.C, layer.log2p)
    for i, tensor in enumerate(tensors):
        tensor.requires_grad_(bool(needed >> i & 1))
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    values, expected = (torch.autograd.grad(f(x).square().sum(), wanted) for f in (on_any_device(layer), plain(layer)))
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@each_shape
def test_second_derivatives_are_those_of_the_plain_formula(name: str) -> None:
    layer, x = build(name)
    leaves = [*layer.parameters()]

    def second(convolve: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(convolve(x).square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), leaves)

    for value, reference in zip(second(on_any_device(layer)), second(plain(layer)), strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


def test_batched_gradients() -> None:
    layer, x = build("depthwise")
    leaves, reference = [*layer.parameters()], plain(layer)(x)
    directions = torch.randn(3, *reference.shape, generator=seeded(), dtype=torch.float64)
    values, expected = (
        torch.autograd.grad(output, leaves, directions, is_grads_batched=True)
        for output in (on_any_device(layer)(x), reference)
    )
    for value, other in zip(values, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-9)


@covering(1, p=[1, 1 + 2**-8, 2, 16, 256], sign=[1, -1], dtype=[torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_finite_and_those_of_the_mask(p: float, sign: int, dtype: torch.dtype) -> None:
    scales = (0.0, 1e-42, 1e-30, 1e-7, 0.5, 1.0, 3e4, 1e30)
    C = torch.tensor([[[s, -s], [s, 0.0]] for s in scales], dtype=dtype, requires_grad=True)
    log2p = torch.full((len(C),), sign * math.log2(p), dtype=dtype, requires_grad=True)
    weight = torch.linspace(0.5, 1.5, 20 * len(C), dtype=dtype).view(-1, 1, 5, 4)
    kernel = mask_weight(weight, C, log2p, Window(0, 5, 0, 4))
    gradients = torch.autograd.grad(kernel.sum(), (C, log2p))
    assert all(gradient.isfinite().all() for gradient in gradients)
    expected = weight * lp_mask(C, log2p, (5, 4))
    torch.testing.assert_close(kernel, expected, rtol=1e-5, atol=1e-6)
    moderate = [scales.index(0.5), scales.index(1.0)]
    for value, reference in zip(gradients, torch.autograd.grad(expected.sum(), (C, log2p)), strict=True):
        torch.testing.assert_close(value[moderate], reference[moderate], rtol=2e-5, atol=1e-6)


def test_under_autocast() -> None:
    layer, x = build("3x3", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        values = output_and_gradients(on_any_device(layer), x, layer.C)
        expected = output_and_gradients(plain(layer), x, layer.C)
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference)


@each_shape
@pytest.mark.parametrize("p", [2, 256])
def test_small_layers_train_in_few_operations(name: str, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_FEW_NUMBERS", FEW_NUMBERS)
    layer, x = build(name, p_init=p, sigma_init=0.7)
    with torch.no_grad():
        LpConv2d.reset_mask(layer)
    needed = pixel_window(x, layer.weight, geometry_of(layer)).crop(layer.mask())
    is_fast = operators.few_operations_are_fast(x, layer.weight, geometry_of(layer))
    assert is_fast == (name not in LARGE)
    is_small = is_fast and (needed > 0).all()
    assert type(layer(x).grad_fn).__name__ == ("ConvolutionBackward0" if is_small else "_MaskedConv2dBackward")
    assert_matches_plain(layer, x)


def test_in_inference_mode_first() -> None:
    layer, _ = build("stride_uneven")
    window = Window(0, 3, 1, 4)
    with torch.inference_mode():
        mask_weight(layer.weight, layer.C, layer.log2p, window)
    mask_weight(layer.weight, layer.C, layer.log2p, window).sum().backward()
    assert layer.C.grad is not None


class Operations(TorchDispatchMode):
    """Writes down which operations compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in NOT_COUNTED:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize(("size", "padding_mode"), [(20, "zeros"), (2, "zeros"), (20, "reflect")])
def test_few_operations(groups: int, size: int, padding_mode: str) -> None:
    counts = []
    for kind in (nn.Conv2d, LpConv2d):
        layer = kind(8, 8, 5, padding=2, groups=groups, padding_mode=padding_mode, device="meta")
        x = torch.empty(2, 8, size, size, device="meta", requires_grad=True)
        layer(x).sum().backward()  # the constants are there, and the gradients are to be added to
        layer.zero_grad()
        with Operations() as forward:
            output = layer(x)
        grad_output = torch.empty_like(output)
        with Operations() as backward:
            output.backward(grad_output)
        counts.append((len(forward.names), len(backward.names)))
    (forward_of_conv, backward_of_conv), (forward_of_lp, backward_of_lp) = counts
    assert forward_of_lp <= forward_of_conv + 10
    assert backward_of_lp <= backward_of_conv + 16


@pytest.mark.parametrize(("size", "taps"), [(2, 9), (3, 25), (4, 49), (20, 49)])
def test_taps_that_meet_only_padding_take_no_multiplications(size: int, taps: int) -> None:
    layer = LpConv2d(3, 5, 7, padding=3, device="meta")
    x = torch.empty(2, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 5 * size**2 * taps


@pytest.mark.parametrize("strict", [True, False])
def test_exported_networks_leave_taps_out_for_sizes_that_are_fixed(strict: bool) -> None:
    layer, x = LpConv2d(4, 3, 7, padding=3), image(size=(2, 3))
    any_size = {"input": {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}}
    for shapes, padding in ((None, (1, 2)), (any_size, (3, 3))):
        exported = torch.export.export(layer, (x,), dynamic_shapes=shapes, strict=strict)
        (conv,) = (node for node in exported.graph.nodes if node.target is torch.ops.aten.conv2d.default)
        assert tuple(conv.args[4]) == padding
        for tested in (x, image(size=(9, 10)))[: 1 if shapes is None else 2]:
            torch.testing.assert_close(exported.module()(tested), layer(tested))


def test_what_is_kept_for_windows_is_bounded() -> None:
    weight, C, log2p = torch.ones(1, 1, 36, 36), torch.eye(2)[None], torch.ones(1)
    for top, left in product(range(36), repeat=2):
        mask_weight(weight, C, log2p, Window(top, 36, left, 36))
    assert len(kernel._kept) <= kernel._MOST_KEPT
