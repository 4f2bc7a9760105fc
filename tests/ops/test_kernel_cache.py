import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timm_lp.layers import LpConv2d

from ..layers.comparison import image, randomize

LAYERS: dict[str, dict[str, Any]] = {
    "dense": {"kernel_size": 5, "padding": 2},
    "cropped": {"kernel_size": 9, "padding": 4, "p_init": 16, "sigma_init": 1.0},
    "depthwise": {"kernel_size": 15, "padding": 7, "groups": 4},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
}
each_layer = pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)


def build(arguments: dict[str, Any]) -> LpConv2d:
    layer = randomize(LpConv2d(4, 8, **arguments))
    assert isinstance(layer, LpConv2d)
    return layer


def expected(layer: LpConv2d, x: Tensor) -> Tensor:
    return layer._conv_forward(x, layer.masked_weight(), layer.bias).detach()


def kept(layer: LpConv2d) -> list[list[tuple[slice, Tensor]]] | None:
    assert layer._caches is not None
    last = layer._caches.kernel._last
    return None if last is None else last[1]


def assert_right(layer: LpConv2d, x: Tensor, grad_mode: Callable[[], Any] = torch.no_grad) -> None:
    with grad_mode():
        for _ in range(3):
            torch.testing.assert_close(layer(x), expected(layer, x), rtol=2e-5, atol=2e-5)


def optimizer_step(layer: LpConv2d) -> None:
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(layer.parameters(), lr=1e-3, foreach=True).step()


def fused_step(layer: LpConv2d) -> None:
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(layer.parameters(), lr=1e-3, fused=True).step()


def momentum_teacher(layer: LpConv2d) -> None:
    student = copy.deepcopy(layer)
    with torch.no_grad():
        student.weight.add_(1)
    layer.weight.data = layer.weight.data * 0.99 + student.weight.data * 0.01


def one_ulp(layer: LpConv2d) -> None:
    with torch.no_grad():
        layer.weight[0, 0, 1, 1] = torch.nextafter(layer.weight[0, 0, 1, 1], torch.tensor(9.0))


EDITS: dict[str, Callable[[LpConv2d], Any]] = {
    "data": lambda layer: layer.weight.data.mul_(1.001),
    "data_one_number": lambda layer: layer.weight.data[3, 0, 1, 1].add_(0.1),
    "data_flipped": lambda layer: layer.weight.data.copy_(layer.weight.data.flip(3)),
    "data_channels_swapped": lambda layer: layer.weight.data.copy_(layer.weight.data.roll(1, 0)),
    "data_replaced": momentum_teacher,
    "numpy": lambda layer: layer.weight.detach().numpy().__imul__(1.5),
    "no_grad": lambda layer: torch.no_grad()(layer.weight.mul_)(1.5),
    "one_ulp": one_ulp,
    "load": lambda layer: layer.load_state_dict({k: 1.1 * v for k, v in layer.state_dict().items()}),
    "assign": lambda layer: layer.load_state_dict({k: 1.1 * v for k, v in layer.state_dict().items()}, assign=True),
    "optimizer": optimizer_step,
    "fused_optimizer": fused_step,
    "masks": lambda layer: layer.C.data.mul_(1.1),
    "exponents": lambda layer: layer.log2p.data.add_(0.3),
    "parameter": lambda layer: setattr(layer, "weight", nn.Parameter(2 * layer.weight.detach())),
    "reset": lambda layer: layer.reset_parameters(),
    "bias": lambda layer: layer.bias is not None and layer.bias.data.add_(1),
}


@each_layer
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_never_stale(arguments: dict[str, Any], edit: Callable[[LpConv2d], Any], grad_mode: Callable[[], Any]) -> None:
    layer = build(arguments)
    assert_right(layer, image(), grad_mode)
    edit(layer)
    assert_right(layer, image(), grad_mode)


def kernel_of_range_1e10() -> LpConv2d:
    layer = build(LAYERS["dense"])
    with torch.no_grad():
        layer.weight[3, 0, 0, 0] = 1e10
    return layer


CENTRE = (3, 1, 2, 2)
COUNTED: dict[str, Callable[[LpConv2d], Any]] = {
    "no_grad": lambda layer: torch.no_grad()(layer.weight[CENTRE].add_)(1),
    "copy": lambda layer: torch.no_grad()(layer.weight.copy_)(layer.weight + 1),
    "parameter": lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.detach() + 1)),
}


@pytest.mark.parametrize("edit", COUNTED.values(), ids=COUNTED)
def test_sees_what_autograd_counts_whatever_the_range(edit: Callable[[LpConv2d], Any]) -> None:
    layer, x = kernel_of_range_1e10(), image()
    with torch.no_grad():
        before = [layer(x) for _ in range(3)][-1]
        edit(layer)
        assert not torch.equal(layer(x), before)


def test_cannot_see_what_rounding_hides_behind_autograds_back() -> None:
    layer, x = kernel_of_range_1e10(), image()
    with torch.no_grad():
        before = [layer(x) for _ in range(3)][-1]
        layer.weight.data[CENTRE] += 1  # 1e-10 of the largest number in this channel's kernel
        assert torch.equal(layer(x), before)
        layer.weight.data[CENTRE] += 1e5  # 1e-5 of it
        assert not torch.equal(layer(x), before)


@each_layer
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_keeps_what_is_asked_for_twice(memory_format: torch.memory_format, arguments: dict[str, Any]) -> None:
    layer, x = build(arguments).to(memory_format=memory_format), image()
    with torch.no_grad():
        layer(x)
        assert kept(layer) is None
        second = layer(x)
        blocks = kept(layer)
        third = layer(x)
    assert blocks is not None
    assert kept(layer) is blocks
    assert torch.equal(second, third)


def test_a_kernel_that_is_a_part_of_another_is_not_kept() -> None:
    layer, x = build(LAYERS["dense"]), image()
    layer.weight = nn.Parameter(torch.stack([layer.weight.detach()] * 2, dim=-1)[..., 0])
    assert_right(layer, x)
    assert kept(layer) is None


@each_layer
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("edit", ["data", "data_one_number", "data_flipped", "data_channels_swapped", "no_grad"])
def test_never_stale_in_each_memory_format(
    edit: str, memory_format: torch.memory_format, arguments: dict[str, Any]
) -> None:
    layer = build(arguments).to(memory_format=memory_format)
    assert_right(layer, image())
    EDITS[edit](layer)
    assert_right(layer, image())


def test_a_weight_in_change_is_not_kept() -> None:
    layer = build(LAYERS["dense"])
    with torch.no_grad():
        for _ in range(4):
            layer.weight.data.mul_(1.01)
            layer(image())
            assert kept(layer) is None


def test_training_forgets_it() -> None:
    layer = build(LAYERS["dense"])
    assert_right(layer, image())
    assert kept(layer) is not None
    layer(image()).sum().backward()
    assert kept(layer) is None


def test_other_sizes_and_dtypes() -> None:
    layer = build(LAYERS["dense"])
    for size in [(12, 13), (2, 2), (12, 13), (1, 30)]:
        assert_right(layer, image(size=size))
    layer.double()
    assert_right(layer, image(dtype=torch.float64))


def test_copies_keep_nothing() -> None:
    layer = build(LAYERS["dense"])
    assert_right(layer, image())
    twin = copy.deepcopy(layer)
    assert twin._caches is None
    with torch.no_grad():
        twin.weight.zero_()
    assert_right(twin, image())
    assert_right(layer, image())


def test_kept_in_inference_mode_used_outside() -> None:
    layer, x = build(LAYERS["dense"]), image()
    assert_right(layer, x, torch.inference_mode)
    assert_right(layer, x)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
