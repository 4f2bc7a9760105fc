import shutil
from pathlib import Path

import pytest
import timm
import torch

from timm_lp.experiments.robustness.networks import Candidate, check_data, describe_networks, network_digest
from timm_lp.trials.networks import find_networks

from ..networks import TINY
from .conftest import MakeTrial


def _describe(*names: Path | str) -> list[Candidate]:
    return describe_networks(find_networks(map(str, names)).networks)


def test_a_run_is_described_by_its_records_and_weights(run: Path) -> None:
    networks = _describe(run)
    assert [(one.model, one.variant, one.seed, one.clean) for one in networks] == [
        *(("resnet18", "base", 1, 61.0), ("resnet18", "base", 2, 62.0)),
        *(("resnet18", "lp2", 1, 61.0), ("resnet18", "lp2", 2, 62.0)),
    ]
    assert len({one.sha256 for one in networks}) == 4
    assert {(one.num_classes, one.class_names) for one in networks} == {(3, ("ant", "bee", "cat"))}
    (again,) = _describe(run / "bugs" / "resnet18" / "lp2-seed2")
    assert again.sha256 == networks[3].sha256
    assert networks[0].record is not None
    check_data(networks, networks[0].record.data_sha256, "bugs")
    with pytest.raises(ValueError, match=r"`dataset` must have the images and classes of the trials' own, got digits"):
        check_data(networks, "0" * 64, "digits")


def test_a_saved_network_without_a_record_is_what_its_architecture_says(run: Path, tmp_path: Path) -> None:
    for variant in ("base", "lp2"):
        shutil.copytree(run / "bugs" / "resnet18" / f"{variant}-seed1", tmp_path / variant)
        (tmp_path / variant / "trial.json").unlink()
    networks = _describe(tmp_path / "base", f"local-dir:{tmp_path / 'lp2'}")
    assert [(one.model, one.variant, one.seed, one.clean) for one in networks] == [
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


def test_trials_of_different_data_are_refused(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    make_trial(tmp_path / "b", "base", 1, folder="other/resnet18/base-seed1", data_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"`networks` must be trials of one data set, got .* Test each data set by"):
        _describe(tmp_path / "a", tmp_path / "b")


def test_the_same_trial_of_two_runs_and_other_settings_are_refused(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    make_trial(tmp_path / "b", "base", 1)
    make_trial(tmp_path / "c", "base", 2, settings={"epochs": 7})
    with pytest.raises(ValueError, match=r"`NETWORK` must hold the trials of one benchmark, .* the same name\. Test"):
        _describe(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match=r"must hold the trials of one benchmark, .* with another resnet18: epochs"):
        _describe(tmp_path / "a", tmp_path / "c")


def test_base_networks_may_have_settings_of_their_own(make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial(tmp_path / "a", "base", 1)
    other = {"model": "resnet34", "network": "resnet34", "folder": "bugs/resnet34/base-seed1"}
    make_trial(tmp_path / "b", "base", 1, settings={"epochs": 7}, **other)
    assert [one.model for one in _describe(tmp_path / "a", tmp_path / "b")] == ["resnet18", "resnet34"]
