"""The command line and the recipe files, and the command that repeats a run."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import Field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from timm.utils import ParseKwargs

from ..command import CommandParser
from .config import FewShotConfig, default

DIGITS_RECIPE = files(__package__) / "recipes" / "digits.yaml"
COMMAND = "accelerate launch finetune.py"


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[FewShotConfig, str]:
    """Return the settings of a command line, and what to do with them.

    Flags win over the recipe file, and that over the defaults. Without a recipe and without flags that name a model or
    a data set, the recipe is the embedded digits'.

    Args:
        arguments: The command line, or None for the process's own.

    Returns:
        The settings, and `"run"`, `"report"` or `"measure"`.

    Raises:
        SystemExit: If argparse does not know a flag or its value.
        ValueError: If the recipe cannot be read, or a setting cannot be used.
    """
    parser = _parser()
    try:
        flags = vars(parser.parse_args(arguments))
    except ValueError:  # timm's ParseKwargs does not say it in argparse's way
        parser.error("argument --model-kwargs: must be key=value, with Python's literals as values")
    recipe, action = flags.pop("config"), flags.pop("action")
    if recipe is None and not flags.keys() & {"model", "dataset"}:
        recipe = DIGITS_RECIPE
    settings = {} if recipe is None else _read_recipe(recipe)
    return FewShotConfig(**{**settings, **flags}), action


def command_line(config: FewShotConfig, **changes: Any) -> str:
    """Return the command that runs a benchmark with these settings, whatever the defaults of its recipe are.

    Args:
        config: The settings; those that only say where results go are left out.
        **changes: Settings that are otherwise, `seeds=[1]` for instance.
    """
    words = []
    settings = {setting.name: changes.get(setting.name, getattr(config, setting.name)) for setting in fields(config)}
    for setting in fields(config):
        value = settings[setting.name]
        named = setting.name in ("model", "dataset")
        if setting.name in _LOCAL or (value == default(setting) and not named) or value in (None, [], {}):
            continue
        words += _words(setting.name, value)
    return f"{COMMAND} {shlex.join(words)}"


_LOCAL = {"output_dir", "push_to_hub", "tracker", "workers", "cpu_threads", "cache_mib", "checkpoint_seconds"}


def _words(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, dict):
        return [flag, *(f"{key}={item}".replace(" ", "") for key, item in value.items())]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="finetune.py",
        description="Few-shot transfer of base, large and Lp networks; without arguments, on embedded digits.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", default=None, help="recipe, a YAML file with any of these settings")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument(
        "--report",
        action="store_const",
        const="report",
        dest="action",
        default="run",
        help="run nothing: print and write the tables and the plot of the trials under --output-dir",
    )
    actions.add_argument(
        "--measure-loading",
        action="store_const",
        const="measure",
        dest="action",
        help="run nothing: measure images per second of loading, training, and both",
    )
    for setting in fields(FewShotConfig):
        _add_flag(parser, setting)
    return parser


def _add_flag(parser: argparse.ArgumentParser, setting: Field[Any]) -> None:
    usual, kind, choices = default(setting), setting.metadata["kind"], setting.metadata["choices"]
    argument: dict[str, Any] = {"help": f"{setting.metadata['help']} (default: {usual})".replace("%", "%%")}
    if kind is bool:
        argument["action"] = argparse.BooleanOptionalAction
    elif kind is dict:
        argument.update(action=ParseKwargs, nargs="*")
    else:
        argument["type"] = _shots if setting.name == "shots" else kind
        if choices:
            argument["choices"] = choices
        if isinstance(usual, list):
            argument["nargs"] = "+"
    parser.add_argument(f"--{setting.name.replace('_', '-')}", **argument)


def _shots(text: str) -> int:
    return 0 if text == "all" else int(text)


_shots.__name__ = "number of shots"  # what argparse calls it in its message


def _read_recipe(path: Any) -> dict[str, Any]:
    """Return the settings of a recipe file, one that comes with the package by its bare name too."""
    source = Path(path) if isinstance(path, str) else path
    shipped = DIGITS_RECIPE.parent / source.name  # type: ignore[attr-defined]
    if isinstance(path, str) and not source.is_file() and source.name == path and shipped.is_file():
        source = shipped
    try:
        text = source.read_text(encoding="utf-8")
        settings, written = yaml.safe_load(text), yaml.load(text, _AsWritten)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`--config` must be a readable YAML file, got {path}: {reason}") from error
    known = {setting.name: setting.metadata["kind"] for setting in fields(FewShotConfig)}
    if not isinstance(written, dict) or not written.keys() <= known.keys():
        unknown = sorted(map(str, written.keys() - known.keys())) if isinstance(written, dict) else written
        raise ValueError(f"`--config` must hold settings that --help lists, got {unknown} in {path}.")
    return {
        name: settings[name] if settings[name] is None or known[name] in (bool, dict) else written[name]
        for name in written
    }


class _AsWritten(yaml.BaseLoader):
    """Leaves each value as the text that it is, as a flag's: else `no` is False, 010 is 8, and 1:30 is 90.

    A key that stands twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise yaml.YAMLError(f"{', '.join(twice)} stands twice")
        return mapping
