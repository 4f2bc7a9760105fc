"""What a NETWORK of a command line is: each of its forms, and what is said in place of a network."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from timm_lp.trials.networks import Subject, find_networks, short_names

from ..hub_export.conftest import use
from ..hub_server import serve
from .records import TINY, record, save_sudoku, save_trial, write_trial


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that timm saved."""
    shutil.copytree(save_trial(tmp_path / "of_saved"), tmp_path / "saved")
    (tmp_path / "saved" / "trial.json").unlink()
    return tmp_path / "saved"


def _the_network(name: object, **options: Any) -> Subject:
    found = find_networks([str(name)], **options)
    assert not found.failed
    (subject,) = found.networks
    return subject


def _facts(subject: Subject) -> tuple[str, str, int | None, bool]:
    return subject.model, subject.variant, subject.seed, subject.is_of_run


def _same(loaded: torch.nn.Module, folder: Path) -> bool:
    expected = load_file(folder / "model.safetensors")
    state = loaded.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[key], value) for key, value in expected.items())


def test_short_names_are_not_empty() -> None:
    assert short_names(["a/b/c", "a/d/c"]) == {"a/b/c": "b/c", "a/d/c": "d/c"}
    assert short_names(["alexnet", "."]) == {"alexnet": "alexnet", ".": "."}


def test_a_registered_name() -> None:
    subject = _the_network("lp2_resnet18.a1_in1k")
    assert (subject.name, subject.path) == ("lp2_resnet18.a1_in1k", None)
    assert _facts(subject) == ("resnet18.a1_in1k", "lp2", None, False)
    assert subject.load(pretrained=False, num_classes=3, **TINY).num_classes == 3


def test_a_name_on_the_hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serve() as server:
        server.seed(saved, "someone/tiny")
        use(server.url, monkeypatch)
        subject = _the_network("hf-hub:someone/tiny")
        assert (subject.path, _facts(subject)) == (None, ("", "base", None, False))
        assert _same(subject.load(), saved)


@pytest.mark.parametrize("form", ["{}", "{}/", "local-dir:{}", "{}/model.safetensors", "~/saved"])
def test_a_folder_that_timm_saved(form: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    subject = _the_network(form.format(saved))
    assert (subject.path, subject.record, _facts(subject)) == (saved, None, ("resnet18", "lp2", None, False))
    assert _same(subject.load(), saved)


def test_a_file_of_weights_beside_its_configuration(saved: Path) -> None:
    folder = saved
    weights = {f"module.{key}": value + 1 for key, value in load_file(folder / "model.safetensors").items()}
    for file in (folder / "epoch3.pth", folder / "pytorch_model.bin"):  # timm takes model.safetensors before either
        torch.save({"state_dict": weights}, file)
        subject = _the_network(file)
        assert (subject.name, subject.path) == (str(file), file)
        assert _facts(subject) == ("resnet18", "lp2", None, False)
        loaded = subject.load(in_chans=3).state_dict()
        assert torch.equal(loaded["conv1.weight"], weights["module.conv1.weight"])
        torch.manual_seed(1)
        fresh = timm.create_model("lp2_resnet18", num_classes=3, **TINY)
        torch.manual_seed(1)
        assert torch.equal(subject.load(pretrained=False).state_dict()["conv1.weight"], fresh.conv1.weight)


@pytest.mark.parametrize("form", ["{}", "local-dir:{}", "{}/model.safetensors"])
def test_a_trial_is_what_its_record_says(form: str, tmp_path: Path) -> None:
    folder = save_trial(tmp_path, "lp2-paper", 7, network="lp2_resnet18")
    subject = _the_network(form.format(folder))
    assert (subject.name, subject.path, _facts(subject)) == (str(folder), folder, ("resnet18", "lp2-paper", 7, False))
    assert subject.record is not None
    assert subject.record.data_folder == "digits"
    assert _same(subject.load(), folder)


def test_a_runs_folder_stands_for_its_trials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trials = [save_trial(tmp_path, variant, seed) for variant in ("base", "lp2") for seed in (1, 2)]
    failed = write_trial(tmp_path, record("lp4", 1, None, "digits", error="the loss became nan"))
    write_trial(tmp_path, record("base", 1, 99.0, "digits", held_out=True))
    with caplog.at_level(logging.WARNING):
        found = find_networks([str(tmp_path)])
    assert [own.path for own in found.networks] == trials
    assert {own.is_of_run for own in found.networks} == {True}
    assert found.failed == [str(failed)]
    assert f"{failed} is left out: its trial failed: the loss became nan" in caplog.text


def test_a_sudoku_trial_sees_no_images(tmp_path: Path) -> None:
    folder = save_sudoku(tmp_path)
    for name in (folder, folder / "model.safetensors", tmp_path):
        subject = _the_network(name, see_images=False)
        assert (subject.model, subject.seed, subject.is_sudoku) == ("sudoku4x1-scalar", 1, True)
        assert _same(subject.load(), folder)
        with pytest.raises(ValueError, match=r"`NETWORK` must be a network that sees images, got .*lp2-seed1', a Sud"):
            find_networks([str(name)])
    (folder / "trial.json").unlink()
    assert _the_network(folder, see_images=False).is_sudoku
    (folder / "other.pth").touch()
    with pytest.raises(ValueError, match=r"`NETWORK` must be the folder of a Sudoku network, got its file .*other"):
        find_networks([str(folder / "other.pth")], see_images=False)


def test_a_network_counts_once_and_as_named_where_it_is(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "of_saved"
    (trial,) = (path.parent for path in run.rglob("trial.json"))
    for names in ([run, trial], [trial, run, f"{trial}/", trial / "model.safetensors"]):
        assert [own.is_of_run for own in find_networks(map(str, names)).networks] == [False]
    assert len(find_networks([str(saved), f"local-dir:{saved}", "resnet18", "resnet18"]).networks) == 2


def test_a_folder_with_networks_wins_over_a_registered_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet18").mkdir()
    assert _the_network("resnet18").path is None, "the folder is empty"
    assert _the_network("resnet18").load(pretrained=False).num_classes == 1000
    shutil.move(save_trial(tmp_path / "run", "base"), "resnet18/base-seed1")
    assert _facts(_the_network("resnet18")) == ("resnet18", "base", 1, True), "a run's"
    shutil.move("resnet18/base-seed1", "lp2_resnet18")
    (tmp_path / "lp2_resnet18" / "trial.json").unlink()
    subject = _the_network("lp2_resnet18")
    assert _facts(subject) == ("resnet18", "base", None, False)
    assert subject.load().num_classes == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet17", "got 'resnet17', which is neither a name that timm has nor a file or folder. timm.list_models"),
        ("local-dir:nowhere", "got 'local-dir:nowhere', which is neither a name"),
        ("empty", "got 'empty', an empty folder. timm.list_models"),
        (
            "other",
            "got 'other', a folder without trial.json or config.json that holds a, b, c, d, e and 1 more. timm.list",
        ),
        ("other/a", "must be a file of weights beside the config.json of its network, got 'other/a' without one."),
    ],
)
def test_what_is_no_network_is_said(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "other"):
        Path(folder).mkdir()
    for file in "abcdef":
        Path("other", file).touch()
    with pytest.raises(ValueError, match=r"^`NETWORK` must be ") as refused:
        find_networks(["resnet18", name])
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_trials_that_left_no_network_are_said(tmp_path: Path) -> None:
    failed = write_trial(tmp_path / "failed", record("lp2", 1, None, error="the loss became nan"))
    held_out = write_trial(tmp_path / "held_out", record("base", 1, 55.0, held_out=True))
    command = "timm-lp finetune --no-save-models"
    unsaved = write_trial(tmp_path / "unsaved", replace(record("lp2", 1, 50.0), command=command))
    puzzles = write_trial(tmp_path / "puzzles", record("lp2", 1, 50.0, model="sudoku4x1-scalar"))
    (puzzles / "config.json").write_text("{}")
    for name, sentence in (
        (failed, r"a trial that ended well, got .*lp2-seed1, which failed: the loss became nan\. Run it again\."),
        (failed.parent, r"a run with a trial that ended well, got .*resnet18 without one\. Run it again\."),
        (held_out, r"a trial that was tested on the test images, got .*lr0\.1-seed1, which chose a setting on"),
        (held_out.parent, r"a run with a trial that ended well, got .*lr-sweep without one"),
        (unsaved, r"a trial with its saved network, got .*lp2-seed1 without one\. .* without --no-save-models\."),
        (tmp_path / "unsaved", r"a trial with its saved network, got .* without --no-save-models\."),
        (puzzles, r"a trial with its saved network, got .* without one\. Its command saves none, or its files"),
    ):
        with pytest.raises(ValueError, match=f"`NETWORK` must be {sentence}"):
            find_networks([str(name)], see_images=False)


def test_damaged_and_copied_records_are_said(tmp_path: Path) -> None:
    folder = save_trial(tmp_path)
    copied = Path(shutil.copytree(folder, folder.parent / "lp2-seed2"))
    for name in (copied, f"local-dir:{copied}", copied / "model.safetensors", tmp_path):
        with pytest.raises(ValueError, match=r"A trial must lie in the folder of its record, got .*lp2-seed2 with the"):
            find_networks([str(name)])
    shutil.rmtree(copied)
    for text in ("", "[]", "{}"):
        (folder / "trial.json").write_text(text)
        for name in (folder, tmp_path):
            with pytest.raises(ValueError, match=r"A trial\'s record must be .*, got .*lp2-seed1/trial\.json"):
                find_networks([str(name)])


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"architecture"'])
def test_a_damaged_configuration_is_said(text: str, tmp_path: Path) -> None:
    trial = save_trial(tmp_path / "run")
    saved = Path(shutil.copytree(trial, tmp_path / "saved"))
    (saved / "trial.json").unlink()
    for folder in (trial, saved):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"`NETWORK` must have a config\.json that names its architecture, got .*"):
            find_networks([str(folder)])


def test_weights_that_do_not_fit_are_said(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    others = {**weights, "fc.bias": torch.zeros(5)}
    torch.save(others, saved / "other.pth")
    sentence = r"^`NETWORK` must have weights that fit its config\.json, got .*{}: .*fc\.bias.*\. Save it again"
    with pytest.raises(ValueError, match=sentence.format(r"other\.pth")):
        _the_network(saved / "other.pth").load()
    save_file(others, saved / "model.safetensors")
    with pytest.raises(ValueError, match=sentence.format("saved")):
        _the_network(saved).load()
    (saved / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"`NETWORK` must have weights that fit its config\.json, got .*saved: "):
        _the_network(saved).load()
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "architecture": "resnet17"}))
    with pytest.raises(ValueError, match=r"must be of timm, or of a package that is imported, .*saved of .*resnet17"):
        _the_network(saved).load()
