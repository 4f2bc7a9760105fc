import json
import platform
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import timm_lp
from timm_lp.files import TRIAL_FILE
from timm_lp.trials.record import TrialRecord, as_json, read_record, versions_of

from .records import RECORDS

CONTENT = as_json(RECORDS[0])


@pytest.mark.parametrize("place", range(len(RECORDS)))
def test_a_record_is_read_as_it_was_written(place: int, tmp_path: Path) -> None:
    path = tmp_path / TRIAL_FILE
    path.write_text(json.dumps(as_json(RECORDS[place])))
    assert read_record(path) == RECORDS[place]


FOREIGN = [
    ({}, "folder, dataset, .* missing, unknown or of another type"),
    ([], "record missing"),
    (3, "record missing"),
    ({"trials": [1]}, "trials, folder, dataset"),
    ({**CONTENT, "settings": None}, "settings missing"),
    ({**CONTENT, "seed": "1"}, "seed missing"),
    ({**CONTENT, "seed": True}, "seed missing"),
    ({**CONTENT, "held_out": 0}, "held_out missing"),
    ({**CONTENT, "metrics": {"top1": "high"}}, "metrics missing"),
    ({**CONTENT, "metrics": [1.0]}, "metrics missing"),
    ({**CONTENT, "history": {"loss": [1.0, None]}}, "history missing"),
    ({**CONTENT, "start": {"kind": "magic"}}, "start missing"),
    ({**CONTENT, "machine": {"device": "cpu"}}, "num_processes, cpu_threads missing"),
    ({**CONTENT, "colour": "red"}, "colour missing, unknown"),
]


@pytest.mark.parametrize(("content", "message"), FOREIGN, ids=range(len(FOREIGN)))
def test_what_is_no_record_of_this_version_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / TRIAL_FILE
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"must be of this version of timm-lp, got {path}: .*{message}"):
        read_record(path)


ODD = [
    ({"metrics": {"top1": float("nan")}}, "`metrics` must be numbers from 0 to 100, top1 is nan"),
    ({"metrics": {"top1": 1e9}}, "from 0 to 100, top1 is 1000000000.0"),
    ({"metrics": {"top1": 50.0, "mean_per_class": -0.1}}, "from 0 to 100, mean_per_class is -0.1"),
    ({"metrics": {"loss": float("inf")}}, "from 0 to infinity, loss is inf"),
    ({"metrics": {"val_mse": -1.0}}, "from 0 to infinity, val_mse is -1.0"),
    ({"metrics": {"raw_cc": 1.01}}, "from -1 to 1, raw_cc is 1.01"),
    ({"metrics": {"cc": float("nan")}}, "from -1 to 1, cc is nan"),
    ({"history": {"loss": [2.0, float("nan")]}}, "`history` and `train_seconds` must be finite"),
    ({"train_seconds": float("inf")}, "`history` and `train_seconds` must be finite"),
    ({"variant": "lp2"}, "`folder` is dtd/resnet18/base-seed1, its variant, seed and network give .*/lp2-seed1"),
    ({"seed": 3}, "give dtd/resnet18/base-seed3"),
    ({"model": "resnet34"}, "give dtd/resnet34/base-seed1"),
    ({"held_out": True}, r"give dtd/resnet18/lr-sweep/lr0\.1-seed1"),
    ({"metrics": None}, "it must have either `metrics` or an `error`"),
    ({"error": "the loss became nan"}, "it must have either `metrics` or an `error`"),
]


@pytest.mark.parametrize(("changes", "message"), ODD, ids=range(len(ODD)))
def test_what_no_trial_leaves_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / TRIAL_FILE
    path.write_text(json.dumps({**CONTENT, **changes}))
    with pytest.raises(
        ValueError, match=rf"must be as its run left it, got {path}: .*{message}.* Remove the file"
    ):
        read_record(path)


@pytest.mark.parametrize("name", [own.name for own in fields(TrialRecord)])
def test_every_field_must_be_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / TRIAL_FILE
    path.write_text(json.dumps({key: value for key, value in CONTENT.items() if key != name}))
    with pytest.raises(ValueError, match=rf"got {path}: {name} missing"):
        read_record(path)


def test_a_metrics_name_tells_its_range(tmp_path: Path) -> None:
    path = tmp_path / TRIAL_FILE
    metrics = {"cc": 1 + 1e-12, "raw_cc": -0.9, "mse": 1e6, "test_loss": 1e6, "top1": 100.0, "loss_share": 100.0}
    path.write_text(json.dumps({**CONTENT, "metrics": metrics}))
    assert read_record(path).metrics == metrics


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / TRIAL_FILE
    path.write_text(json.dumps({**CONTENT, "metrics": {"top1": 80}}))
    assert read_record(path).metrics == {"top1": 80}


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRIAL_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"A trial's record must be JSON, got .*trial\.json"):
        read_record(tmp_path / TRIAL_FILE)


def test_the_versions_are_those_of_what_is_installed() -> None:
    assert versions_of("numpy", "not-a-package") == {
        "timm-lp": timm_lp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
