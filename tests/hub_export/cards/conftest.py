from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from hub_export.cards import sections
from hub_export.cards.card import render_card, trials_of
from hub_export.cards.evaluation import Trials
from hub_export.cards.provenance import base_weights
from hub_export.cards.records import read_trials
from timm_lp import LpConv2d
from timm_lp.files import write_json
from timm_lp.start import Start
from timm_lp.trials.record import TrialRecord, as_json

from ...trials.records import record

SIZES = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
NAMES = ["a cat", "a dog | or two", "<b>neither</b>"]
SEEDS = [record("lp2", seed, top1) for seed, top1 in enumerate([71.2, 70.8, 71.6], 1)]
TRIALS = Trials(tuple(SEEDS), SEEDS[1])


def build(name: str = "lp2_resnet18", **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **{"num_classes": 3, **SIZES, **kwargs}).eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LpConv2d):
                layer.log2p.add_(0.1 * torch.rand_like(layer.log2p))
    return model


_built = cache(build)  # which no card changes


@pytest.fixture(autouse=True, scope="package")
def _sizes_counted_once() -> Iterator[None]:
    """Count a network once, which takes most of the time that its cards take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "sizes", cache(sections.sizes))
        yield


def render(
    model: nn.Module | None = None,
    trials: Trials | None = None,
    *,
    start: Start | None = None,
    license: Any = None,
    base_model: Any = None,
    merged: bool = False,
    **options: Any,
) -> str:
    model = _built() if model is None else model
    trials = trials_of(model, trials or Trials(), merged)
    base = base_weights(model, start or trials.start, license, base_model)
    return render_card(model, merged=merged, trials=trials, base=base, **{"label_names": None, **options})


def write(folder: Path, *records: TrialRecord) -> Path:
    """Write the records of trials into an output folder, and return the first one's folder."""
    for trial in records:
        write_json(folder / trial.folder / "trial.json", as_json(trial))
    return folder / records[0].folder


def read(folder: Path, *records: TrialRecord) -> Trials:
    """Return the first of some trials, with those that its card shows beside it."""
    return read_trials(write(folder, *records))


@pytest.fixture(scope="module")
def card() -> str:
    return render(trials=TRIALS, label_names=NAMES, masks_image="masks.png")
