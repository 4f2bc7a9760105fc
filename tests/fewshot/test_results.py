import json
from pathlib import Path
from typing import Any

import pytest

from timm_lp.fewshot.results import card_results, read_results, write_card_results

from .images import config
from .results import RESULTS, result


def test_card_results_are_metrics_by_seed() -> None:
    card = card_results(RESULTS, "accelerate launch finetune.py --model resnet18")
    assert card["recipe"]["command"] == "accelerate launch finetune.py --model resnet18"
    assert card["recipe"]["base_model"] == "timm/resnet18.a1_in1k"
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
        "metrics": {"top1": {"1": 90.0, "2": 91.0}, "mean_per_class": {"1": 89.0, "2": 90.0}},
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


def test_a_card_names_the_variant_as_its_model_does(tmp_path: Path) -> None:
    results = [result(variant, 1, 50.0) for variant in ("base", "lp2", "lp2-paper")]
    write_card_results(tmp_path, results, config(dataset=["dtd"], variants=["base", "lp2", "lp2-paper"]))
    card = json.loads((tmp_path / "dtd" / "lp2-paper-seed1" / "results.json").read_text())
    assert [entry["variant"] for entry in card["results"]] == ["lp2", "base"]
    assert "--variants lp2-paper" in card["recipe"]["command"]


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
