"""The command line of the benchmark, and the command that repeats a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import settings
from ...command import CommandParser
from .config import FinetuneConfig

RECIPES = Path(__file__).parent / "recipes"
DIGITS_RECIPE = RECIPES / "digits.yaml"
COMMAND = "accelerate launch finetune.py"

_LOCAL = {"output_dir", "push_to_hub", "tracker", "workers", "cpu_threads", "cache_mib", "checkpoint_seconds"}


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[FinetuneConfig, str]:
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
    flags = vars(_parser().parse_args(arguments))
    recipe, action = flags.pop("config"), flags.pop("action")
    if recipe is None and not flags.keys() & {"model", "dataset"}:
        recipe = DIGITS_RECIPE
    chosen = {} if recipe is None else settings.read_recipe(recipe, FinetuneConfig, RECIPES)
    return FinetuneConfig(**{**chosen, **flags}), action


def command_line(config: FinetuneConfig, **changes: Any) -> str:
    """Return the command that runs a benchmark with these settings, whatever the defaults of its recipe are.

    Args:
        config: The settings; those that only say where results go are left out.
        **changes: Values in place of the settings' own, `seeds=[1]` for instance.
    """
    return settings.command_line(COMMAND, config, ("model", "dataset"), _LOCAL, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="finetune.py",
        description="Few-shot transfer of base, large and Lp networks; without arguments, on embedded digits.",
        argument_default=argparse.SUPPRESS,
    )
    settings.add_actions(
        parser,
        {
            "report": (
                "--report",
                "run nothing: print and write the tables and the plot of the trials under --output-dir",
            ),
            "measure": (
                "--measure-loading",
                "run nothing: measure images per second of loading, training, and both",
            ),
        },
    )
    settings.add_flags(parser, FinetuneConfig, {"shots": _shots})
    return parser


def _shots(text: str) -> int:
    return 0 if text == "all" else int(text)


_shots.__name__ = "number of shots"  # what argparse calls it in its message
