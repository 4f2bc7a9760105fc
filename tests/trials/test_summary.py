from dataclasses import replace

import pytest

from timm_lp.trials.summary import command_of, shown_with, summarize, summarize_trial

from .records import RECORDS, record


def test_results_are_metrics_by_seed() -> None:
    summary = summarize(RECORDS, "accelerate launch finetune.py --model resnet18")
    assert summary["recipe"]["command"] == "accelerate launch finetune.py --model resnet18"
    assert summary["recipe"]["start"] == {"kind": "hub", "hub_id": "timm/resnet18.a1_in1k", "license": "apache-2.0"}
    settings = summary["recipe"]["settings"]
    assert (settings["model"], settings["shots"], settings["epochs"]) == ("resnet18", 16, 5)
    assert [(entry["dataset"]["id"], entry["variant"]) for entry in summary["results"]] == [
        ("org/dtd", "base"),
        ("org/dtd", "lp2"),
        ("org/pets", "base"),
        ("org/pets", "lp2"),
    ]
    assert summary["results"][1] == {
        "dataset": {"id": "org/dtd", "name": "DTD", "revision": "1" * 40, "split": "test", "config": None},
        "model": "resnet18",
        "shots": 16,
        "variant": "lp2",
        "lr": 0.1,
        "num_test": 1880,
        "metrics": {"top1": {"1": 90.0, "2": 91.0, "3": None}, "mean_per_class": {"1": 89.0, "2": 90.0, "3": None}},
    }


def test_networks_are_apart() -> None:
    summary = summarize([record("base", 1, 50.0), record("base", 1, 60.0, model="alexnet")], "")
    results = [(entry["model"], entry["metrics"]["top1"]) for entry in summary["results"]]
    assert results == [("resnet18", {"1": 50.0}), ("alexnet", {"1": 60.0})]
    assert "model" not in summary["recipe"]["settings"]


def test_what_a_summary_does_not_know() -> None:
    assert summarize([replace(record("base", 1, 50.0), shots=None)], "")["results"][0]["shots"] is None
    assert summarize([replace(record("base", 1, 50.0), start=None)], "")["recipe"]["start"] is None
    assert summarize([record("base", 1, None)], "command")["results"] == []


def test_a_trial_stands_beside_its_variant_and_the_base_network() -> None:
    shown = shown_with(RECORDS[4], RECORDS)
    assert [(trial.variant, trial.seed) for trial in shown if not trial.held_out] == [
        *(("lp2", seed) for seed in (1, 2, 3)),
        *(("base", seed) for seed in (1, 2, 3)),
    ]
    assert {trial.dataset.name for trial in shown} == {"DTD"}
    summary = summarize_trial(RECORDS[4], RECORDS, "command")
    assert [entry["variant"] for entry in summary["results"]] == ["lp2", "base"]
    assert (summary["recipe"]["variant"], summary["recipe"]["seed"]) == ("lp2", 2)


@pytest.mark.parametrize(
    ("command", "repeated"),
    [
        ("finetune.py --seeds 2 --lr 0.1", "finetune.py --seeds 1 2 --lr 0.1"),
        ("finetune.py --dataset 'my data' --seeds 2 3 4", "finetune.py --dataset 'my data' --seeds 1 2"),
        ("finetune.py --lr 0.1", "finetune.py --lr 0.1"),
    ],
)
def test_a_command_that_repeats_all_seeds(command: str, repeated: str) -> None:
    assert command_of([replace(record("lp2", seed, 1.0), command=command) for seed in (1, 2)]) == repeated
