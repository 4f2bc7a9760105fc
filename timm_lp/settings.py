"""Settings of a command: a dataclass, from which its flags, the keys of its recipes and its checks are made."""

import argparse
import ast
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any

TINY = 1e-12  # least value where 0 would do nothing
SEEDS = (0, 2**32 - 1)  # least and largest seed of numpy's generators
TRACKERS = ("tensorboard", "wandb")
TRACKER_HELP = "follow losses, accuracies and masks in tensorboard or wandb, each trial in a run of its own"
TRACK_MASKS_HELP = "keep the masks of each epoch, for `timm-lp masks TRIAL --animate`"


@dataclass(frozen=True)
class Rule:
    """What the values of a setting must be, and how its flag shows them.

    Attributes:
        help: What the flag's help says.
        kind: Type of a value, or of a list's items.
        limits: Least and largest value.
        choices: All values that there are.
        metavar: What the help calls a value, or each of them.
        nargs: Number of a list's values, as argparse counts them.
        positional: Whether the setting is an argument without a flag.
        parse: Makes a value of a flag's text where `kind` does not.
    """

    help: str
    kind: type
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] | None = None
    metavar: str | tuple[str, ...] | None = None
    nargs: int | str | None = None
    positional: bool = False
    parse: Callable[[str], Any] | None = None


def setting(
    default: Any, help: str, kind: type | None = None, limits: tuple[float, float] | None = None, **rules: Any
) -> Any:
    """Return a dataclass field that knows its `Rule`.

    Args:
        default: The default value; a list for a setting that takes several, `MISSING` for one that must be given.
        help: What the flag's help says.
        kind: Type of a value, or of a list's items; the default's if not given.
        limits: Least and largest value.
        **rules: Further attributes of the `Rule`.
    """
    if kind is None:
        kind = str if isinstance(default, list) else Path if isinstance(default, Path) else type(default)
    if isinstance(default, list):
        rules = {"nargs": "+", **rules}
    metadata = {"rule": Rule(help, kind, limits, **rules)}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def rule_of(option: Field[Any]) -> Rule:
    """Return what the values of a setting must be."""
    rule: Rule = option.metadata["rule"]
    return rule


def default(option: Field[Any]) -> Any:
    """Return a setting's default value; None where it must be given."""
    if option.default_factory is not MISSING:
        return option.default_factory()
    return None if option.default is MISSING else option.default


@dataclass(frozen=True)
class Settings:
    """Base of a command's settings, which are checked when they are made."""

    def __post_init__(self) -> None:
        """Put every setting into its type, or refuse what no run could use.

        Raises:
            ValueError: If a setting is not of its type, out of its limits, or does not go with another.
        """
        for option in fields(self):
            object.__setattr__(self, option.name, _checked(option, getattr(self, option.name)))
        self.check_together()

    def check_together(self) -> None:
        """Refuse settings that do not go together; each is of its type here.

        Raises:
            ValueError: If there are such.
        """


def positional(kind: type[Settings]) -> list[str]:
    """Return the names of the settings that are arguments without a flag."""
    return [option.name for option in fields(kind) if rule_of(option).positional]


def check_lists(settings: Settings, *names: str) -> None:
    """Refuse lists that are empty, or that name something twice.

    Raises:
        ValueError: If one is.
    """
    for name in names:
        values = getattr(settings, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"`{name}` must name at least one, and none twice, got {values}.")


def add_flags(parser: argparse.ArgumentParser, kind: type[Settings], *, negatable: bool) -> None:
    """Add an argument for each setting; those that are not given leave nothing in the parsed namespace, or None.

    Args:
        parser: The parser.
        kind: The dataclass.
        negatable: Whether a setting that is true or false has a flag for each, as where a recipe may say the other.
    """
    for option in fields(kind):
        rule = rule_of(option)
        argument: dict[str, Any] = {"help": _help(option, negatable), "default": argparse.SUPPRESS}
        if rule.kind is bool:
            argument["action"] = argparse.BooleanOptionalAction if negatable else "store_true"
        elif rule.kind is dict and rule.parse is None:
            argument.update(action=_KeyValues, nargs="*")
        else:
            argument.update(type=rule.parse or rule.kind, choices=rule.choices, metavar=rule.metavar, nargs=rule.nargs)
        if rule.positional:
            parser.add_argument(option.name, **argument | {"default": None})
        elif option.default is MISSING and option.default_factory is MISSING:
            parser.add_argument(_flag(option.name), **argument, required=True)
        else:
            parser.add_argument(_flag(option.name), **argument)


def words_of(settings: Settings, named: Collection[str], local: Collection[str], **changes: Any) -> list[str]:
    """Return the arguments that give these settings where there is no recipe.

    Args:
        settings: The settings.
        named: Settings that are always said, where they have a value.
        local: Settings that are never said.
        **changes: Values in place of the settings' own, `seeds=[1]` for instance.
    """
    words: list[str] = []
    for option in fields(settings):
        value = changes.get(option.name, getattr(settings, option.name))
        if option.name in local or (value == default(option) and option.name not in named) or value in (None, [], {}):
            continue
        words += _words(option, value)
    return words


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _help(option: Field[Any], negatable: bool) -> str:
    """Return a flag's help, with its default as it is typed; one that is nothing is left to the words."""
    text, usual = rule_of(option).help, default(option)
    if isinstance(usual, list):
        usual = " ".join(map(str, usual))
    if usual not in (None, "", {}) and (negatable or usual is not False):
        text = f"{text} (default: {usual})"
    return text.replace("%", "%%")


def _words(option: Field[Any], value: Any) -> list[str]:
    flag = [] if rule_of(option).positional else [_flag(option.name)]
    if isinstance(value, bool):
        return [word if value else word.replace("--", "--no-", 1) for word in flag]
    if isinstance(value, dict):
        return [*flag, *(f"{key}={_literal(item)}" for key, item in value.items())]
    return [*flag, *map(str, value)] if isinstance(value, list) else [*flag, str(value)]


def _literal(value: Any) -> str:
    """Return a value as `_KeyValues` reads it."""
    for text in (value if isinstance(value, str) else repr(value).replace(" ", ""), repr(value)):
        if _read_literal(text) == value:
            return text
    return str(value)


def _read_literal(text: str) -> Any:
    """Return the value of one of Python's literals, or the text where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _checked(option: Field[Any], value: Any) -> Any:
    """Return a setting's value, numbers and lists in their type, or refuse it."""
    usual, rule = default(option), rule_of(option)
    if value is None and usual is None:
        return None
    if rule.nargs is None or rule.nargs == "?":
        return _checked_item(option.name, rule, value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{option.name}` must be a list, got {value!r}. In a recipe, write [{value}].")
    if isinstance(rule.nargs, int) and len(value) != rule.nargs:
        raise ValueError(f"`{option.name}` must be {rule.nargs} values, got {value!r}.")
    return [_checked_item(option.name, rule, item) for item in value]


def _checked_item(name: str, rule: Rule, value: Any) -> Any:
    kind, limits = rule.kind, rule.limits
    if kind in (int, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = kind(value)  # a recipe's numbers come as they are written
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if type(value) is not kind:
        raise ValueError(f"`{name}` must be of type {kind.__name__}, got {value!r}.")
    if limits and isinstance(value, (int, float)) and not (limits[0] <= value <= limits[1] and value < inf):
        spec = "g" if kind is float else ","
        bounds = f"between {limits[0]:{spec}} and {limits[1]:{spec}}"
        if limits[1] == inf:
            bounds = f"at least {limits[0]:{spec}}{' and finite' if kind is float else ''}"
        raise ValueError(f"`{name}` must be {bounds}, got {value}.")
    if rule.choices and value not in rule.choices:
        raise ValueError(f"`{name}` must be {' or '.join(rule.choices)}, got {value!r}.")
    return value


class _KeyValues(argparse.Action):
    """Makes a dictionary of `key=value` words, with Python's literals as values, as timm's `ParseKwargs` does."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        pairs = {}
        for word in values:
            key, equals, value = word.partition("=")
            if not equals:
                raise argparse.ArgumentError(self, f"must be key=value, got {word!r}")
            if key in pairs:
                raise argparse.ArgumentError(self, f"must name each argument once, got {key} twice")
            pairs[key] = _read_literal(value)
        setattr(namespace, self.dest, pairs)
