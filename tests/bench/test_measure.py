import os
import sys
import time

import pytest
import torch
from torch import nn

from timm_lp.bench.cases import Layer
from timm_lp.bench.measure import (
    CLOCKS,
    evaluation_step,
    interleaved_ms,
    machine_limits,
    summary,
    training_peak_mib,
    training_step,
)
from timm_lp.bench.modes import Mode
from timm_lp.layers import LpConv2d


def test_runs_take_turns() -> None:
    order: list[str] = []
    times = interleaved_ms({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "cpu")
    assert "".join(order) == "abbaabba"
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_the_cpu_clock_stands_still_while_the_process_sleeps() -> None:
    times = {clock: interleaved_ms({"sleep": lambda: time.sleep(0.05)}, 1, "cpu", clock)["sleep"] for clock in CLOCKS}
    assert times["wall"][0] >= 50
    assert times["cpu"][0] < times["wall"][0]


def test_summary() -> None:
    assert summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {
        "median_ms": 3.0,
        "quartiles_ms": [2.0, 4.0],
        "runs_ms": [4.0, 1.0, 3.0, 2.0, 5.0],
    }
    assert summary([2.0])["quartiles_ms"] == [2.0, 2.0]


def test_a_training_step_computes_every_gradient_anew() -> None:
    model, x = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 5)).eval(), torch.randn(2, 1, 4, 4)
    step = training_step(model, x, Mode())
    step()
    first = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    step()
    assert len(first) == 4
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), first, strict=True))
    assert model.training


def test_a_training_step_leaves_equal_masks_of_other_parameters() -> None:
    layer = LpConv2d(1, 5, 3)
    mask, log2p = layer.mask().detach(), layer.log2p.detach().clone()
    training_step(nn.Sequential(layer, nn.Flatten()), torch.randn(2, 1, 3, 3), Mode())()
    assert torch.equal(layer.mask(), mask)
    assert not torch.equal(layer.log2p, log2p)


def test_an_optimizer_moves_every_parameter() -> None:
    layer = LpConv2d(1, 5, 3)
    with torch.no_grad():
        layer.C.fill_(0.3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    training_step(nn.Sequential(layer, nn.Flatten()), torch.randn(2, 1, 3, 3), Mode(optimizer=True))()
    for parameter, old in zip(layer.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)
        torch.testing.assert_close(parameter, old, rtol=1e-4, atol=1e-4)


def test_an_evaluation_step_computes_no_gradient() -> None:
    seen = []
    model = nn.Conv2d(1, 1, 1)
    model.register_forward_hook(lambda module, args, output: seen.append((module.training, output.requires_grad)))
    evaluation_step(model, torch.randn(1, 1, 2, 2), Mode())()
    assert seen == [(False, False)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak memory")
def test_peak_memory_counts_parameters_gradients_and_maps() -> None:
    before = dict(os.environ)
    peak = training_peak_mib(Layer(3, 1024, 1, groups=1, batch=1), "large", Mode())
    assert os.environ == before
    weight = 1024 * 1024 * 9 * 4 / 2**20
    assert peak is not None
    assert 2 * weight < peak < 6 * weight


def test_machine_limits_are_positive() -> None:
    assert all(value > 0 for value in machine_limits(1).values())
