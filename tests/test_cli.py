"""`timm-lp` and the other doors: what they print and import, whom they start, and how that ends."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from setuptools import Distribution

import timm_lp
from timm_lp.cli import COMMANDS, Command, main, start
from timm_lp.command import CommandLine

from .imports import read_project

ROOT = Path(__file__).parents[1]
# What an installation without extras brings, and what the runs that need it ask for; datasets brings pyarrow.
BROUGHT = {"huggingface_hub", "jinja2", "numpy", "safetensors", "tqdm"}
LATER = {"PIL", "datasets", "matplotlib", "pandas", "pyarrow", "wandb"}  # matplotlib brings PIL
LATER_OF = {"brain": {"accelerate", "h5py", "psutil"}}
OF_TIMM = {"numpy", "pillow", "torchvision"}
CALLED = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}  # where an installation says otherwise


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository, and list what it imports."""
    words = [sys.executable, "-X", "importtime", *command]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600, check=False)


def _imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def _packages(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the packages that are imported, without the standard library, and names that some imports only try."""
    names = {name.partition(".")[0] for name in _imported(done)} - sys.stdlib_module_names
    return {name for name in names if find_spec(name)}


@pytest.fixture(scope="module")
def at_start() -> set[str]:
    """The packages that Python imports when it starts, as an installation asks for."""
    return _packages(_run("-c", ""))


def test_lists_the_commands_and_imports_none(at_start: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    done = _run("-m", "timm_lp")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", done.stdout, re.MULTILINE)
    last = "In several processes on CPUs: torchrun --nproc_per_node 2 -m timm_lp.experiments.classification ARGUMENTS"
    assert done.stdout.splitlines()[-1] == last
    ours = {name for name in _imported(done) if name.startswith("timm_lp.")}
    assert ours == {f"timm_lp.{name}" for name in ("cli", "command", "lazy", "plugin", "settings")}
    assert _packages(done) - at_start == {"timm_lp"}
    version = f"timm-lp {timm_lp.__version__}\n"
    for flag, printed in (("-h", done.stdout), ("--help", done.stdout), ("--version", version)):
        main([flag])
        assert capsys.readouterr().out == printed


# The door, the command line, the exit code, and what is said of a mistake in it.
MISTAKES = [
    ("finetune.py", "--learning-rate 1", 2, "finetune: error: unrecognized arguments: --learning-rate 1."),
    ("-m timm_lp finetune", "--epochs -1", 1, "finetune: `epochs` must be at least 1, got -1"),
    ("-m timm_lp.experiments.classification", "--config x.yaml", 1, "finetune: `--config` must be a readable YAML"),
    ("-m timm_lp robustness", "output", 2, "robustness: error: `--corruptions` or `--compute` must be given, got"),
    ("-m timm_lp.experiments.robustness", "--batch-size x", 2, "robustness: error: argument --batch-size: invalid"),
    ("-m timm_lp.masks", "--pool some", 2, "masks: error: argument --pool: invalid choice: 'some'"),
    ("-m timm_lp.experiments.sudoku", "--seeds 1 1", 1, "sudoku: `seeds` must name at least one, and none twice"),
    ("-m timm_lp sudoku", "--report --masks", 2, "sudoku: error: argument --masks: not allowed with argument --report"),
    ("-m timm_lp.experiments.receptive_fields", "--weights trained", 2, "receptive-fields: error: `--weights` must co"),
    ("-m timm_lp.bench", "all", 2, "bench: error: argument suite: invalid choice: 'all'"),
    ("-m timm_lp.experiments.brain", "rsa --splits 0", 2, "brain rsa: error: `splits` must be at least 1, got 0"),
    ("-m timm_lp brain", "mmv1", 2, "brain mmv1: error: either `--data` or `--synthetic` must be given."),
    ("-m timm_lp brain", "mmv1 --synthetic --mice a", 2, "brain mmv1: error: `--mice` must come with `--data`, got it"),
    ("-m timm_lp brain", "prepare --nwb a", 2, "brain prepare: error: the following arguments are required: --events."),
    ("-m hub_export", "pull", 2, "hub pull: error: the following arguments are required: repo."),
    ("-m timm_lp hub", "stage a b --model-args {", 2, "hub stage: error: argument --model-args: must be JSON, got '{'"),
]


@pytest.mark.parametrize(("door", "words", "code", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_in_a_flag_is_said_before_other_packages_are_imported(
    door: str, words: str, code: int, message: str, at_start: set[str]
) -> None:
    done = _run(*door.split(), *words.split())
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (code, "")
    assert last.startswith(f"timm-lp {message}")
    assert code == 1 or last.endswith(". --help lists the flags.")
    assert _packages(done) - at_start <= {"timm_lp", "hub_export", "yaml", "_yaml"}, "YAML for recipes"


def test_every_door_is_tried_and_in_the_table() -> None:
    paths = [path for package in ("timm_lp", "hub_export") for path in (ROOT / package).rglob("__main__.py")]
    packages = {".".join(path.relative_to(ROOT).parent.parts) for path in paths} - {"timm_lp"}
    assert packages == {command.module for command in COMMANDS.values()}
    assert packages <= {door.split()[-1] for door, *_ in MISTAKES}


LINES: dict[str, CommandLine[Any]] = {}
for _name, _command in COMMANDS.items():
    _flags = import_module(f"{_command.module}.flags")
    LINES |= {line.program: line for line in getattr(_flags, "COMMANDS", {}).values()} or {
        _flags.COMMAND.program: _flags.COMMAND
    }


@pytest.mark.parametrize("program", [*(f"timm-lp {name}" for name in COMMANDS), *LINES])
def test_help_calls_a_command_as_it_is_listed(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*program.split()[1:], "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {program} [-h]")


# Settings of each command that has recipes.
EXAMPLES = {
    "timm-lp finetune": "--model resnet34 --dataset dtd a/b --no-pretrained --lr 3e-3 --shots all --model-kwargs a=[1]",
    "timm-lp robustness": "run resnet18 --corruptions arrays --severities 1 3 --no-md5 --channels-last",
    "timm-lp masks": "run lp2_resnet18 --pool none",
    "timm-lp sudoku": "--channels 8 --no-augment --puzzles-seen 70 --seeds 3 --data x.csv",
    "timm-lp receptive-fields": "resnet18 --offsets x.csv --tap 0.5 1 --inputs noise --num-images 3",
    "timm-lp bench": "layers --only 3x3 --threads 1 2 --no-memory --dtype bfloat16 --compare x.json",
    "timm-lp brain rsa": "--responses x.npz --models a b --untrained c --seeds 0 1 --image-size 32",
    "timm-lp brain mmv1": "--synthetic --variants base lp2 --lr 1e-3",
}


@pytest.mark.parametrize("program", EXAMPLES)
def test_a_recipe_and_the_command_that_repeats_it_give_the_same_settings(program: str, tmp_path: Path) -> None:
    line = LINES[program]
    output = "--output" if program == "timm-lp bench" else "--output-dir"
    settings = line.parse([*EXAMPLES[program].split(), output, "elsewhere"])
    values = {option.name: getattr(settings, option.name) for option in fields(settings)}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain))
    assert line.parse(["--config", str(tmp_path / "recipe.yaml")]) == settings
    command = shlex.split(line.repeat(settings))
    launcher = (line.launcher or program).split()
    again = line.parse(command[len(launcher) :])
    assert command[: len(launcher)] == launcher
    assert {name for name in values if getattr(again, name) != values[name]} <= {*line.local}


def test_each_command_that_trains_or_measures_takes_recipes() -> None:
    assert {program for program, line in LINES.items() if line.takes_recipe} == {*EXAMPLES}


def test_brain_alone_is_the_demonstration_of_rsa() -> None:
    flags = import_module("timm_lp.experiments.brain.flags")
    assert flags.parse_arguments([]) == flags.parse_arguments(["rsa"]) == ("rsa", flags.RsaSettings())


# A command that says what it does.
ECHO = """
import sys
print("imported")
def parse_arguments(arguments):
    print("flags", arguments)
    if "-x" in arguments:
        raise ValueError("x")
def main(arguments):
    print("main", arguments)
    sys.exit(7)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add a command to the table, and return its folder."""
    (tmp_path / "echo").mkdir()
    for part in ("flags", "cli"):
        (tmp_path / "echo" / f"{part}.py").write_text(ECHO)
        monkeypatch.delitem(sys.modules, f"echo.{part}", raising=False)
    monkeypatch.delitem(sys.modules, "echo", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "echo", Command("echo", "", "few", ("json",)))
    return tmp_path / "echo"


@pytest.mark.usefixtures("echo")
def test_hands_the_arguments_on_unchanged_and_ends_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--help", "--version", "--", "bench", "a b", "", "-x=1"]
    with pytest.raises(SystemExit, match=r"^7$"):
        main(["echo", *words])
    assert capsys.readouterr().out == f"imported\nflags {words}\nimported\nmain {words}\n"


def test_what_goes_wrong_before_a_command_starts_is_one_line(
    echo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^timm-lp echo: x$"):
        start("echo", ["-x"])
    assert capsys.readouterr().out == "imported\nflags ['-x']\n", "but not its `cli`"
    (echo / "cli.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(SystemExit, match=r"^timm-lp echo: interrupted\.$"):
        start("echo", [])
    monkeypatch.setitem(sys.modules, "json", None)
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"^timm-lp echo: json must be installed\. `pip install \"timm-lp\[few\]\"`"):
        start("echo", [])
    assert capsys.readouterr().out == ""


@pytest.fixture
def distribution(monkeypatch: pytest.MonkeyPatch) -> Distribution:
    monkeypatch.chdir(ROOT)
    stated = Distribution()
    stated.parse_config_files(["pyproject.toml"])
    return stated


def test_each_command_asks_for_the_packages_that_it_imports_and_that_its_extra_brings(
    distribution: Distribution,
) -> None:
    project = read_project(ROOT, ("timm_lp", "hub_export", "model_cards"))
    for name, command in COMMANDS.items():
        modules = {f"{command.module}.cli"} | project.needed_by(f"{command.module}.cli")
        assert not modules & {f"{other.module}.cli" for other in COMMANDS.values() if other is not command}
        needed = {found.target.partition(".")[0] for found in project.outer() if found.module in modules}
        assert needed - {*command.packages} <= BROUGHT | LATER | LATER_OF.get(name, set()), name
        extras = [command.extra, *(["experiments"] if command.extra == "brain" else [])]  # which that one includes
        lines = chain(distribution.install_requires, *(distribution.extras_require[extra] for extra in extras))
        brought = {Requirement(line).name for line in lines} | OF_TIMM
        assert {CALLED.get(package, package) for package in command.packages} <= brought, name


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fine-tune", "Did you mean finetune?"),
        ("--versions", "Did you mean --version?"),
        ("", "`timm-lp --help` says what they do."),
    ],
)
def test_an_unknown_name_ends_in_one_sentence(name: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([name, "--help"])
    sentence = f"timm-lp: COMMAND must be one of {', '.join(COMMANDS)}, got {name!r}. {advice}\n"
    assert capsys.readouterr() == ("", sentence)


def test_the_package_installs_its_commands(distribution: Distribution, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = dict(script.split(" = ") for script in distribution.entry_points["console_scripts"])
    doors = {name: EntryPoint(name, place, "console_scripts").load() for name, place in scripts.items()}
    assert doors.keys() == {"timm-lp", "timm-lp-hub"}
    assert doors["timm-lp"] is main
    with pytest.raises(SystemExit, match=r"^0$"):
        doors["timm-lp-hub"](["--help"])
    assert capsys.readouterr().out.startswith("usage: timm-lp hub [-h]")
