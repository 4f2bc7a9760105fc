import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import timm

from timm_lp.experiments.classification.results import figures, write_results
from timm_lp.experiments.classification.training import Progress
from timm_lp.experiments.classification.trial import Outcome
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.sampling import draw
from timm_lp.models.complexity import count_macs

from ...trials.records import RECORDS, record
from ..networks import config


def test_each_trial_has_its_variants_results(tmp_path: Path) -> None:
    write_results(tmp_path, RECORDS, config(dataset=["dtd", "pets"], variants=["base", "lp2"], lr_sweep=[0.1, 1.0]))
    card = json.loads((tmp_path / "pets" / "resnet18" / "lp2-seed2" / "results.json").read_text())
    entries = [(entry["dataset"]["id"], entry["variant"]) for entry in card["results"]]
    assert entries == [("org/pets", "lp2"), ("org/pets", "base")]
    assert card["results"][0]["metrics"]["top1"] == {"1": 69.0, "2": 70.5, "3": 68.0}
    assert "--variants lp2 --dataset pets --lr 0.1" in card["recipe"]["command"]
    assert "sweep" not in card["recipe"]["command"]
    assert not (tmp_path / "dtd" / "resnet18" / "large-seed1" / "results.json").exists()
    everything = json.loads((tmp_path / "results.json").read_text())
    assert len(everything["results"]) == 4
    assert "--lr-sweep 0.1 1.0" in everything["recipe"]["command"]


def test_a_trial_s_results_say_which_it_is(tmp_path: Path) -> None:
    results = [record(variant, 2, 50.0) for variant in ("base", "lp2", "lp2-paper")]
    write_results(tmp_path, results, config(dataset=["dtd"], variants=["base", "lp2", "lp2-paper"]))
    card = json.loads((tmp_path / "dtd" / "resnet18" / "lp2-paper-seed2" / "results.json").read_text())
    assert [entry["variant"] for entry in card["results"]] == ["lp2-paper", "base"]
    assert (card["recipe"]["variant"], card["recipe"]["seed"]) == ("lp2-paper", 2)
    assert "--variants lp2-paper" in card["recipe"]["command"]


CHECKPOINT = "cats/weights.pth"
STARTS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "random": ("lp2_resnet18", {"pretrained": False}, {"kind": "random"}),
    "hub": (
        "lp2_resnet18",
        {"pretrained": True},
        {"kind": "hub", "hub_id": "timm/resnet18.a1_in1k", "license": "apache-2.0"},
    ),
    "tag": (
        "lp2_resnet18.tv_in1k",
        {"pretrained": True},
        {"kind": "hub", "hub_id": "timm/resnet18.tv_in1k", "license": "bsd-3-clause"},
    ),
    "address": (
        "lp2_alexnet",
        {"pretrained": True},
        {
            "kind": "url",
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "license": "bsd-3-clause",
        },
    ),
    "checkpoint": ("lp2_resnet18", {"checkpoint": CHECKPOINT, "pretrained": False}, {"kind": "checkpoint"}),
    "both": ("resnet18", {"checkpoint": CHECKPOINT, "pretrained": True}, {"kind": "checkpoint"}),
}


@pytest.mark.parametrize("kind", STARTS)
def test_a_trial_records_where_its_weights_started(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings, expected = STARTS[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / CHECKPOINT).write_bytes(b"weights")
    conf = config(model="resnet18", **{"model_kwargs": {}, **settings})
    # What timm made of the settings, but for the tensors themselves.
    overlay = {"file": conf.checkpoint} if conf.checkpoint else None
    model = timm.create_model(name, pretrained_cfg_overlay=overlay, device="meta")
    progress = Progress(1, [1.0], train_seconds=1.0)
    data, data_config = load_data("digits"), {"input_size": (3, 64, 64)}
    outcome = Outcome(model, data_config, {"top1": 50.0}, data.test, draw(data, "nested", 1, 1), progress, 1.0, None)
    found = figures(conf, data, outcome)
    start = found["start"]
    if conf.checkpoint:
        expected = {"kind": "checkpoint", "file": "weights.pth", "sha256": sha256(b"weights").hexdigest()}
    assert start is not None
    assert start.as_dict() == expected
    assert found["macs"] == count_macs(model, (3, 64, 64)) > 10**6
