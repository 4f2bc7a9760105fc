"""From the benchmark to the card: where a trial's weights started, in plain words and in the Hub's metadata."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from huggingface_hub import ModelCard, ModelCardData
from timm.models import save_for_hf
from torch import nn

from hub_export import stage, verify
from hub_export.cli import main as hub_main
from timm_lp.experiments.classification.cli import main
from timm_lp.files import file_digest, write_json
from timm_lp.start import Start
from timm_lp.trials.record import as_json, read_record

from ..experiments.conftest import forget_format
from ..experiments.networks import TINY
from ..hub_server import HubServer
from .conftest import REPO

pytestmark = pytest.mark.usefixtures("no_pictures")

WEIGHTS = {"tag", "license", "origin_url", "paper_ids"}  # of timm's, in config.json
SETTINGS = ["--model", "resnet18", "--dataset", "digits", "--shots", "1", "--epochs", "1", "--batch-size", "10"]
SETTINGS += ["--img-size", "32", "--model-kwargs", *(f"{key}={value}".replace(" ", "") for key, value in TINY.items())]


def run(folder: Path, *flags: str) -> Path:
    """Run trials of one seed, and return the folder that theirs lie in."""
    forget_format()
    main([*SETTINGS, "--output-dir", str(folder), "--seeds", "1", *flags])
    forget_format()
    (network,) = folder.glob("digits/*")
    return network


@pytest.fixture(scope="module")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run"), "--no-pretrained", "--variants", "base", "lp2")


@pytest.fixture(scope="module")
def checkpoint_run(random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = str(random_run / "base-seed1" / "model.safetensors")
    return run(tmp_path_factory.mktemp("run"), "--checkpoint", checkpoint, "--variants", "lp2-paper", "large-reinit")


@pytest.fixture
def random_trial(random_run: Path, tmp_path: Path) -> Path:
    """A trial that the test may change."""
    return Path(shutil.copytree(random_run, tmp_path / "digits" / random_run.name)) / "lp2-seed1"


def facts(folder: Path) -> tuple[dict[str, str], ModelCardData]:
    """Return what a staged card says, its properties by name and its metadata, and nothing of this machine."""
    text = (folder / "README.md").read_text()
    published = [path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".json")]
    assert not any(str(folder.parent.parent) in content for content in published)
    return dict(re.findall(r"^- \*\*(.*):\*\* (.*)$", text, re.MULTILINE)), ModelCard(text).data  # type: ignore[return-value]


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["pretrained_cfg"]


def test_random_weights(random_trial: Path, tmp_path: Path) -> None:
    folder = stage(random_trial, tmp_path / "network")
    verify(folder)
    assert json.loads((folder / "results.json").read_text()) == json.loads((random_trial / "results.json").read_text())
    said, data = facts(folder)
    assert said["Base weights"] == "none, trained from random weights"
    assert said["Licence"] == "not stated; none is inherited, since no base weights were used"
    assert (data.license, data.base_model) == (None, None)
    assert not WEIGHTS & config(folder).keys()


def test_a_checkpoint_wins_over_pretrained(random_run: Path, checkpoint_run: Path, tmp_path: Path) -> None:
    folder = stage(checkpoint_run / "lp2-paper-seed1", tmp_path / "network", merged=True)
    verify(folder)
    said, data = facts(folder)
    digest = file_digest(random_run / "base-seed1" / "model.safetensors")
    assert said["Base weights"] == (
        f"a checkpoint file, `model.safetensors` (sha256 `{digest}`), in kernels that the masks damped; what that was "
        "trained from is not recorded"
    )
    assert said["Licence"].startswith("not known: that of the checkpoint applies")
    assert (data.license, data.base_model) == (None, None)
    assert not WEIGHTS & config(folder).keys()
    assert "--checkpoint model.safetensors" in (folder / "README.md").read_text()
    assert data.eval_results
    assert data.eval_results[0].metric_name == "1-shot top-1 (%), seed 1"
    said, _ = facts(stage(checkpoint_run / "large-reinit-seed1", tmp_path / "reinit"))
    assert ", but for the enlarged kernels, which started at random; what that was trained from" in said["Base weights"]


def test_weights_on_the_hub(hub: HubServer, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    save_for_hf(timm.create_model("resnet18", **TINY), str(tmp_path / "timm"), safe_serialization=True)
    hub.seed(tmp_path / "timm", "timm/resnet18.tv_in1k")
    trial = run(tmp_path / "run", "--model", "resnet18.tv_in1k", "--variants", "lp2") / "lp2-seed1"
    link = "[timm/resnet18.tv_in1k](https://huggingface.co/timm/resnet18.tv_in1k)"
    for merged in (False, True):
        folder = stage(trial, tmp_path / f"merged_{merged}", merged=merged)
        verify(folder)
        said, data = facts(folder)
        assert (said["Base weights"], said["Licence"]) == (link, "bsd-3-clause, inherited from the base weights")
        assert (data.license, data.base_model) == ("bsd-3-clause", "timm/resnet18.tv_in1k")
        assert (config(folder)["tag"], config(folder)["license"]) == ("tv_in1k", "bsd-3-clause")
    request.getfixturevalue("no_network")  # which a finished run does not need
    again = [*SETTINGS, "--model", "resnet18.tv_in1k", "--variants", "lp2", "--output-dir", str(trial.parents[2])]
    main([*again, "--seeds", "1"])
    with pytest.raises(SystemExit, match=r"cannot be reached, .* or give --no-pretrained, or --checkpoint"):
        main([*again, "--seeds", "1", "2"])


def test_weights_at_an_address(random_trial: Path, tmp_path: Path) -> None:
    url = timm.get_pretrained_cfg("alexnet").url
    record = read_record(random_trial / "trial.json")
    started = replace(record, start=Start("url", url=url, license="bsd-3-clause"))
    write_json(random_trial / "trial.json", as_json(started))
    folder = stage(random_trial, tmp_path / "network", merged=True)
    said, data = facts(folder)
    assert said["Base weights"] == f"[{url}]({url})"
    assert said["Licence"] == "bsd-3-clause, inherited from the base weights"
    assert (data.license, data.base_model) == ("bsd-3-clause", None)
    assert WEIGHTS & config(folder).keys()


def test_a_network_that_was_never_trained_here(network: nn.Module, tmp_path: Path) -> None:
    model = timm.create_model("lp2_resnet18", **TINY)
    said, data = facts(stage(model, tmp_path / "network"))
    assert said["Base weights"].endswith("as the model's configuration says; whether they were loaded is not recorded")
    assert said["Licence"] == "not stated; apache-2.0 if the base weights were loaded, whose licence that is"
    assert (data.license, data.base_model) == (None, None)
    assert not WEIGHTS & config(tmp_path / "network").keys()


def test_a_network_of_the_hub_by_its_name(hub: HubServer, network: nn.Module, tmp_path: Path) -> None:
    save_for_hf(timm.create_model("resnet18"), str(tmp_path / "timm"), safe_serialization=True)
    hub.seed(tmp_path / "timm", "timm/resnet18.tv_in1k")
    said, data = facts(stage("resnet18.tv_in1k", tmp_path / "named"))
    assert said["Base weights"] == "[timm/resnet18.tv_in1k](https://huggingface.co/timm/resnet18.tv_in1k)"
    assert (data.license, data.base_model) == ("bsd-3-clause", "timm/resnet18.tv_in1k")
    assert config(tmp_path / "named")["license"] == "bsd-3-clause"

    save_for_hf(network, str(tmp_path / "own"), safe_serialization=True)  # copies what timm says of its own weights
    assert config(tmp_path / "own")["license"] == "apache-2.0"
    hub.seed(tmp_path / "own", REPO)
    said, data = facts(stage(f"hf-hub:{REPO}", tmp_path / "again"))
    assert said["Base weights"] == f"[{REPO}](https://huggingface.co/{REPO})"
    assert said["Licence"].startswith("not known: the base weights' licence applies")
    assert (data.license, data.base_model) == (None, REPO)
    assert "license" not in config(tmp_path / "again")


def test_what_the_publisher_says(random_trial: Path, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    hub_main(["stage", str(random_trial), str(folder), "--license", "MIT", "--base-model", "me/cats"])
    verify(folder)
    said, data = facts(folder)
    assert said["Licence"] == "MIT, as its publisher says"
    assert said["Base weights"].startswith("[me/cats](https://huggingface.co/me/cats), as its publisher says")
    assert (data.license, data.base_model, config(folder)["license"]) == ("mit", "me/cats", "MIT")
    for arguments in (["--license", "no licence"], ["--base-model", "cats"]):
        with pytest.raises(SystemExit, match=rf"`{arguments[0][2:].replace('-', '_')}` must be .* got '{arguments[1]}"):
            hub_main(["stage", str(random_trial), str(tmp_path / "none"), *arguments])
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_on_the_hub_s_command_line(random_run: Path, tmp_path: Path) -> None:
    checkpoint = random_run / "base-seed1" / "model.safetensors"
    arguments = ["--checkpoint", str(checkpoint), "--model-args", json.dumps({**TINY, "num_classes": 10})]
    hub_main(["stage", "lp2_resnet18", str(tmp_path / "network"), *arguments])
    said, data = facts(tmp_path / "network")
    assert said["Base weights"].startswith("a checkpoint file, `model.safetensors`, as the model's configuration says")
    assert (data.license, data.base_model) == (None, None)
    assert not WEIGHTS & config(tmp_path / "network").keys()


def test_what_comes_back_says_the_same(hub: HubServer, random_trial: Path, tmp_path: Path) -> None:
    folder = stage(random_trial, tmp_path / "staged")
    hub_main(["push", str(folder), REPO])
    hub_main(["pull", REPO, "--folder", str(tmp_path / "back")])
    (said, data), (again, data_again) = facts(tmp_path / "back"), facts(folder)
    assert (said, data.to_dict()) == (again, data_again.to_dict())
