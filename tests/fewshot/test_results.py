import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import timm
from accelerate import Accelerator

from timm_lp.fewshot.data import draw
from timm_lp.fewshot.loading import load_data
from timm_lp.fewshot.results import card_results, read_results, trial_result, write_card_results
from timm_lp.fewshot.training import Progress
from timm_lp.fewshot.trial import Outcome, Trial

from .images import config
from .results import RESULTS, result


def test_card_results_are_metrics_by_seed() -> None:
    card = card_results(RESULTS, "accelerate launch finetune.py --model resnet18")
    assert card["recipe"]["command"] == "accelerate launch finetune.py --model resnet18"
    assert card["recipe"]["start"] == {"kind": "hub", "hub_id": "timm/resnet18.a1_in1k", "license": "apache-2.0"}
    assert card["recipe"]["settings"]["epochs"] == 5
    assert [(entry["dataset"]["id"], entry["variant"]) for entry in card["results"]] == [
        ("org/dtd", "base"),
        ("org/dtd", "lp2"),
        ("org/pets", "base"),
        ("org/pets", "lp2"),
    ]
    assert card["results"][1] == {
        "dataset": {"id": "org/dtd", "name": "DTD", "revision": "1" * 40, "split": "test", "config": None},
        "shots": 16,
        "variant": "lp2",
        "lr": 0.1,
        "num_test": 1880,
        "metrics": {"top1": {"1": 90.0, "2": 91.0, "3": None}, "mean_per_class": {"1": 89.0, "2": 90.0, "3": None}},
    }


def test_all_images_are_shots_of_null() -> None:
    trial = result("base", 1, 50.0)
    trial["settings"]["shots"] = 0
    assert card_results([trial], "")["results"][0]["shots"] is None


def test_no_results_are_an_empty_card() -> None:
    assert card_results([result("base", 1, None)], "command")["results"] == []


def test_each_trial_has_its_variants_results(tmp_path: Path) -> None:
    write_card_results(
        tmp_path, RESULTS, config(dataset=["dtd", "pets"], variants=["base", "lp2"], lr_sweep=[0.1, 1.0])
    )
    card = json.loads((tmp_path / "pets" / "lp2-seed2" / "results.json").read_text())
    entries = [(entry["dataset"]["id"], entry["variant"]) for entry in card["results"]]
    assert entries == [("org/pets", "lp2"), ("org/pets", "base")]
    assert card["results"][0]["metrics"]["top1"] == {"1": 69.0, "2": 70.5, "3": 68.0}
    assert "--variants lp2 --dataset pets --lr 0.1" in card["recipe"]["command"]
    assert "sweep" not in card["recipe"]["command"]
    assert not (tmp_path / "dtd" / "large-seed1" / "results.json").exists()
    everything = json.loads((tmp_path / "results.json").read_text())
    assert len(everything["results"]) == 4
    assert "--lr-sweep 0.1 1.0" in everything["recipe"]["command"]


def test_a_trial_s_results_say_which_it_is(tmp_path: Path) -> None:
    results = [result(variant, 2, 50.0) for variant in ("base", "lp2", "lp2-paper")]
    write_card_results(tmp_path, results, config(dataset=["dtd"], variants=["base", "lp2", "lp2-paper"]))
    card = json.loads((tmp_path / "dtd" / "lp2-paper-seed2" / "results.json").read_text())
    assert [entry["variant"] for entry in card["results"]] == ["lp2-paper", "base"]
    assert (card["recipe"]["variant"], card["recipe"]["seed"]) == ("lp2-paper", 2)
    assert "--variants lp2-paper" in card["recipe"]["command"]


def test_a_record_without_its_start(tmp_path: Path) -> None:
    trial = result("base", 1, 50.0)
    del trial["start"]  # as another version of the benchmark leaves it
    assert card_results([trial], "")["recipe"]["start"] is None


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
    data = load_data("digits", conf)
    # What timm made of the settings, but for the tensors themselves.
    overlay = {"file": conf.checkpoint} if conf.checkpoint else None
    model = timm.create_model(name, pretrained_cfg_overlay=overlay, device="meta")
    trial = Trial(data, "lp2", 1)
    progress = Progress(1, [1.0], 1.0)
    outcome = Outcome(model, {}, {"top1": 50.0}, 797, draw(data, "nested", 1, 1), progress, 1.0, None)
    record = json.loads(json.dumps(trial_result(conf, trial, Accelerator(cpu=True), outcome)))
    if conf.checkpoint:
        expected = {"kind": "checkpoint", "file": "weights.pth", "sha256": sha256(b"weights").hexdigest()}
    assert record["start"] == expected
    assert trial_result(conf, trial, Accelerator(cpu=True), error="nan")["start"] is None


def _changed(trial: dict[str, Any], **settings: object) -> dict[str, Any]:
    return {**trial, "settings": {**trial["settings"], **settings}}


def _write(root: Path, trial: dict[str, Any]) -> None:
    (root / trial["folder"]).mkdir(parents=True)
    (root / trial["folder"] / "trial.json").write_text(json.dumps(trial))


def test_trials_of_one_benchmark_are_read(tmp_path: Path) -> None:
    for trial in RESULTS:
        _write(tmp_path / trial["variant"], trial)  # as machines that shared the work leave them
    assert len(read_results(tmp_path)) == len(RESULTS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (result("base", 1, 60.0), r"a/dtd/base-seed1/trial\.json and .*b/dtd/base-seed1/trial\.json of the same name"),
        (
            _changed(result("lp2", 1, 60.0), shots=4),
            r"base-seed1/trial\.json and .*lp2-seed1/trial\.json with another shots",
        ),
        (result("lp2", 1, 60.0, lr=1.0), r"with another dtd: lr\."),
        ({**result("lp2", 1, 60.0), "mixed_precision": "bf16"}, r"with another mixed_precision\."),
        ({**result("lp2", 1, 60.0), "data_sha256": "of other images"}, r"with another dtd: contents\."),
    ],
)
def test_trials_of_two_benchmarks_are_not_mixed(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    _write(tmp_path / "a", result("base", 1, 50.0))
    _write(tmp_path / "a", result("base", 1, 50.0, "pets", lr=1.0))  # what a sweep chose for another data set
    assert len(read_results(tmp_path)) == 2
    _write(tmp_path / "b", other)
    with pytest.raises(ValueError, match=rf"must hold the trials of one benchmark, got .*{message}"):
        read_results(tmp_path)


FOREIGN = [
    ({}, "dataset, settings, .* missing or of another type"),
    ([], "record missing"),
    (3, "record missing"),
    ({"trials": [1]}, "dataset, settings, "),
    (
        {**RESULTS[0], "settings": {"model": "resnet18"}},
        "model_kwargs, pretrained, shots, epochs, lr, checkpoint missing",
    ),
    ({**RESULTS[0], "metrics": {"top1": "high"}}, "top1, mean_per_class missing"),
    ({key: value for key, value in RESULTS[0].items() if key != "held_out"}, "held_out missing"),
]


@pytest.mark.parametrize(("content", "message"), FOREIGN, ids=range(len(FOREIGN)))
def test_what_is_no_record_of_this_version_is_refused(tmp_path: Path, content: object, message: str) -> None:
    _write(tmp_path, RESULTS[0])
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"must hold trials of this version of timm-lp, got {path}: .*{message}"):
        read_results(tmp_path)


def test_trials_of_two_versions_are_not_mixed(tmp_path: Path) -> None:
    _write(tmp_path, result("base", 1, 50.0))
    _write(tmp_path, _changed(result("lp2", 1, 60.0), sharpness=1.0))
    with pytest.raises(ValueError, match=r"lp2-seed1/trial\.json with another list of settings"):
        read_results(tmp_path)


def test_folders_without_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`output_dir` must hold trials, got .* with no trial\.json"):
        read_results(tmp_path)
    (tmp_path / "trial.json").write_text("{")
    with pytest.raises(ValueError, match=r"`output_dir` must hold trials, got .*trial\.json, which is no JSON"):
        read_results(tmp_path)
