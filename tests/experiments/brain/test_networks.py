import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from timm_lp.experiments.brain.networks import Network, networks_of
from timm_lp.trials.record import read_record

from ...trials.records import TINY, save_trial


def _facts(networks: list[Network]) -> list[tuple[str, str, int | None, bool]]:
    return [(network.name, network.group, network.seed, network.pretrained) for network in networks]


def test_trials_are_seeds_of_their_model_and_variant(tmp_path: Path) -> None:
    folders = [
        str(save_trial(tmp_path / run, "lp2-paper", seed, network="lp2_resnet18"))
        for run, seed in (("one", 4), ("two", 7))
    ]
    assert _facts(networks_of(folders, folders[1:], seeds=[0, 1])) == [
        (folders[0], "resnet18 (lp2-paper)", 4, True),
        (folders[1], "resnet18 (lp2-paper)", 7, True),
        (folders[1], "resnet18 (lp2-paper, untrained)", 7, False),
    ]
    assert _facts(networks_of([str(tmp_path)])) == _facts(networks_of(folders))
    copied = shutil.copytree(folders[0], tmp_path / "copied")
    with pytest.raises(ValueError, match=re.escape("got seed 4 of resnet18 (lp2-paper) twice. Compare trials of one")):
        networks_of([folders[0], str(copied)])


@pytest.mark.parametrize(
    ("change", "what"),
    [({"data_sha256": "other"}, "data"), ({"settings": {"epochs": 7}}, "epochs"), ({"shots": 3}, "shots")],
)
def test_trials_of_other_data_or_settings_are_no_seeds(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    first = save_trial(tmp_path / "one", seed=1)
    settings = {**read_record(first / "trial.json").settings, **change.get("settings", {})}
    other = save_trial(tmp_path / "two", seed=2, **{**change, "settings": settings})
    with pytest.raises(ValueError, match=rf"in the seed alone, got .* of resnet18 \(lp2\) with another {what}\."):
        networks_of([str(first), str(other)])
    assert len(networks_of([str(first), str(save_trial(tmp_path / "two", "base", 2, **change))])) == 2


def test_networks_without_a_record_stand_alone_or_have_seeds(tmp_path: Path) -> None:
    folder = str(save_trial(tmp_path))
    Path(folder, "trial.json").unlink()
    assert _facts(networks_of([folder], ["resnet18.a1_in1k", folder], seeds=[1, 2])) == [
        (folder, folder, None, True),
        *(("resnet18.a1_in1k", "resnet18.a1_in1k (untrained)", seed, False) for seed in (1, 2)),
        *((folder, f"{folder} (untrained)", seed, False) for seed in (1, 2)),
    ]
    with pytest.raises(ValueError, match=re.escape("got seed 3 of resnet18 (untrained) twice")):
        networks_of([], ["resnet18"], seeds=[3, 3])


def test_random_weights_are_those_of_the_seed(tmp_path: Path) -> None:
    folder = save_trial(tmp_path)
    (folder / "trial.json").unlink()
    before = torch.get_rng_state()
    first, other = (network.load() for network in networks_of([], [str(folder)], [3, 4]))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    fresh = timm.create_model("lp2_resnet18", num_classes=3, **TINY)
    torch.testing.assert_close(first.state_dict(), fresh.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
