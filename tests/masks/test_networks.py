import logging
import shutil
from pathlib import Path

import pytest
import torch

from timm_lp.masks.networks import demonstration, load_groups
from timm_lp.masks.statistics import layer_masks

from .networks import save, save_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of one network, one of another, one of another data set, and one without masks."""
    folder = tmp_path_factory.mktemp("run")
    for seed in (1, 2):
        save_trial(folder, "lp2", seed)
    save_trial(folder, "lp16", 1)
    save_trial(folder, "lp2", 1, "dtd")
    save_trial(folder, "base", 1)
    return folder


@pytest.fixture
def trials(run: Path) -> list[str]:
    """Folders of the run's trials with masks."""
    places = ("digits/resnet18/lp2-seed1", "digits/resnet18/lp2-seed2", "dtd/resnet18/lp2-seed1")
    return [str(run / place) for place in places]


def test_a_run_shows_its_trials_seeds_together(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        groups = load_groups([str(run)])
    assert [(group.name, len(group.networks)) for group in groups] == [
        ("digits/resnet18/lp16", 1),
        ("digits/resnet18/lp2", 2),
        ("dtd/resnet18/lp2", 1),
    ]
    assert "base-seed1 is left out: it has no masks." in caplog.text


def test_trials_are_pooled_by_their_records(run: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "digits" / "resnet18")
    (group,) = load_groups(["lp2-seed1", f"{trials[1]}/"])
    assert (group.name, group.networks) == ("lp2", ("lp2-seed1", trials[1]))
    assert len(group.layers[0]) == 2 * 64
    groups = load_groups(trials)
    assert [group.name for group in groups] == ["digits/resnet18/lp2", "dtd/resnet18/lp2"]


def test_moved_trials_are_pooled_where_they_lie_together(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    moved = {"one/a": ("lp2", 1), "one/b": ("lp2", 2), "two/a": ("lp2", 2), "one/c": ("lp4", 1)}
    names = [save_trial(tmp_path / "run", *trial, folder=tmp_path / place) for place, trial in moved.items()]
    assert [(group.name, group.networks) for group in load_groups(names)] == [
        ("one/digits/resnet18/lp2", (names[0], names[1])),
        ("two/digits/resnet18/lp2", (names[2],)),
        ("one/digits/resnet18/lp4", (names[3],)),
    ]
    shutil.copytree(names[0], tmp_path / "one" / "d")
    with pytest.raises(ValueError, match=r"trials of several seeds to be pooled, got seed 1 in .*a and in .*d\."):
        load_groups([*names, str(tmp_path / "one" / "d")])


def test_nothing_is_pooled(trials: list[str], tmp_path: Path) -> None:
    groups = load_groups(trials[:2], "none")
    assert [group.name for group in groups] == ["lp2-seed1", "lp2-seed2"]
    network = save(tmp_path / "again", seed=2)
    for layer, expected in zip(groups[1].layers, layer_masks(network), strict=True):
        assert torch.equal(layer.C, expected.C)
        assert torch.equal(layer.log2p, expected.log2p)


def test_all_are_pooled(run: Path, trials: list[str]) -> None:
    (group,) = load_groups(trials, "all")
    assert (group.name, group.networks) == ("all networks", tuple(trials))
    assert len(group.layers[0]) == 3 * 64
    with pytest.raises(ValueError, match="`networks` must have the same layers with the same start to be pooled"):
        load_groups([str(run)], "all")


def test_networks_without_a_record_stand_alone_and_names_tell_them_apart(tmp_path: Path) -> None:
    names = [str(tmp_path / place) for place in ("one/a/lp2-seed1", "two/a/lp2-seed1", "two/a/lp2-seed2")]
    for name in names:
        save(Path(name))
    assert [group.name for group in load_groups(names)] == ["one/a/lp2-seed1", "two/a/lp2-seed1", "two/a/lp2-seed2"]
    assert [group.name for group in load_groups(names[1:])] == ["lp2-seed1", "lp2-seed2"]
    assert [group.name for group in load_groups([f"local-dir:{names[0]}", names[0]])] == ["lp2-seed1"]


def test_networks_without_masks_are_refused(run: Path) -> None:
    base = str(run / "digits" / "resnet18" / "base-seed1")
    for names in ([base], [base, str(run)]):
        with pytest.raises(ValueError, match=r"`NETWORK` must have Lp-convolutions, got .*base-seed1, which has none"):
            load_groups(names)


def test_a_run_without_masks_is_refused(tmp_path: Path) -> None:
    save_trial(tmp_path, "large")
    with pytest.raises(ValueError, match=rf"`NETWORK` must be a run with masks, got {tmp_path} without any"):
        load_groups([str(tmp_path)])


def test_the_demonstration_is_the_same_again_and_says_what_it_is() -> None:
    state = torch.get_rng_state()
    torch.manual_seed(1)
    first = demonstration()
    torch.manual_seed(2)
    second = demonstration()
    torch.set_rng_state(state)
    assert first.is_demonstration
    assert "untrained" in first.name
    assert all("untrained" in name for name in first.networks)
    for one, other in zip(first.layers, second.layers, strict=True):
        assert torch.equal(one.C, other.C)
        assert torch.equal(one.log2p, other.log2p)
        assert not one.are_alike
    gammas = [layer.conformation.gamma.median() for layer in first.layers]
    assert gammas[-1] > gammas[0]
