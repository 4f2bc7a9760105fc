import logging
import shutil
from pathlib import Path

import pytest
import timm
import torch

from timm_lp.experiments.robustness.networks import check_data, find_networks, network_digest

from ..networks import TINY
from .conftest import MakeTrial


def test_an_output_folder_stands_for_its_trials(run: Path) -> None:
    found = find_networks([str(run)])
    assert [(own.model, own.variant, own.seed, own.clean) for own in found] == [
        *(("resnet18", "base", 1, 61.0), ("resnet18", "base", 2, 62.0)),
        *(("resnet18", "lp2", 1, 61.0), ("resnet18", "lp2", 2, 62.0)),
    ]
    assert len({own.sha256 for own in found}) == 4
    assert {(own.num_classes, own.class_names) for own in found} == {(3, ("ant", "bee", "cat"))}
    (one,) = find_networks([str(run / "bugs" / "resnet18" / "lp2-seed2")])
    assert (one.variant, one.seed, one.sha256) == ("lp2", 2, found[3].sha256)


def test_failed_and_held_out_trials_are_left_out(
    make_trial: MakeTrial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_trial(tmp_path, "base", 1)
    make_trial(tmp_path, "lp2", 1, metrics=None, error="the loss became nan")
    make_trial(tmp_path, "base", 2, held_out=True)
    with caplog.at_level(logging.WARNING):
        assert [own.seed for own in find_networks([str(tmp_path)])] == [1]
    assert "lp2-seed1 is left out: its trial failed: the loss became nan" in caplog.text
    with pytest.raises(ValueError, match=r"`networks` must have a trial that ended well, got none in .*lp2-seed1"):
        find_networks([str(tmp_path / "bugs" / "resnet18" / "lp2-seed1")])


def test_a_saved_network_without_a_record_is_known_by_its_architecture(run: Path, tmp_path: Path) -> None:
    for variant in ("base", "lp2"):
        shutil.copytree(run / "bugs" / "resnet18" / f"{variant}-seed1", tmp_path / variant)
        (tmp_path / variant / "trial.json").unlink()
    found = find_networks([str(tmp_path / "base"), f"local-dir:{tmp_path / 'lp2'}", str(tmp_path / "base")])
    assert [(own.model, own.variant, own.seed, own.clean) for own in found] == [
        ("resnet18", "base", None, None),
        ("resnet18", "lp2", None, None),
    ]


def test_the_digest_is_of_weights_layers_and_preprocessing() -> None:
    def digest(name: str = "lp2_resnet18", mean: float = 0.5, **arguments: object) -> str:
        torch.manual_seed(1)
        return network_digest(timm.create_model(name, num_classes=3, **{**TINY, **arguments}), {"mean": mean})

    assert digest() == digest()
    torch.manual_seed(1)
    moved = timm.create_model("lp2_resnet18", num_classes=3, **TINY)
    with torch.no_grad():
        next(parameter for name, parameter in moved.named_parameters() if name.endswith("log2p"))[0] += 1e-3
    others = [
        network_digest(moved, {"mean": 0.5}),
        digest("lp4_resnet18"),
        digest("large_resnet18"),
        digest(mean=0.4),
        digest(output_stride=16),  # the same weights, applied otherwise
    ]
    assert len({digest(), *others}) == 6


def test_a_network_in_bfloat16_has_a_digest_too() -> None:
    network = timm.create_model("resnet18", num_classes=3, **TINY).bfloat16()
    assert len(network_digest(network, {})) == 64


def test_what_is_no_network_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`networks` must be a trial's folder, .* with neither trial.json nor config"):
        find_networks([str(tmp_path)])
    with pytest.raises(ValueError, match=r"`name` must be a registered network.*got 'resnet19'"):
        find_networks(["resnet19"])


def test_trials_of_different_data_are_refused(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    make_trial(tmp_path / "b", "base", 1, folder="other/resnet18/base-seed1", data_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"`networks` must be trials of one data set, got .* Test each data set by"):
        find_networks([str(tmp_path / "a"), str(tmp_path / "b")])


def test_the_same_trial_of_two_runs_and_other_settings_are_refused(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    make_trial(tmp_path / "b", "base", 1)
    make_trial(tmp_path / "c", "base", 2, settings={"epochs": 7})
    with pytest.raises(ValueError, match=r"must hold the trials of one benchmark, .* of the same name"):
        find_networks([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(ValueError, match=r"must hold the trials of one benchmark, .* with another resnet18: epochs"):
        find_networks([str(tmp_path / "a"), str(tmp_path / "c")])


def test_base_networks_may_have_settings_of_their_own(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    other = {"model": "resnet34", "network": "resnet34", "folder": "bugs/resnet34/base-seed1"}
    make_trial(tmp_path / "b", "base", 1, settings={"epochs": 7}, **other)
    assert [own.model for own in find_networks([str(tmp_path / "a"), str(tmp_path / "b")])] == ["resnet18", "resnet34"]


def test_other_images_than_the_trials_are_refused(run: Path) -> None:
    found = find_networks([str(run)])
    record = found[0].record
    assert record is not None
    check_data(found, record.data_sha256, "bugs")
    with pytest.raises(ValueError, match=r"`dataset` must have the images and classes of the trials' own, got digits"):
        check_data(found, "0" * 64, "digits")
