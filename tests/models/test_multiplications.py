"""What networks multiply: taps that meet only padding take nothing, on any device; the meta device computes nothing."""

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def multiplications(build: Callable[[], nn.Module], size: int) -> int:
    with torch.device("meta"):
        model = build()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, size, size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("base", "size", "share"),
    [
        ("resnet18_small_stem", 32, 0.83),
        ("resnet18", 64, 0.84),
        ("resnet18", 224, 1),
        pytest.param("replknet31", 64, 0.87, marks=pytest.mark.exhaustive),
        pytest.param("replknet31", 224, 1, marks=pytest.mark.exhaustive),
    ],
)
def test_share_of_large(base: str, size: int, share: float) -> None:
    large = base if base == "replknet31" else f"large_{base}"
    of_lp, of_large = (multiplications(partial(timm.create_model, name), size) for name in (f"lp2_{base}", large))
    assert of_lp / of_large == pytest.approx(share, abs=0.0051)
