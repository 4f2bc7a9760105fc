"""The command line, and the whole way as a new user goes it: convert, push, pull elsewhere, equal logits."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hub_export.cli import main

from ..hub_server import HubServer, environment
from ..models.networks import SMALL, create
from ..processes import WarmPython
from .conftest import LABELS, REPO

pytestmark = pytest.mark.usefixtures("no_pictures")

ROOT = Path(__file__).parents[2]


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
    main(["push", str(trial), REPO])
    main(["push", str(trial), REPO, "--dry-run", "--create-pr"])
    assert capsys.readouterr().out.endswith("Nothing to upload: alice/network has this network already.\n")
    main(["push", str(trial), REPO, "--dry-run", "--create-pr", "--license", "mit"])
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
        ("stage nothing {folder}/new", "got 'nothing', which is neither a name that timm has nor a file or folder"),
        ("stage resnet18.a1_in1k {folder}/new", "has no repository resnet18.a1_in1k, or it is private"),
        ('stage nothing {folder}/new --model-args {{"num_classes":1}}', "nothing cannot be built with these"),
        ("push {staged} network", "`repo_id` must be 'owner/name', got 'network'"),
        ("push {staged} alice/network --merged", "`network` must not be staged with these options"),
        ("push {staged} alice/network --license mit", "`network` must not be staged with these options"),
        ("push local-dir:{staged} alice/network --base-model me/cats", "must not be staged with these options"),
        ("push {staged} alice/network --speed {folder}/none", "`network` must not be staged with these options"),
        ("stage {staged} {folder}/new --results {staged}/config.json", "`results` must be a trial's folder, the f"),
        ("pull alice/nothing", "has no repository alice/nothing"),
        ("pull alice/nothing --folder {staged}", "`folder` must be new or empty"),
        ("pull nothing", "`repo_id` must be 'owner/name', got 'nothing'"),
        ("push {staged} alice/network --dry-run --create-pr --tag v1", "`create_pr` must be False with a branch or"),
        ("stage lp2_resnet18.nothing {folder}/new", "a name with weights, got 'lp2_resnet18.nothing': Invalid"),
        ("stage lp2_replknet31 {folder}/new", "a name with weights, got 'lp2_replknet31': No pretrained weights"),
        ("stage lp2_torchvision.models:squeezenet1_1 {folder}/new", "weights, got 'lp2_torchvision.models:squeezenet1"),
        ("stage hf-hub:alice/nothing@v1 {folder}/new", "has no repository alice/nothing, or it is private"),
        ('stage resnet18.a1_in1k {folder}/new --model-args {{"num_classes":1}}', "has no repository resnet18.a1_in1k"),
        ("stage lp2_resnet18 {folder}/new --checkpoint {folder}/none", "--checkpoint must be a file, got '"),
        ("stage hf-hub:a/b {folder}/new --checkpoint {folder}/vgg.pth", "must be a name that timm knows with --check"),
        ("stage {staged} {folder}/new --checkpoint {folder}/vgg.pth", "must be a name that timm knows with --checkpoi"),
        ('push {staged} alice/network --model-args {{"in_chans":1}}', "must not be staged with these options"),
        ('stage resnet18 {folder}/new --model-args {{"layers":5}}', "cannot be built with these arguments: TypeError:"),
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
    assert str(caught.value).startswith("timm-lp hub ")
    assert "\n" not in str(caught.value)
    assert "hf_alice" not in str(caught.value)


def test_a_repository_whose_configuration_builds_nothing(hub: HubServer, staged: Path, tmp_path: Path) -> None:
    main(["push", str(staged), REPO])
    files = hub.repositories["models", REPO].head.files
    content = json.loads(files["config.json"].content)
    content["model_args"]["nonsense"] = 1
    files["config.json"] = replace(files["config.json"], content=json.dumps(content).encode())
    with pytest.raises(SystemExit, match=rf"a name with weights, got 'hf-hub:{REPO}': .*'nonsense'"):
        main(["stage", f"hf-hub:{REPO}", str(tmp_path / "new")])


class Opaque:
    """What a checkpoint must not hold."""


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another": (lambda path: torch.save(create("vgg16").state_dict(), path), "--checkpoint must fit {name}, got '"),
    "cut": (
        lambda path: (torch.save({}, path), path.write_bytes(path.read_bytes()[:100])),
        "must be a file of weights",
    ),
    "empty": (lambda path: path.write_bytes(b""), "must be a file of weights, got '{path}': EOFError"),
    "text": (lambda path: path.write_text("hello"), "must be a file of weights, got '{path}': "),
    "number": (lambda path: torch.save(5, path), "must be a file of weights, got '{path}': AttributeError: 'int'"),
    "numbers": (
        lambda path: torch.save([1, 2], path),
        "must be a file of weights, got '{path}': AttributeError: 'list'",
    ),
    "names": (lambda path: torch.save({1: torch.ones(1)}, path), "must be a file of weights, got '{path}': Attribut"),
    "nothing": (lambda path: torch.save({}, path), "--checkpoint must fit {name}, got '{path}': "),
    "object": (lambda path: torch.save(Opaque(), path), "must be a file of weights, got '{path}': "),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps({"a": Path()}, 2)),
        "must be a file of weights, got '{path}': ",
    ),
    "zip": (lambda path: ZipFile(path, "w").close(), "must be a file of weights, got '{path}': "),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(kind: str, tmp_path: Path) -> None:
    name = "resnet18" if kind in ("another", "cut") else "lp2_resnet18"  # ours has a filter before timm's
    write, message = CHECKPOINTS[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(SystemExit, match=re.escape(message.format(name=name, path=path))) as caught:
        main(["push", name, REPO, "--checkpoint", str(path), "--model-args", json.dumps(SMALL["resnet18"])])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_cut_safetensors_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"junk")
    with pytest.raises(SystemExit, match=r"must be a file of weights, got '.*': SafetensorError: Error while deser"):
        main(["stage", "resnet18", str(tmp_path / "new"), "--checkpoint", str(tmp_path / "weights.safetensors")])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "timm-lp hub: error: the following arguments are required: COMMAND. --help lists the flags."),
        ("fly", "invalid choice: 'fly'"),
        ("push network", "timm-lp hub push: error: the following arguments are required: repo."),
        ("verify a b", "timm-lp hub: error: unrecognized arguments: b. --help lists the flags."),
        ("stage lp2_resnet18 new --model-args {", "argument --model-args: must be JSON, got '{'"),
        ("stage lp2_resnet18 new --model-args [1]", "argument --model-args: must be a JSON object, got '[1]'"),
        (f"stage lp2_resnet18 new --model-args {'[' * 100_000}", "argument --model-args: must be JSON, got '[["),
        (
            'stage lp2_resnet18 new --model-args {"pretrained":false,"features_only":true}',
            "argument --model-args: must be arguments of the network, got features_only, pretrained.",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("timm-lp hub")
    assert message in line
    assert len(line) < 300


WITHOUT = """
import json, sys
for name in {missing}:
    sys.modules[name] = None
from hub_export.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
"""
EXTRAS = ["accelerate", "datasets", "matplotlib", "pandas", "psutil", "scipy", "sklearn", "statsmodels", "transformers"]


def test_no_extra_is_needed(trial: Path, tmp_path: Path, python: WarmPython) -> None:
    commands = [["stage", str(trial), str(tmp_path / "new")], ["verify", str(tmp_path / "new")]]
    done = python("-c", WITHOUT.format(missing=EXTRAS), json.dumps(commands))
    assert "Traceback" not in done.stderr
    assert "is whole" in done.stdout
    assert not (tmp_path / "new" / "masks.png").exists()


JUNK = [
    "",
    "{}",
    "[]",
    "5",
    "null",
    '"text"',
    "[" * 100_000,
    '{"results": 3}',
    '{"results": [{"dataset": {"id": []}}]}',
]


@pytest.mark.parametrize("name", ["trial.json", "config.json", "manifest.json"])
def test_a_foreign_file_in_a_trial_is_one_sentence(name: str, trial: Path, hub: HubServer) -> None:
    for text in JUNK:
        (trial / name).write_text(text)
        with pytest.raises(SystemExit, match=rf"{name}[ :,]") as caught:
            main(["push", str(trial), REPO])
        assert "\n" not in str(caught.value)
    assert not hub.requests


def test_the_sentence_is_the_last_thing_printed(trial: Path, tmp_path: Path, python: WarmPython) -> None:
    (trial / "trial.json").write_text("{}")
    torch.save(create("vgg16").state_dict(), tmp_path / "vgg.pth")
    arguments = ["--checkpoint", str(tmp_path / "vgg.pth"), "--model-args", json.dumps(SMALL["resnet18"])]
    for words, code in (([], 2), ([str(trial), REPO], 1), (["resnet18", REPO, *arguments], 1)):
        done = python("-m", "hub_export", "push", *words, check=False)
        assert done.returncode == code
        assert done.stderr.splitlines()[-1].startswith("timm-lp hub push: ")
        assert "Traceback" not in done.stderr
        assert "usage:" not in done.stderr


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, shown in (((), ""), (("It goes on.",), " It goes on.")):

        def interrupt(folder: str, said: tuple[str, ...] = said) -> None:
            raise KeyboardInterrupt(*said)

        monkeypatch.setattr("hub_export.cli.verify", interrupt)
        with pytest.raises(SystemExit, match=f"^timm-lp hub verify: interrupted\\.{shown}$"):
            main(["verify", "folder"])


WALK_THROUGH = re.search(
    r"<!-- walk-through -->\n```bash\n(.*?)```", (ROOT / "hub_export" / "README.md").read_text(), re.DOTALL
)


def test_the_steps_of_the_walk_through_in_the_readme(hub: HubServer, tmp_path: Path, python: WarmPython) -> None:
    assert WALK_THROUGH is not None
    steps = re.findall(r"(?ms)^(?:python - <<'CODE'\n(.*?)^CODE|timm-lp-hub (.*?))$", WALK_THROUGH[1])
    assert len(steps) == 4
    variables = environment(hub, tmp_path / "home", "hf_alice")
    for code, command in steps:
        words = ("-c", code) if code else ("-m", "hub_export", *shlex.split(command))
        done = python(*words, cwd=tmp_path, **variables)
    assert done.stdout == "equal logits: True\n"


@pytest.mark.exhaustive
def test_the_walk_through_in_the_readme_runs_offline(tmp_path: Path) -> None:
    assert WALK_THROUGH is not None
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    variables = {**os.environ, **quiet, "PATH": paths, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euc", WALK_THROUGH[1]],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "equal logits: True"
