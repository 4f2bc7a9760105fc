import copy
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from timm_lp.layers import LpConv2d
from timm_lp.ops import MaskCache, lp_mask, lp_mask_gradients, masked_conv2d
from timm_lp.ops.window import Window

from ..layers.comparison import image, output_and_gradients, randomize, seeded
from .shapes import geometry_of, plain


def build(**arguments: Any) -> LpConv2d:
    layer = randomize(LpConv2d(4, 6, 5, padding=2, p_init=3, **arguments))
    assert isinstance(layer, LpConv2d)
    return layer


@pytest.mark.parametrize(("channels", "keeps"), [(2, True), (2000, False)])
def test_the_norm_of_a_small_mask_is_kept_for_its_gradients(channels: int, keeps: bool) -> None:
    layer = LpConv2d(1, channels, 5, p_init=3).double()
    kept = MaskCache().get(layer.C, layer.log2p, (5, 5))
    torch.testing.assert_close(kept.values, layer.mask().detach(), rtol=0, atol=0)
    assert (kept.norm is not None) == keeps
    grad_mask = torch.randn(kept.values.shape, generator=seeded(), dtype=torch.float64)
    values = lp_mask_gradients(grad_mask, kept.values, layer.C, layer.log2p, kept.norm)
    expected = torch.autograd.grad(layer.mask(), (layer.C, layer.log2p), grad_mask)
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-11, atol=1e-12)


def assert_follows(layer: LpConv2d, x: Tensor) -> None:
    parameters = [*layer.parameters()]
    expected = output_and_gradients(plain(layer), x, *parameters)
    for value, reference in zip(output_and_gradients(layer, x, *parameters), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=2e-5, atol=2e-5)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected[0], rtol=2e-5, atol=2e-5)


def edit_data(layer: LpConv2d) -> None:
    layer.C.data[0, 0, 0] *= 2
    layer.log2p.data[1] -= 5


def edit_under_no_grad(layer: LpConv2d) -> None:
    with torch.no_grad():
        layer.C.mul_(1.5)
        layer.log2p.add_(0.5)


def edit_in_inference_mode(layer: LpConv2d) -> None:
    with torch.inference_mode():
        layer.C.mul_(1.5)


def edit_through_numpy(layer: LpConv2d) -> None:
    layer.C.detach().numpy()[...] *= 1.5


def edit_one_number(layer: LpConv2d) -> None:
    layer.log2p.data[-1] += 0.25


def step(layer: LpConv2d) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    layer(image()).square().sum().backward()
    optimizer.step()


def load(layer: LpConv2d) -> None:
    layer.load_state_dict({name: 1.1 * tensor for name, tensor in layer.state_dict().items()})


def load_assigning(layer: LpConv2d) -> None:
    layer.load_state_dict({name: 1.1 * tensor for name, tensor in layer.state_dict().items()}, assign=True)


def replace(layer: LpConv2d) -> None:
    layer.C = nn.Parameter(2 * layer.C.detach())


def scale_weight(layer: LpConv2d) -> None:
    layer.weight.data.mul_(2)


def reset(layer: LpConv2d) -> None:
    layer.reset_mask()


@pytest.mark.parametrize(
    "change",
    [
        edit_data,
        edit_under_no_grad,
        edit_in_inference_mode,
        edit_through_numpy,
        edit_one_number,
        step,
        load,
        load_assigning,
        replace,
        scale_weight,
        reset,
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_no_mask_is_stale(groups: int, change: Callable[[LpConv2d], None]) -> None:
    layer, x = build(groups=groups), image()
    for _ in range(2):
        before = layer(x).detach()
        change(layer)
        assert_follows(layer, x)
        if change is not reset:
            assert not torch.equal(layer(x), before)


def test_a_change_of_dtype() -> None:
    layer = build()
    for dtype in (torch.float32, torch.float64, torch.float32):
        layer = layer.to(dtype)
        assert layer(image(dtype=dtype)).dtype == dtype
        assert_follows(layer, image(dtype=dtype))


def test_a_change_of_dtype_that_rounds_nothing() -> None:
    cache = MaskCache()
    C, log2p = torch.eye(2)[None] / 3, torch.ones(1)
    for dtype in (torch.float32, torch.float64, torch.float32):
        values = cache.get(C.to(dtype), log2p.to(dtype), (3, 4)).values
        assert values.dtype == dtype
        assert torch.equal(values, lp_mask(C.to(dtype), log2p.to(dtype), (3, 4)))


def test_a_hit_returns_the_same_mask_without_a_graph() -> None:
    cache = MaskCache()
    C, log2p = (parameter.requires_grad_() for parameter in (torch.eye(2)[None] / 3, torch.ones(1)))
    mask = cache.get(C, log2p, (3, 4))
    assert not mask.values.requires_grad
    assert cache.get(C, log2p, (3, 4)) is mask
    assert cache.get(C.detach().clone(), log2p.detach().clone(), (3, 4)) is mask
    with torch.no_grad():
        log2p += 1
        assert cache.get(C, log2p, (3, 4)) is not mask
        log2p -= 1
    assert torch.equal(cache.get(C, log2p, (3, 4)).values, mask.values)


def test_the_kept_parameters_are_copies() -> None:
    cache = MaskCache()
    C, log2p = torch.eye(2)[None] / 3, torch.ones(1)
    mask = cache.get(C, log2p, (3, 3))
    C.mul_(2)
    changed = cache.get(C, log2p, (3, 3))
    assert torch.equal(changed.values, lp_mask(C, log2p, (3, 3)))
    assert not torch.equal(changed.values, mask.values)


def test_each_kernel_size_has_its_mask() -> None:
    cache = MaskCache()
    C, log2p = torch.eye(2)[None] / 3, torch.ones(1)
    for kernel_size in [(3, 3), (5, 3), (3, 5), (3, 3)]:
        assert torch.equal(cache.get(C, log2p, kernel_size).values, lp_mask(C, log2p, kernel_size))


def test_a_number_of_masks_that_changes() -> None:
    cache = MaskCache()
    for masks in (1, 2, 1):
        assert len(cache.get(torch.eye(2).repeat(masks, 1, 1), torch.ones(masks), (3, 3)).values) == masks


def test_parameters_that_are_not_numbers() -> None:
    layer, x = build(), image()
    layer.C.data[0] = float("nan")
    for _ in range(2):
        output = layer(x)
        assert output[:, 0].isnan().all()
        assert not output[:, 1:].isnan().any()
    layer.C.data[0] = 1
    assert_follows(layer, x)


@pytest.mark.parametrize(
    ("p", "scale", "support", "all_ones"),
    [
        (256, 1 / 1.5, (2, 5, 2, 5), True),
        (256, 1 / 9, (0, 7, 0, 7), True),
        (2, 1 / 1.5, (0, 7, 0, 7), False),
        (256, 9.0, (3, 4, 3, 4), True),
    ],
)
def test_what_follows_from_a_masks_values(p: float, scale: float, support: tuple[int, ...], all_ones: bool) -> None:
    mask = MaskCache().get(scale * torch.eye(2)[None], torch.tensor([p]).float().log2(), (7, 7))
    assert mask.reach.support == Window(*support)
    assert mask.all_ones is all_ones


def test_a_mask_from_inference_mode_is_made_anew_outside() -> None:
    cache = MaskCache()
    C, log2p = torch.eye(2)[None] / 3, torch.ones(1)
    with torch.inference_mode():
        first = cache.get(C, log2p, (3, 3))
        assert cache.get(C, log2p, (3, 3)) is first
    second = cache.get(C, log2p, (3, 3))
    assert not second.values.is_inference()
    assert torch.equal(first.values, second.values)
    with torch.inference_mode():
        assert cache.get(C, log2p, (3, 3)) is second


def through_pickle(layer: LpConv2d) -> LpConv2d:
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, through_pickle])
def test_copies_have_no_mask(copied: Callable[[LpConv2d], LpConv2d]) -> None:
    layer, x = build(), image()
    size = len(pickle.dumps(layer))
    layer(x)
    assert "_mask_cache" in vars(layer)
    assert len(pickle.dumps(layer)) == size
    twin = copied(layer)
    assert "_mask_cache" not in vars(twin)
    assert torch.equal(twin(x), layer(x))
    assert twin._mask_cache is not layer._mask_cache


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_copies_are_independent(copied: Callable[[LpConv2d], LpConv2d]) -> None:
    layer, x = build(), image()
    before = layer(x).detach()
    twin = copied(layer)
    edit_data(twin)
    assert_follows(twin, x)
    assert torch.equal(layer(x), before)


def test_nothing_about_the_cache_is_in_the_state() -> None:
    layer = build()
    state, names = [*layer.state_dict()], [name for name, _ in layer.named_modules()]
    layer(image())
    assert [*layer.state_dict()] == state
    assert [name for name, _ in layer.named_modules()] == names


class LoadAt(TorchDispatchMode):
    """Load a state into a layer just before the operator of a number runs, as another thread may."""

    def __init__(self, number: int, layer: LpConv2d, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.remaining = number
        self.layer, self.state = layer, state

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.remaining == 0:
            self.layer.load_state_dict(self.state)
        self.remaining -= 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [False, True])
def test_no_mask_is_stale_whenever_another_thread_loads(training: bool) -> None:
    layer, x = build(), image()
    states = [{name: scale * tensor for name, tensor in layer.state_dict().items()} for scale in (1.0, 1.3)]
    for number in range(1000):
        layer.load_state_dict(states[0])
        layer._mask_cache = MaskCache()  # nothing is kept yet: all operators of a first call run
        tensors = (x, layer.weight, layer.bias, layer.C, layer.log2p)
        with LoadAt(number, layer, states[1]) as mode, torch.set_grad_enabled(training):
            masked_conv2d(*tensors, geometry_of(layer), layer._mask_cache)
        if mode.remaining >= 0:  # fewer operators ran
            break
        assert torch.equal(layer.C, states[1]["C"])
        assert_follows(layer, x)
    assert 10 < number < 1000


def test_loads_while_another_thread_evaluates() -> None:
    layer = LpConv2d(256, 256, 31, padding=15, groups=256)  # to make its masks takes longer than all else
    x = image(256, (3, 3))
    states = [{name: scale * tensor for name, tensor in layer.state_dict().items()} for scale in (0.1, 0.5)]
    done, called = threading.Event(), threading.Event()

    def evaluate() -> None:
        while not done.is_set():
            with torch.no_grad():
                layer(x)
            called.set()

    thread = threading.Thread(target=evaluate)
    thread.start()
    try:
        for number in range(10):
            layer.load_state_dict(states[0])
            time.sleep(number / 1000)  # now the other thread is somewhere in between
            layer.load_state_dict(states[1])
            for _ in range(2):  # the call that saw both has ended
                called.clear()
                assert called.wait(timeout=60)
            with torch.no_grad():
                torch.testing.assert_close(layer(x), plain(layer)(x), rtol=2e-5, atol=2e-5)
    finally:
        done.set()
        thread.join()


def test_two_threads_that_use_one_layer() -> None:
    layer = build()
    inputs = [image(size=(12, 13)), image(size=(3, 2)).to(memory_format=torch.channels_last)]
    parameters = [*layer.parameters()]
    expected = [output_and_gradients(layer, x, *parameters) for x in inputs]
    agree: list[bool] = []
    start = threading.Barrier(2)

    def use(number: int) -> None:
        start.wait()
        for _ in range(20):
            values = output_and_gradients(layer, inputs[number], *parameters)
            # Not bit by bit: a new thread adds up with another number of OpenMP threads.
            agree.append(
                all(torch.allclose(v, e, rtol=1e-4, atol=1e-4) for v, e in zip(values, expected[number], strict=True))
            )

    threads = [threading.Thread(target=use, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agree == [True] * 40
