import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from timm_lp import lp_convert
from timm_lp.masks import MaskLogger, conformation


def _network() -> nn.Module:
    torch.manual_seed(0)
    return lp_convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), filter_fn=lambda *_: True)


def test_a_loop_of_ones_own_logs_its_masks_to_tensorboard(tmp_path: Path) -> None:
    network, images = _network(), torch.randn(2, 3, 9, 9)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with SummaryWriter(str(tmp_path)) as writer:
        logger = MaskLogger(network, writer)
        for step in range(3):
            logger.log(step, picture=step == 2)
            network(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            network[0].C.copy_(torch.tensor([[[1.0, 0.0], [0.0, 0.2]]]).expand(8, 2, 2))
        logger.log(3, picture=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    names = ("p", "alpha", "gamma")
    assert {*tags["scalars"]} >= {f"mask_{name}/{layer}" for name in names for layer in "02"}
    assert [event.step for event in events.Scalars("mask_p/0")] == [0, 1, 2, 3]
    assert events.Scalars("mask_p/2")[0].value == pytest.approx(2)
    found = [events.Scalars(f"mask_{name}/0")[-1].value for name in ("alpha", "gamma", "near_0", "near_90")]
    expected = conformation(network[0].C.detach())
    assert found == pytest.approx([expected.alpha[0].item(), 5, 1, 0])
    (image,) = events.Images("masks")
    assert image.step == 2
    assert image.width > 200


def test_a_run_of_wandb_gets_a_row_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[int, dict[str, Any]]] = []
    monkeypatch.setitem(__import__("sys").modules, "wandb", SimpleNamespace(Image=lambda array: array.shape))
    run = SimpleNamespace(log=lambda values, step: rows.append((step, values)), define_metric=print)
    logger = MaskLogger(_network(), run)
    logger.log(5)
    logger.log(6, picture=False)
    assert [step for step, _ in rows] == [5, 6]
    assert rows[0][1]["masks"][2] == 3
    assert rows[0][1].keys() - rows[1][1].keys() == {"masks"}
    assert rows[1][1]["mask_p/0"] == pytest.approx(2)


def test_what_cannot_be_logged_is_refused() -> None:
    for writer in (None, logging.getLogger("masks")):
        with pytest.raises(TypeError, match=f"SummaryWriter or a run of wandb, got {type(writer).__name__}"):
            MaskLogger(_network(), writer)
    with pytest.raises(ValueError, match="`model` must have LpConv2d layers, got Linear without"):
        MaskLogger(nn.Linear(2, 2), SimpleNamespace(add_scalar=print))
    network = _network()
    logger = MaskLogger(network, SimpleNamespace(add_scalar=print))
    network[0].log2p.data[0] = float("nan")
    with pytest.raises(ValueError, match="`model` must have finite masks, got nan or inf in 0"):
        logger.log(0)
