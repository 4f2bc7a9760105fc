"""Settings of a command: a dataclass, from which its flags, the keys of its recipes and its checks are made."""

import argparse
import ast
import shlex
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, field, fields
from math import inf
from pathlib import Path
from typing import Any

import yaml


def setting(
    default: Any,
    help: str,
    kind: type | None = None,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a dataclass field whose metadata says what its values must be.

    Args:
        default: The default value; a list for a setting that takes several.
        help: What the flag's help says.
        kind: Type of a value, or of a list's items; the default's if not given.
        limits: Least and largest value.
        choices: All values that there are.
    """
    if kind is None:
        kind = str if isinstance(default, list) else type(default)
    metadata = {"help": help, "kind": kind, "limits": limits, "choices": choices}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def default(own: Field[Any]) -> Any:
    """Return a setting's default value."""
    return own.default if own.default_factory is MISSING else own.default_factory()


def check_settings(config: Any) -> None:
    """Put every setting of a dataclass into its type, or refuse what none could be.

    Raises:
        ValueError: If a setting is not of its type or out of its limits.
    """
    for own in fields(config):
        object.__setattr__(config, own.name, _checked(own, getattr(config, own.name)))


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, tuple[str, str]]) -> None:
    """Add the flag of a recipe, and those that choose what is done, of which there is one at most.

    The parsed `action` is one of these, or `"run"`.

    Args:
        parser: The parser.
        actions: Flag and help of each action, by its name.
    """
    parser.add_argument("--config", default=None, help="recipe, a YAML file with any of these settings")
    group = parser.add_mutually_exclusive_group()
    for name, (flag, text) in actions.items():
        group.add_argument(flag, action="store_const", const=name, dest="action", default="run", help=text)


def add_flags(
    parser: argparse.ArgumentParser, kind: type, parse: Mapping[str, Callable[[str], Any]] | None = None
) -> None:
    """Add a flag for each setting.

    Args:
        parser: The parser.
        kind: The dataclass.
        parse: What makes a value of a flag's text where its type does not, by the setting's name.
    """
    for own in fields(kind):
        usual, of_type, choices = default(own), own.metadata["kind"], own.metadata["choices"]
        argument: dict[str, Any] = {"help": f"{own.metadata['help']} (default: {usual})".replace("%", "%%")}
        if of_type is bool:
            argument["action"] = argparse.BooleanOptionalAction
        elif of_type is dict:
            argument.update(action=_KeyValues, nargs="*")
        else:
            argument["type"] = (parse or {}).get(own.name, of_type)
            if choices:
                argument["choices"] = choices
            if isinstance(usual, list):
                argument["nargs"] = "+"
        parser.add_argument(_flag(own.name), **argument)


def command_line(command: str, config: Any, named: Collection[str], local: Collection[str], **changes: Any) -> str:
    """Return the command that runs with these settings, whatever the defaults of its recipe are.

    Args:
        command: What stands before the flags.
        config: The settings.
        named: Settings that are always said.
        local: Settings that are never said.
        **changes: Values in place of the settings' own, `seeds=[1]` for instance.
    """
    words = []
    for own in fields(config):
        value = changes.get(own.name, getattr(config, own.name))
        if own.name in local or (value == default(own) and own.name not in named) or value in (None, [], {}):
            continue
        words += _words(own.name, value)
    return f"{command} {shlex.join(words)}"


def read_recipe(path: str | Path, kind: type, shipped: Path) -> dict[str, Any]:
    """Return the settings of a recipe file.

    Args:
        path: A YAML file with any of the settings; one of the shipped ones by its bare name too.
        kind: The dataclass of the settings.
        shipped: The folder of the recipes that come with the package.

    Raises:
        ValueError: If it cannot be read, or holds other things.
    """
    source = Path(path)
    if not source.is_file() and source.name == str(path) and (shipped / source).is_file():
        source = shipped / source
    try:
        text = source.read_text(encoding="utf-8")
        settings, written = yaml.safe_load(text), yaml.load(text, _AsWritten)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`--config` must be a readable YAML file, got {path}: {reason}") from error
    known = {own.name: own.metadata["kind"] for own in fields(kind)}
    if not isinstance(written, dict) or not written.keys() <= known.keys():
        unknown = sorted(map(str, written.keys() - known.keys())) if isinstance(written, dict) else written
        raise ValueError(f"`--config` must hold settings that --help lists, got {unknown} in {path}.")
    return {
        name: settings[name] if settings[name] is None or known[name] in (bool, dict) else written[name]
        for name in written
    }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _words(name: str, value: Any) -> list[str]:
    flag = _flag(name)
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, dict):
        return [flag, *(f"{key}={item}".replace(" ", "") for key, item in value.items())]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


def _checked(own: Field[Any], value: Any) -> Any:
    """Return a setting's value, numbers and lists in their type, or refuse it."""
    usual = default(own)
    if value is None and usual is None:
        return None
    if not isinstance(usual, list):
        return _checked_item(own, value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{own.name}` must be a list, got {value!r}. Write [{value}] in a recipe.")
    return [_checked_item(own, item) for item in value]


def _checked_item(own: Field[Any], value: Any) -> Any:
    kind, limits, choices = (own.metadata[key] for key in ("kind", "limits", "choices"))
    if kind in (int, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = kind(value)  # a recipe's numbers come as they are written
    if type(value) is not kind:
        raise ValueError(f"`{own.name}` must be of type {kind.__name__}, got {value!r}.")
    if limits and not (limits[0] <= value <= limits[1] and value < inf):
        rule = f"between {limits[0]:g} and {limits[1]:g}"
        if limits[1] == inf:
            rule = f"at least {limits[0]:g}{' and finite' if kind is float else ''}"
        raise ValueError(f"`{own.name}` must be {rule}, got {value}.")
    if choices and value not in choices:
        raise ValueError(f"`{own.name}` must be {' or '.join(choices)}, got {value!r}.")
    return value


class _KeyValues(argparse.Action):
    """Makes a dictionary of `key=value` words, with Python's literals as values, as timm's `ParseKwargs` does."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        pairs = {}
        for word in values:
            key, equals, value = word.partition("=")
            if not equals:
                raise argparse.ArgumentError(self, f"must be key=value, got {word!r}")
            pairs[key] = value
            with suppress(ValueError, SyntaxError):
                pairs[key] = ast.literal_eval(value)
        setattr(namespace, self.dest, pairs)


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
