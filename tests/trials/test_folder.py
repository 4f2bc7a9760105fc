import json
from dataclasses import replace
from pathlib import Path

import pytest

from timm_lp.files import TRIAL_FILE
from timm_lp.trials.folder import check_comparable, check_writable, find_data, find_finished, read_records
from timm_lp.trials.record import TrialRecord, as_json

from .records import RECORDS, changed, record

SCOPES = {"free": ("checkpoint",), "of_model": ("model_kwargs",), "of_cell": ("lr",)}


def write(root: Path, trial: TrialRecord) -> Path:
    (root / trial.folder).mkdir(parents=True)
    path = root / trial.folder / TRIAL_FILE
    path.write_text(json.dumps(as_json(trial)))
    return path


def _check(root: Path) -> None:
    check_comparable(read_records(root), **SCOPES)


def test_trials_of_one_benchmark_are_read(tmp_path: Path) -> None:
    for trial in RECORDS:
        write(tmp_path / trial.variant, trial)  # as machines that shared the work leave them
    assert len(read_records(tmp_path)) == len(RECORDS)
    _check(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        record("base", 1, 60.0, "pets", lr=1.0),  # what a sweep chose for another data set
        record("base", 1, 60.0, model="alexnet", lr=1.0),  # or another network
        changed(record("base", 1, 60.0, model="alexnet"), model_kwargs={"a": 1}),
        changed(record("lp2", 1, 60.0), checkpoint="moved.pth"),
        record("base", 1, 60.0, held_out=True, lr=1.0),
    ],
    ids=["data set", "network", "its arguments", "checkpoint", "sweep"],
)
def test_what_may_differ(tmp_path: Path, other: TrialRecord) -> None:
    write(tmp_path, record("base", 1, 50.0))
    write(tmp_path, other)
    _check(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record("base", 1, 60.0), r"a/dtd/resnet18/base-seed1/trial\.json and .*b/dtd/.*\.json of the same name"),
        (
            changed(record("lp2", 1, 60.0), epochs=4),
            r"base-seed1/trial\.json and .*lp2-seed1/trial\.json with another",
        ),
        (replace(record("lp2", 1, 60.0), shots=4), r"with another shots\."),
        (record("lp2", 1, 60.0, lr=1.0), r"with another dtd, resnet18: lr\."),
        (changed(record("lp2", 1, 60.0), mixed_precision="bf16"), r"with another mixed_precision\."),
        (changed(record("lp2", 1, 60.0), model_kwargs={"a": 1}), r"with another resnet18: model_kwargs\."),
        (replace(record("lp2", 1, 60.0), data_sha256="of other images"), r"with another dtd: contents\."),
        (changed(record("lp2", 1, 60.0), sharpness=1.0), r"with another sharpness\."),
    ],
)
def test_trials_of_two_benchmarks_are_not_mixed(tmp_path: Path, other: TrialRecord, message: str) -> None:
    write(tmp_path / "a", record("base", 1, 50.0))
    _check(tmp_path)
    write(tmp_path / "b", other)
    with pytest.raises(ValueError, match=rf"must hold the trials of one benchmark, got .*{message}"):
        _check(tmp_path)


def test_folders_without_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`output_dir` must hold trials, got .* with no trial\.json"):
        read_records(tmp_path)


def test_a_finished_trial_is_found(tmp_path: Path) -> None:
    trial = record("base", 1, 50.0)
    assert find_finished(tmp_path / trial.folder, trial.decisive()) is None
    write(tmp_path, trial)
    assert find_finished(tmp_path / trial.folder, trial.decisive()) == trial


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (changed(record("base", 1, 50.0), epochs=4), "epochs 4 instead of 5"),
        (replace(record("base", 1, 50.0), shots=None), "shots all instead of 16"),
        (replace(record("base", 1, 50.0), data_sha256="x"), "the contents of the data set differ"),
        (changed(record("base", 1, 50.0), checkpoint_sha256="x"), "the contents of the checkpoint differ"),
        (changed(record("base", 1, 50.0), jpeg_draft=True), "jpeg_draft True instead of None"),
    ],
)
def test_a_trial_with_other_settings_is_refused(tmp_path: Path, trial: TrialRecord, message: str) -> None:
    write(tmp_path, trial)
    expected = record("base", 1, 50.0).decisive()
    with pytest.raises(ValueError, match=rf"must not hold trials with other settings, got .*: {message}\. Choose"):
        find_finished(tmp_path / trial.folder, expected)


@pytest.mark.parametrize(
    ("trial", "copied"),
    [
        (record("base", 1, 50.0), "dtd/resnet18/lp2-seed2"),
        (record("base", 1, 50.0), "dtd/resnet18/base-seed2"),
        (record("base", 1, 50.0), "dtd/resnet34/base-seed1"),
        (record("base", 1, 50.0), "pets/resnet18/base-seed1"),
        (record("base", 1, 50.0, held_out=True), "dtd/resnet18/lr-sweep/lr0.2-seed1"),
    ],
    ids=["variant", "seed", "network", "data set", "sweep"],
)
def test_a_trial_that_is_copied_over_another_is_refused(tmp_path: Path, trial: TrialRecord, copied: str) -> None:
    write(tmp_path, trial).parent.rename(tmp_path / "copy")
    (tmp_path / copied).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "copy").rename(tmp_path / copied)
    message = (
        rf"^A trial must lie in the folder of its record, got {tmp_path / copied} with the record of {trial.folder}\."
    )
    for read in (lambda: read_records(tmp_path), lambda: find_finished(tmp_path / copied, trial.decisive())):
        with pytest.raises(ValueError, match=message):
            read()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (record("lp2", 1, 50.0), "variant base instead of lp2"),
        (record("base", 2, 50.0), "seed 1 instead of 2"),
        (record("base", 1, 50.0, model="resnet34"), "model resnet18 instead of resnet34"),
        (record("base", 1, 50.0, held_out=True), "held_out False instead of True"),
    ],
    ids=["variant", "seed", "network", "sweep"],
)
def test_a_trial_other_than_the_one_asked_for_is_not_taken(tmp_path: Path, asked: TrialRecord, message: str) -> None:
    folder = write(tmp_path, record("base", 1, 50.0)).parent
    with pytest.raises(ValueError, match=rf"must not hold trials with other settings, got .*: {message}\. Choose"):
        find_finished(folder, asked.decisive())


def test_a_trial_may_be_moved_and_renamed(tmp_path: Path) -> None:
    folder = write(tmp_path, record("lp2", 1, 50.0)).parent
    assert len(read_records(folder)) == 1
    for other in ("lp2-seed1", "the best one"):
        folder = folder.rename(tmp_path / other)
        assert len(read_records(folder)) == 1
    folder = folder.rename(tmp_path / "lp2-seed2")
    with pytest.raises(ValueError, match=r"A trial must lie in the folder of its record, got .*/lp2-seed2 with"):
        read_records(folder)


def test_what_may_be_mended_runs_again(tmp_path: Path) -> None:
    trial = replace(record("base", 1, None, error="an image is damaged"), final=False, data_sha256="damaged")
    write(tmp_path, trial)
    assert find_finished(tmp_path / trial.folder, record("base", 1, 50.0).decisive()) is None


def test_settings_that_may_differ_are_passed(tmp_path: Path) -> None:
    trial = write(tmp_path, record("base", 1, 50.0, lr=1.0)).parent
    assert find_finished(trial, record("base", 1, 50.0).decisive(), but=("lr",)) is not None


def test_a_damaged_record_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / TRIAL_FILE).write_bytes(b"")
    assert find_finished(tmp_path, {}) is None
    assert "trial.json cannot be read, and its trial runs again: Expecting value" in caplog.text


def test_a_data_set_is_found_by_its_contents(tmp_path: Path) -> None:
    trial = record("base", 1, 50.0)
    write(tmp_path, trial)
    assert find_data(tmp_path, "digest of dtd", ()) == ("dtd", trial.dataset)
    assert find_data(tmp_path, "digest of dtd", ("dtd",)) is None
    assert find_data(tmp_path, "digest of pets", ()) is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / TRIAL_FILE).write_text("{}")
    assert find_data(tmp_path, "digest of dtd", ()) == ("dtd", trial.dataset)


def test_a_folder_that_takes_files_is_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert [*(tmp_path / "new" / "folder").iterdir()] == []


def test_a_folder_that_takes_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`output_dir` must be a folder to write to, got '.*below': \[Errno"):
        check_writable(tmp_path / "file" / "below")
