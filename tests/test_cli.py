"""`timm-lp` in processes of its own: what it prints, imports and hands on, and how it ends."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NamedTuple

import pytest
from setuptools import Distribution

import timm_lp
from timm_lp.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
HEAVY = {"accelerate", "huggingface_hub", "hub_export", "matplotlib", "numpy", "timm", "torch"}
SLOW = {"accelerate", "datasets", "matplotlib", "timm", "torch"}
# A command that prints its arguments and ends with exit code 7.
ECHO = "import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(7)\n"
WITH_ECHO = "from timm_lp.cli import COMMANDS, Command, main; COMMANDS['echo'] = Command('echo', ''); main()"


def _run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the modules that a process under `-X importtime` has imported."""
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]], ids=["nothing", "-h", "--help"])
def test_lists_the_commands_and_imports_none(arguments: list[str]) -> None:
    done = _run("-X", "importtime", "-m", "timm_lp", *arguments)
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", done.stdout, re.MULTILINE)
    assert (
        done.stdout.splitlines()[-1]
        == "In several processes on CPUs: torchrun --nproc_per_node 2 -m timm_lp.experiments.classification ARGUMENTS"
    )
    imported = _imported(done)
    own = {name for name in imported if name.startswith("timm_lp")}
    assert own == {"timm_lp", "timm_lp.cli", "timm_lp.lazy", "timm_lp.plugin"}
    assert not imported & HEAVY


MISTAKES = [
    ("finetune", ["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    ("finetune", ["--epochs", "-1"], "`epochs` must be at least 1, got -1"),
    ("finetune", ["--model-kwargs", "depth"], "argument --model-kwargs: must be key=value, got 'depth'"),
    ("finetune", ["--push-to-hub", "me"], "`push_to_hub` must be org/name as the Hub allows it, got 'me'"),
    ("finetune", ["--config", "nowhere.yaml"], "`--config` must be a readable YAML file, got nowhere.yaml"),
    ("robustness", ["output", "--severities", "6"], "argument --severities: invalid choice: 6"),
    ("robustness", ["output"], "`--corruptions` or `--compute` must be given, got neither"),
    ("masks", ["--pool", "some"], "argument --pool: invalid choice: 'some'"),
    ("sudoku", ["--puzzles", "x"], "argument --puzzles: invalid int value: 'x'"),
    ("sudoku", ["--seeds", "1", "1"], "`seeds` must name at least one, and none twice, got [1, 1]"),
    ("receptive-fields", ["--num-images", "0"], "argument --num-images: must be at least 1, got 0"),
    ("receptive-fields", ["--weights", "trained"], "`--weights` must come with a NETWORK, got none"),
    ("bench", ["all"], "argument suite: invalid choice: 'all'"),
    ("brain", ["rsa", "--resamples", "0"], "argument --resamples: must be at least 1, got 0"),
    ("hub", ["pull"], "the following arguments are required: repo"),
    ("hub", ["stage", "resnet18", "folder", "--model-args", "{"], "argument --model-args: must be JSON, got '{'"),
    ("brain", ["mmv1", "--synthetic", "--mice", "a"], "`--mice` must come with `--data`, got it with `--synthetic`"),
    ("brain", ["mmv1"], "either `--data` or `--synthetic` must be given"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_in_a_flag_is_said_before_the_slow_imports(name: str, arguments: list[str], message: str) -> None:
    done = _run("-X", "importtime", "-m", "timm_lp", name, *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr.splitlines()[-1]
    assert not _imported(done) & SLOW


@pytest.mark.parametrize("name", sorted({name for name, *_ in MISTAKES}))
def test_a_commands_help_needs_no_slow_imports(name: str) -> None:
    done = _run("-X", "importtime", "-m", "timm_lp", name, "--help")
    assert (done.returncode, done.stdout[:6]) == (0, "usage:")
    assert not _imported(done) & SLOW


def test_prints_its_version_and_imports_nothing() -> None:
    done = _run("-X", "importtime", "-m", "timm_lp", "--version")
    assert (done.returncode, done.stdout) == (0, f"timm-lp {timm_lp.__version__}\n")
    assert not _imported(done) & HEAVY


def test_hands_the_arguments_on_unchanged_and_ends_as_the_command_does(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = _run("-c", WITH_ECHO, "echo", "--help", "--version", "--", "bench", "a b", "", "-x=1", PYTHONPATH=paths)
    assert done.stdout == '["--help", "--version", "--", "bench", "a b", "", "-x=1"]\n'
    assert done.returncode == 7


# What each command says last of a command line that is wrong, and its exit code.
WRONG = {
    "masks": (["--pool", "some"], 2, "argument --pool: invalid choice: 'some'"),
    "receptive-fields": (["--num-images", "0"], 2, "argument --num-images: must be at least 1, got 0"),
    "bench": (["--only", "nothing"], 2, "`--only` must be part of a case's name, got 'nothing'"),
    "robustness": (["--compute"], 2, "`NETWORK` must be given with --corruptions, --compute or --dataset, got none"),
    "finetune": (["--epochs", "many"], 2, "argument --epochs: invalid int value: 'many'"),
    "brain": (["rsa", "--seed", "many"], 2, "argument --seed: invalid int value: 'many'"),
    "sudoku": (["--puzzles", "many"], 2, "argument --puzzles: invalid int value: 'many'"),
    "hub": (["verify", "nowhere"], 1, "timm-lp-hub: nowhere"),
}
# Runs `python -m timm_lp` with each command line in a process of its own, which has all but timm and us loaded already.
START_ALL = """
import atexit, gc, json, os, runpy, sys
import matplotlib.pyplot, pandas, scipy.stats, sklearn.metrics, statsmodels.stats.multitest, torchvision

assert not {"timm", "timm_lp.cli", "hub_export"} & sys.modules.keys()
gc.freeze()  # or a collection at the end of each process would copy the memory that they share


def save_modules(path):
    with open(path, "w") as file:
        json.dump([*sys.modules], file)


codes = {}
for name, arguments in json.loads(sys.argv[1]).items():
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(f"{name}.{stream}", os.O_CREAT | os.O_WRONLY), stream)
        atexit.register(save_modules, f"{name}.json")
        sys.argv[1:] = [name, *arguments]
        runpy.run_module("timm_lp", run_name="__main__", alter_sys=True)
        sys.exit()
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""


class End(NamedTuple):
    """How a process ended: its exit code, what it wrote to stderr, and the modules that it had loaded."""

    code: int
    errors: str
    modules: set[str]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    folder = tmp_path_factory.mktemp("ends")
    command = [sys.executable, "-c", START_ALL, json.dumps({name: wrong[0] for name, wrong in WRONG.items()})]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name: End(code, (folder / f"{name}.2").read_text(), {*json.loads((folder / f"{name}.json").read_text())})
        for name, code in json.loads(done.stdout).items()
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_starts_one_command_and_ends_as_it_does(ends: dict[str, End], name: str) -> None:
    _, code, last = WRONG[name]
    assert last in ends[name].errors.splitlines()[-1]
    assert ends[name].code == code
    lines = {name: {f"{command.module}.{part}" for part in ("flags", "cli")} for name, command in COMMANDS.items()}
    imported = {other for other, modules in lines.items() if ends[name].modules & modules}
    assert imported == {name}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fine-tune", "Did you mean finetune?"),
        ("hug", "Did you mean hub?"),
        ("--versions", "Did you mean --version?"),
        ("xyzzy", "`timm-lp --help` says what they do."),
        ("", "`timm-lp --help` says what they do."),
    ],
)
def test_an_unknown_name_ends_in_one_sentence(name: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([name, "--help"])
    sentence = f"timm-lp: COMMAND must be one of {', '.join(COMMANDS)}, got {name!r}. {advice}\n"
    assert capsys.readouterr() == ("", sentence)


def test_every_package_that_can_be_run_is_in_the_table() -> None:
    doors = [door for package in ("timm_lp", "hub_export") for door in (ROOT / package).rglob("__main__.py")]
    runnable = {".".join(door.relative_to(ROOT).parent.parts) for door in doors}
    assert {command.module for command in COMMANDS.values()} == runnable - {"timm_lp"}


def test_the_package_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["pyproject.toml"])
    scripts = dict(script.split(" = ") for script in distribution.entry_points["console_scripts"])
    assert EntryPoint("timm-lp", scripts["timm-lp"], "console_scripts").load() is main
