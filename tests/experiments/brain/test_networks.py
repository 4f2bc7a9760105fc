import json
import re
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

from timm_lp.experiments.brain.networks import Network, networks_of, trial_of
from timm_lp.trials.record import as_json

from ...trials.records import record


def _trial(folder: Path, seed: int = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps(as_json(record("lp2-paper", seed, 50.0))))
    return folder


def test_a_trial_is_a_seed_of_its_model_and_variant(tmp_path: Path) -> None:
    folders = [str(_trial(tmp_path / str(seed), seed=seed)) for seed in (4, 7)]
    assert networks_of(folders, folders[1:], seeds=[0, 1]) == [
        Network(folders[0], "resnet18 (lp2-paper)", 4),
        Network(folders[1], "resnet18 (lp2-paper)", 7),
        Network(folders[1], "resnet18 (lp2-paper, untrained)", 7, pretrained=False),
    ]
    assert trial_of(tmp_path) is None


def test_a_trial_that_is_copied_over_another_is_refused(tmp_path: Path) -> None:
    folder = _trial(tmp_path / "lp2-paper-seed7", seed=4)
    with pytest.raises(
        ValueError, match=r"A trial must lie in the folder of its record, got .*lp2-paper-seed7 with the"
    ):
        networks_of([str(folder)])


def test_registered_names_stand_alone_or_have_seeds() -> None:
    assert networks_of(["resnet18", "local-dir:a"], seeds=[1, 2]) == [
        Network("resnet18", "resnet18"),
        Network("local-dir:a", "local-dir:a"),
    ]
    assert networks_of(["local-dir:a"], ["resnet18.a1_in1k", "local-dir:a"], seeds=[1, 2]) == [
        Network("local-dir:a", "local-dir:a"),
        *(Network("resnet18.a1_in1k", "resnet18.a1_in1k (untrained)", seed, pretrained=False) for seed in (1, 2)),
        *(Network("local-dir:a", "local-dir:a (untrained)", seed, pretrained=False) for seed in (1, 2)),
    ]


def test_random_weights_are_those_of_the_seed() -> None:
    before = torch.get_rng_state()
    weights = [Network("test_resnet", "", seed, pretrained=False).load().conv1[0].weight for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert torch.equal(weights[0], timm.create_model("test_resnet").conv1[0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_network_may_have_random_weights(tmp_path: Path) -> None:
    network = timm.create_model("lp2_resnet18_small_stem", num_classes=3, layers=[1, 1, 1, 1], channels=[8, 8, 8, 8])
    save_for_hf(network, str(tmp_path), model_args={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]})
    (found,) = networks_of([], [str(tmp_path)], seeds=[5])
    torch.manual_seed(5)
    fresh = timm.create_model("lp2_resnet18_small_stem", num_classes=3, layers=[1, 1, 1, 1], channels=[8, 8, 8, 8])
    torch.testing.assert_close(found.load().state_dict(), fresh.state_dict(), rtol=0, atol=0)


def test_refuses_a_network_that_is_named_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`--untrained` must name each network once, got resnet18 twice\."):
        networks_of(["resnet18", "resnet18"])
    folders = [str(_trial(tmp_path / name)) for name in "ab"]
    with pytest.raises(ValueError, match=re.escape("got seed 4 of resnet18 (lp2-paper) twice. Compare")):
        networks_of(folders)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "a", "variant": "b", "seed": "c"}'])
def test_refuses_another_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "trial.json").write_text(text)
    with pytest.raises(ValueError, match=r"must hold trials.*, got .*trial\.json"):
        networks_of([str(tmp_path)])
