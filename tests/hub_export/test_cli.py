"""The command line, and the whole way as a new user goes it: convert, push, pull elsewhere, equal logits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from hub_export.cli import main

from ..hub_server import HubServer
from ..models.networks import SMALL
from .conftest import LABELS, REPO

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trial(network: nn.Module, tmp_path: Path) -> Path:
    """A folder as a training leaves it, with results beside the network."""
    save_for_hf(network, str(tmp_path / "trial"), model_config={"label_names": LABELS}, safe_serialization=True)
    results = {"recipe": {"command": "accelerate launch finetune.py", "settings": {"epochs": 3}}, "results": []}
    (tmp_path / "trial" / "results.json").write_text(json.dumps(results))
    return tmp_path / "trial"


def test_a_trial_goes_there_and_back(
    hub: HubServer, trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["stage", str(trial), str(tmp_path / "staged")])
    main(["verify", str(tmp_path / "staged")])
    assert f"{tmp_path / 'staged'} is whole: its files, tensors and logits" in capsys.readouterr().out
    main(["push", str(tmp_path / "staged"), REPO, "--tag", "v1", "--private"])
    assert capsys.readouterr().out == f"{hub.url}/{REPO}/commit/{hub.commit(REPO)}\n"
    main(["list", "--author", "alice"])
    assert capsys.readouterr().out == f"{REPO} (private)\n"
    main(["pull", REPO, "--revision", "v1", "--folder", str(tmp_path / "back")])
    assert capsys.readouterr().out == f"{tmp_path / 'back'}\n"
    for name in ("model.safetensors", "config.json", "results.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "staged" / name).read_bytes()


def test_a_dry_run_prints_what_would_be_uploaded(
    hub: HubServer, trial: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["push", str(trial), REPO, "--dry-run", "--merged"])
    out = capsys.readouterr().out
    assert re.search(r"new +[\d,]+ bytes  model\.safetensors", out)
    assert out.endswith("Nothing was uploaded; without --dry-run it goes to alice/network, main.\n")
    assert not hub.repositories
    main(["push", str(trial), REPO, "--dry-run", "--create-pr"])
    assert capsys.readouterr().out.endswith("it goes to alice/network, a pull request.\n")


def test_a_checkpoint_is_staged_with_a_name_and_arguments(network: nn.Module, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    arguments = json.dumps({**SMALL["resnet18"], "num_classes": 7})
    checkpoint = ["--checkpoint", str(tmp_path / "weights.safetensors"), "--model-args", arguments]
    main(["stage", "lp2_resnet18", str(tmp_path / "a"), *checkpoint, "--label-names", str(tmp_path / "labels.txt")])
    assert json.loads((tmp_path / "a" / "config.json").read_text())["label_names"] == LABELS


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("verify {folder}", "there is no manifest.json"),
        ("stage nothing {folder}/new", "a name that timm knows, got 'nothing'"),
        ("stage resnet18.a1_in1k {folder}/new", "has no repository resnet18.a1_in1k, or it is private"),
        ('stage nothing {folder}/new --model-args {{"num_classes":1}}', "nothing cannot be built with these"),
        ("push {staged} network", "`repo_id` must be 'owner/name', got 'network'"),
        ("push {staged} alice/network --merged", "`network` must not be staged with these options"),
        ("pull alice/nothing", "has no repository alice/nothing"),
        ("pull alice/nothing --folder {staged}", "`folder` must be new or empty"),
        ("pull nothing", "`repo_id` must be 'owner/name', got 'nothing'"),
        ("push {staged} alice/network --dry-run --create-pr --tag v1", "`create_pr` must be False with a branch or"),
        ("stage lp2_resnet18.nothing {folder}/new", "a name with weights, got 'lp2_resnet18.nothing': Invalid"),
        ("stage lp2_replknet31 {folder}/new", "a name with weights, got 'lp2_replknet31': No pretrained weights"),
        ("stage hf-hub:alice/nothing@v1 {folder}/new", "has no repository alice/nothing, or it is private"),
        ('stage resnet18.a1_in1k {folder}/new --model-args {{"num_classes":1}}', "has no repository resnet18.a1_in1k"),
        ("stage lp2_resnet18 {folder}/new --checkpoint {folder}/none", "--checkpoint must be a file, got '"),
        ("stage lp2_resnet18 {folder}/new --checkpoint {folder}/junk.pth", "cannot be built with these arguments: "),
        ("stage lp2_resnet18 {folder}/new --checkpoint {folder}/junk.safetensors", "these arguments: Error while des"),
        ("stage {staged} {folder}/new --label-names {folder}/none", "none: No such file or directory."),
        ("stage {staged} {folder}/new --label-names {folder}/junk.pth", "--label-names must be a text file in UTF-8"),
    ],
)
def test_what_fails_says_why_and_shows_no_token(
    hub: HubServer, staged: Path, tmp_path: Path, command: str, message: str
) -> None:
    for name in ("junk.pth", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"\xe9unk")
    words = [word.format(folder=tmp_path, staged=staged) for word in command.split()]
    with pytest.raises(SystemExit, match=re.escape(message)) as caught:
        main(words)
    assert str(caught.value).startswith("timm-lp-hub: ")
    assert "\n" not in str(caught.value)
    assert "hf_alice" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("{", "must be JSON, got '{'"), ("[1]", "must be a JSON object")])
def test_model_arguments_are_a_json_object(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["stage", "lp2_resnet18", "new", "--model-args", text])
    assert message in capsys.readouterr().err


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hub_export.cli.verify", interrupt)
    with pytest.raises(SystemExit, match="timm-lp-hub: interrupted"):
        main(["verify", "folder"])


def test_the_walk_through_in_the_readme_runs_offline(tmp_path: Path) -> None:
    block = re.search(r"<!-- walk-through -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    variables = {**os.environ, **quiet, "PATH": paths, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euc", block[1]],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "equal logits: True"
