from pathlib import Path

import pytest
import torch

from timm_lp.masks.demo import demonstration
from timm_lp.masks.networks import load_groups
from timm_lp.masks.statistics import layer_masks

from .networks import save


@pytest.fixture
def trials(tmp_path: Path) -> list[str]:
    """Two trials of one network, one of another, and one of another data set."""
    places = ["digits/lp2-seed1", "digits/lp2-seed2", "digits/lp16-seed1", "dtd/lp2-seed1"]
    for seed, place in enumerate(places):
        save(tmp_path / place, "lp16_resnet18" if "lp16" in place else "lp2_resnet18", seed)
    return [str(tmp_path / place) for place in places]


def test_trials_are_pooled(trials: list[str]) -> None:
    groups = load_groups([trials[0], f"{trials[1]}/", *trials[2:]])
    assert [(group.name, len(group.networks)) for group in groups] == [
        ("digits/lp2", 2),
        ("digits/lp16", 1),
        ("dtd/lp2", 1),
    ]


def test_a_trial_that_is_copied_over_another_is_refused(trials: list[str]) -> None:
    """Its masks would count as those of another seed."""
    for trial in trials[:2]:
        Path(trial, "trial.json").write_text('{"folder": "digits/resnet18/lp2-seed1"}')
    load_groups(trials[:1])
    for name in (trials[1], f"local-dir:{trials[1]}"):
        with pytest.raises(ValueError, match=r"A trial must lie in the folder of its record, got .*lp2-seed2 with the"):
            load_groups([trials[0], name])


def test_nothing_is_pooled(trials: list[str], tmp_path: Path) -> None:
    groups = load_groups(trials[:2], "none")
    assert [group.name for group in groups] == ["lp2-seed1", "lp2-seed2"]
    network = save(tmp_path / "again", seed=1)
    for layer, expected in zip(groups[1].layers, layer_masks(network), strict=True):
        assert torch.equal(layer.C, expected.C)
        assert torch.equal(layer.log2p, expected.log2p)


def test_all_are_pooled(trials: list[str]) -> None:
    (group,) = load_groups([trials[0], trials[1], trials[3]], "all")
    assert (group.name, group.networks) == ("all networks", (trials[0], trials[1], trials[3]))
    assert len(group.layers[0]) == 3 * 64
    with pytest.raises(ValueError, match="`networks` must have the same layers with the same start to be pooled"):
        load_groups(trials, "all")


def test_a_network_counts_once(trials: list[str]) -> None:
    (group,) = load_groups([trials[0], trials[0]])
    assert len(group.networks) == 1


def test_names_tell_groups_apart(tmp_path: Path) -> None:
    names = [str(tmp_path / place) for place in ("one/a/x", "two/a/x", "two/b/x")]
    for name in names:
        save(Path(name))
    assert [group.name for group in load_groups(names)] == ["one/a/x", "two/a/x", "two/b/x"]
    assert [group.name for group in load_groups(names[1:])] == ["a/x", "b/x"]
    assert [group.name for group in load_groups([f"local-dir:{names[0]}"])] == ["x"]


def test_a_network_without_masks_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "large", "large_resnet18")
    with pytest.raises(
        ValueError, match=r"`names` must be of networks with Lp-convolutions, got .*large, which has none"
    ):
        load_groups([str(tmp_path / "large")])


def test_the_demonstration_draws_the_same_again_and_says_what_it_is() -> None:
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
