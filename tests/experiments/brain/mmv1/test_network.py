import re

import numpy as np
import pytest
import torch

from timm_lp import LpConv2d
from timm_lp.experiments.brain.mmv1.network import CHANNELS, HIDDEN, MMV1, Shifter, build_network, check_variant, warp

SMALL = {"neurons": 5, "frame_size": (43, 51), "channels": (4, 4, 4), "hidden": 8}


def _input(size: tuple[int, int] = (43, 51)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 4, *size, generator=generator), torch.randn(3, 4, 66, generator=generator)


@pytest.mark.parametrize(("variant", "parameters"), [("base", 1_752_716), ("lp2", 3_578_604), ("large", 3_577_484)])
def test_has_the_published_size(variant: str, parameters: int) -> None:
    network = build_network(variant, 68, (60, 80), CHANNELS, HIDDEN)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    video, behaviour = _input((60, 80))
    assert network.eval()(video, behaviour).shape == (3, 68)


def test_conversions_start_as_the_same_function() -> None:
    outputs = {}
    for variant in ("base", "large", "lp2", "lp16", "lp2-paper"):
        torch.manual_seed(0)
        network = build_network(variant, **SMALL).eval()
        outputs[variant] = network(*_input())
        converted = [module for module in network.modules() if isinstance(module, LpConv2d)]
        assert len(converted) == (3 if variant.startswith("lp") else 0)
    for variant in ("large", "lp2", "lp16"):
        torch.testing.assert_close(outputs[variant], outputs["base"], atol=1e-5, rtol=1e-4)
    assert (outputs["lp2-paper"] - outputs["base"]).abs().max() > 1e-5
    assert (outputs["base"] > 0).all()


def test_the_baseline_sees_no_video() -> None:
    network = build_network("behaviour", **SMALL).eval()
    video, behaviour = _input()
    assert torch.equal(network(video, behaviour), network(1 - video, behaviour))
    assert not torch.equal(network(video, behaviour), network(video, behaviour + 1))
    seeing = build_network("base", **SMALL).eval()
    assert not torch.equal(seeing(video, behaviour), seeing(1 - video, behaviour))


def test_predicts_each_window_by_itself() -> None:
    network = build_network("base", **SMALL).eval()
    video, behaviour = _input()
    together = network(video, behaviour)
    torch.testing.assert_close(network(video[1:2], behaviour[1:2]), together[1:2])


def test_the_behaviours_weight_is_that_of_its_layer() -> None:
    assert MMV1(**SMALL).behaviour_weight.shape == (5, 66)


def test_the_shifter_stays_within_bounds() -> None:
    shifts = Shifter().eval()(1e3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    assert (shifts.abs() <= torch.tensor([1 / 5.5, 1 / 5.5, 45])).all()


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-4, 1)])
def test_warp_shifts_by_pixels(right: int, down: int) -> None:
    frame = torch.rand(1, 1, 10, 20, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(frame)
    for row in range(10):
        for column in range(20):
            if 0 <= row - down < 10 and 0 <= column - right < 20:
                expected[0, 0, row, column] = frame[0, 0, row - down, column - right]
    torch.testing.assert_close(warp(frame, torch.tensor([[right / 20, down / 10, 0.0]])), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("turn", "quarters"), [(90.0, 1), (180.0, 2), (-90.0, 3)])
def test_warp_turns_counter_clockwise_about_the_centre(turn: float, quarters: int) -> None:
    frame = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    turned = warp(frame, torch.tensor([[0.0, 0.0, turn]]))[0, 0].numpy()
    np.testing.assert_allclose(turned, np.rot90(frame[0, 0].numpy(), quarters), atol=1e-5)


def test_warp_turns_before_it_shifts_and_keeps_angles_in_wide_frames() -> None:
    frame = torch.zeros(1, 1, 21, 41)
    frame[0, 0, 10, 26] = 1.0  # six pixels to the right of the centre
    turned = warp(frame, torch.tensor([[0.0, 0.0, 90.0]]))
    assert turned[0, 0, 4, 20] == pytest.approx(1, abs=1e-4)  # six pixels above it
    both = warp(frame, torch.tensor([[2 / 41, 0.0, 90.0]]))
    assert both[0, 0, 4, 22] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("variant", ["lp3", "large-paper", "large-reinit", "base-paper", "lp2-reinit", ""])
def test_refuses_an_unknown_variant(variant: str) -> None:
    message = (
        "`--variants` must be of base, behaviour, large, lp2, lp4, lp8, lp16, lp256f, lp, those with masks also with "
        f"-paper, got {variant!r}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_variant(variant)
    with pytest.raises(ValueError, match=re.escape(message)):
        build_network(variant, **SMALL)


def test_refuses_small_frames() -> None:
    with pytest.raises(ValueError, match="must have 43 x 43 pixels at least, got 42 x 51"):
        build_network("base", **{**SMALL, "frame_size": (42, 51)})
