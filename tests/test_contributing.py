"""What a contributor is told and given: the guide, the workflow, and the hooks."""

import ast
import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import Distribution

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / ".github" / "CONTRIBUTING.md"
SUFFIXES = (".md", ".py", ".toml", ".yaml", ".yml")
IN_PACKAGES = ("__main__.py", "cli.py", "flags.py")  # named without their folders
# Refused by ruff's rules, and by its format.
UNTIDY = "import os\nx = { }\n"
THE_USERS = {"pandas", "wandb"}  # packages in which a user asks for results: their frames, their run


def test_every_path_in_the_guide_is_there() -> None:
    text = GUIDE.read_text()
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if "/" in span or span.endswith(SUFFIXES)]
    paths = [word for span in spans for word in span.split() if "/" in word or word.endswith(SUFFIXES)]
    assert {"tests/test_imports.py", "timm_lp/cli.py", ".ci/run", "tests/layers"} <= {*paths}
    missing = [path for path in paths if not (ROOT / path).exists() and path not in IN_PACKAGES]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert missing + [link for link in links if not (GUIDE.parent / link).exists()] == []


def test_every_name_in_the_guide_is_where_it_says() -> None:
    places = re.findall(r"`([A-Z]+)`\s+in\s+`([^`]+)`", GUIDE.read_text())
    assert len(places) == 4
    for name, path in places:
        assert re.search(rf"^{name}\b.* = ", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {name}"


def test_the_guide_gives_the_test_command_of_the_readme() -> None:
    assert f"```bash\n{_test_command()}\n```" in GUIDE.read_text()


def test_the_workflow_runs_the_tests_on_each_python() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    job = workflow["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python-version"] == ["3.10", "3.11", "3.12", "3.13"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert workflow["permissions"] == {"contents": "read"}
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_the_workflow_runs_the_guides_command_on_the_lowest_python_and_packages() -> None:
    *_, python, make, run = _yaml(".github/workflows/ci.yml")["jobs"]["lowest"]["steps"]
    command = run["run"].removeprefix(f"source {make['run'].split()[-1]}/bin/activate && ")
    assert f"```bash\n{command}\n```" in GUIDE.read_text()
    assert f'requires-python = ">={python["with"]["python-version"]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_package_states_the_pythons_of_the_workflow() -> None:
    stated = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert stated == _yaml(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python-version"]


def test_each_package_that_is_imported_is_stated_and_has_a_lowest_version() -> None:
    distribution = Distribution()
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    lines = [*distribution.install_requires, *chain.from_iterable(distribution.extras_require.values())]
    stated = {own.name: own.specifier for own in map(Requirement, lines) if own.name != "timm-lp"}
    assert [name for name, bounds in stated.items() if not any(bound.operator == ">=" for bound in bounds)] == []
    places = packages_distributions()  # in Python 3.10, without some that are called as their packages are
    foreign = _imported_packages() - sys.stdlib_module_names - {"timm_lp", "hub_export", "model_cards", *THE_USERS}
    assert {"torch", "yaml", "PIL"} <= foreign
    assert [name for name in foreign if not {*map(canonicalize_name, places.get(name, [name]))} & stated.keys()] == []


def test_the_hooks_run_what_the_test_command_does() -> None:
    hooks = _hooks()
    assert list(hooks) == ["ruff check", "ruff format", "mypy"]
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    commands = _test_command().split(" && ")
    assert {"ruff check .", "mypy"} <= {*commands}
    assert hooks["mypy"]["entry"] == "mypy"
    assert hooks["mypy"]["pass_filenames"] is False


@pytest.mark.parametrize(("name", "code"), [("ruff check", 1), ("ruff format", 0)])
def test_a_hook_finds_an_untidy_file(name: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "untidy.py").write_text(UNTIDY)
    command = [*shlex.split(_hooks()[name]["entry"]), "untidy.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    changed = (tmp_path / "untidy.py").read_text() != UNTIDY
    assert (done.returncode, changed) == (code, name == "ruff format"), done.stderr


def _imported_packages() -> set[str]:
    names = set()
    for path in chain.from_iterable((ROOT / package).rglob("*.py") for package in ("timm_lp", "hub_export")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.partition(".")[0] for name in names}


def _test_command() -> str:
    found = re.search(r"<!-- test command -->\n```bash\n(.*)\n```", (ROOT / "README.md").read_text())
    assert found is not None
    return found[1]


def _hooks() -> dict[str, Any]:
    (repository,) = _yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    return {hook["name"]: hook for hook in repository["hooks"]}


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())
