"""What the commands share: how a command line is read, errors in one line, and the packages that must be there."""

import argparse
import gc
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from .settings import Settings, add_flags, positional, words_of

S = TypeVar("S", bound=Settings)

NETWORK_FORMS = (  # what commands take for NETWORK; `trials.networks` tells them apart
    "a registered name, hf-hub:ORG/NAME, local-dir:FOLDER, the folder of a saved network, of a trial, or of a run for "
    "all its trials, a file of weights beside its config.json, or a class by its module (mypackage.nets:MyNet)"
)


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong with a command line without printing all its flags."""

    def error(self, message: str) -> NoReturn:
        """End the process with the message and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message.rstrip('.')}. --help lists the flags.\n")


@dataclass(frozen=True)
class CommandLine(Generic[S]):
    """How the command line of a command is read.

    Attributes:
        program: What usage and errors call the command.
        settings: The dataclass of its settings; flags and the keys of recipes are made from it.
        description: What its help says first.
        summary: What the help of the command above says of it, where there is one.
        epilog: What its help says last.
        takes_recipe: Whether `--config` names a recipe.
        recipes: The folder of the recipes that come with it.
        usual_recipe: The recipe that is read if neither one is named nor a flag of `named` is there.
        launcher: What starts the command that repeats a run; the program if empty.
        named: Settings that the command that repeats a run always names.
        local: Settings that it never names, since they only say how fast it runs and where to.
        actions: What it does in place of a run, by name: the flag and its help.
        is_usage: Whether settings that cannot be used are an error of usage, with exit code 2.
    """

    program: str
    settings: type[S]
    description: str = ""
    summary: str = ""
    epilog: str | None = None
    takes_recipe: bool = True
    recipes: Path | None = None
    usual_recipe: Path | None = None
    launcher: str = ""
    named: Collection[str] = ()
    local: Collection[str] = ()
    actions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    is_usage: bool = True

    def parse(self, arguments: Sequence[str] | None = None) -> S:
        """Return the settings of a command line: flags win over the recipe, and that over the defaults.

        Args:
            arguments: The command line, or None for the process's own.

        Raises:
            SystemExit: If the command line cannot be read, or the settings cannot be used.
            ValueError: If they cannot, and that is no error of usage.
        """
        return self.parse_with_action(arguments)[0]

    def parse_with_action(self, arguments: Sequence[str] | None = None) -> tuple[S, str]:
        """Return the settings of a command line, as `parse` does, and the name of the action, `"run"` if none is asked.

        Args:
            arguments: The command line, or None for the process's own.
        """
        parser = self.add_to(CommandParser(prog=self.program))
        return self.read(vars(parser.parse_args(arguments)))

    def add_to(self, parser: CommandParser) -> CommandParser:
        """Add the arguments to a parser, and return it."""
        parser.description, parser.epilog = self.description, self.epilog
        if self.takes_recipe:
            parser.add_argument("--config", help="recipe, a YAML file with any of these settings")
        if self.actions:
            group = parser.add_mutually_exclusive_group()
            for name, (flag, text) in self.actions.items():
                group.add_argument(flag, action="store_const", const=name, dest="action", help=text)
        add_flags(parser, self.settings, negatable=self.takes_recipe)
        return parser

    def read(self, parsed: dict[str, Any]) -> tuple[S, str]:
        """Return the settings and the action of what a parser that `add_to` made has parsed."""
        without_flag = positional(self.settings)
        flags = {name: value for name, value in parsed.items() if name not in without_flag or value not in (None, [])}
        recipe, action = flags.pop("config", None), flags.pop("action", None) or "run"
        if recipe is None and not flags.keys() & {*self.named}:
            recipe = self.usual_recipe
        try:
            return self.settings(**{**self._recipe(recipe), **flags}), action
        except ValueError as error:
            if not self.is_usage:
                raise
            self.error(str(error))

    def repeat(self, settings: S, **changes: Any) -> str:
        """Return the command line that gives these settings, whatever the defaults of a recipe are.

        Args:
            settings: The settings.
            **changes: Values in place of theirs, `seeds=[1]` for instance.
        """
        words = [self.launcher or self.program, shlex.join(words_of(settings, self.named, self.local, **changes))]
        return " ".join(filter(None, words))

    def error(self, message: str) -> NoReturn:
        """End the process with a message about a flag and exit code 2."""
        CommandParser(prog=self.program).error(message)

    def _recipe(self, path: str | Path | None) -> dict[str, Any]:
        if path is None:
            return {}
        from .recipes import read_recipe  # YAML's reader takes time, and few command lines need it

        return read_recipe(path, self.settings, self.recipes)


def parse_subcommand(
    program: str,
    description: str,
    commands: Mapping[str, CommandLine[Any]],
    arguments: Sequence[str] | None = None,
    usual: str | None = None,
) -> tuple[str, Any]:
    """Return which of several commands a command line names, and its settings.

    Args:
        program: What usage and errors call the command above them.
        description: What its help says.
        commands: The commands, by their names.
        arguments: The command line, or None for the process's own.
        usual: The command that an empty command line means; None if there must be one.

    Raises:
        SystemExit: If the command line cannot be read, or the settings cannot be used.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = CommandParser(prog=program, description=description)
    below = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        command.add_to(below.add_parser(name, help=command.summary))
    parsed = vars(parser.parse_args(arguments or ([usual] if usual else [])))
    name = parsed.pop("command")
    return name, commands[name].read(parsed)[0]


def require_packages(command: str, extra: str, modules: Sequence[str]) -> None:
    """End the process if a command's packages are not installed; nothing is imported for that.

    Args:
        command: Name of the command.
        extra: The extra of this package that brings them.
        modules: Their top-level modules.

    Raises:
        SystemExit: If one is missing; the message says how to install it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise SystemExit(
            f"{command}: {', '.join(missing)} must be installed. "
            f'`pip install "timm-lp[{extra}]"` brings what is missing, in a clone `pip install -e ".[{extra}]"`.'
        )


@contextmanager
def failures_in_one_line(command: str, after_interruption: str = "") -> Iterator[None]:
    """End the process in one line where its user or its machine is the reason.

    torch has RuntimeError for both: full memory, a killed worker, a process that left the others, a missing compiler.

    Args:
        command: Name of the command.
        after_interruption: What to say to a user who interrupted it.

    Raises:
        SystemExit: In place of what was raised.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(f"{command}: interrupted. {after_interruption}".rstrip()) from None
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        raise SystemExit(f"{command}: {first_line(error)}") from error


@contextmanager
def imports_not_collected() -> Iterator[None]:
    """Let garbage collection pass over what the imports left: 0.2 s at each trial, 2 s at a report's p-values.

    Within another such context this does nothing.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # or libraries that count at the exit what was not collected report it as leaks


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, its name where it says nothing."""
    return next(filter(None, str(error).splitlines()), type(error).__name__)
