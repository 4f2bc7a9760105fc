"""What the commands share: errors in one line, the last that is printed, and flags' types."""

import argparse
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NoReturn

NETWORK_FORMS = (  # what commands take for NETWORK; `trials.networks` tells them apart
    "a registered name, hf-hub:ORG/NAME, local-dir:FOLDER, the folder of a saved network, of a trial, or of a run for "
    "all its trials, or a file of weights beside its config.json"
)


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong with a command line without printing all its flags."""

    def error(self, message: str) -> NoReturn:
        """End the process with the message and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message.rstrip('.')}. --help lists the flags.\n")


def positive(text: str) -> int:
    """Return a flag's value, a whole number of at least 1; for `add_argument(type=...)`.

    Raises:
        argparse.ArgumentTypeError: If it is less.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


positive.__name__ = "positive number"  # what argparse calls it in its message


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
