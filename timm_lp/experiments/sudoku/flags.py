"""The command line of the Sudoku experiment, and the command that repeats a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import settings
from ...command import CommandParser
from .config import SudokuConfig

RECIPES = Path(__file__).parent / "recipes"
DEMO_RECIPE = RECIPES / "demo.yaml"
COMMAND = "python -m timm_lp.experiments.sudoku"

_NAMED = ("puzzles", "channels", "depth", "input")  # with one of these there is no demonstration
_LOCAL = {
    *("output_dir", "cpu_threads", "checkpoint_seconds"),
    *("ablate_variant", "ablate_puzzles", "ablate_draws", "ablate_min_gamma"),
}


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[SudokuConfig, str]:
    """Return the settings of a command line, and what to do with them.

    Flags win over the recipe file, and that over the defaults. Without a recipe and without flags that say which
    puzzles or which network, the recipe is the demonstration's.

    Args:
        arguments: The command line, or None for the process's own.

    Returns:
        The settings, and `"run"`, `"report"`, `"masks"` or `"ablate"`.

    Raises:
        SystemExit: If argparse does not know a flag or its value.
        ValueError: If the recipe cannot be read, or a setting cannot be used.
    """
    flags = vars(_parser().parse_args(arguments))
    recipe, action = flags.pop("config"), flags.pop("action")
    if recipe is None and not flags.keys() & {"data", *_NAMED}:
        recipe = DEMO_RECIPE
    chosen = {} if recipe is None else settings.read_recipe(recipe, SudokuConfig, RECIPES)
    return SudokuConfig(**{**chosen, **flags}), action


def command_line(config: SudokuConfig, **changes: Any) -> str:
    """Return the command that runs trials with these settings, whatever the defaults of its recipe are.

    Args:
        config: The settings; those that only say where results go are left out.
        **changes: Values in place of the settings' own, `seeds=[1]` for instance.
    """
    return settings.command_line(COMMAND, config, _NAMED, _LOCAL, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=COMMAND,
        description="Sudoku with base, large and Lp networks (section 5); without arguments, a small demonstration.",
        argument_default=argparse.SUPPRESS,
    )
    settings.add_actions(
        parser,
        {
            "report": (
                "--report",
                "run nothing: print and write the tables and the curves of the trials under --output-dir",
            ),
            "masks": (
                "--masks",
                "run nothing: show the masks of the saved networks under --output-dir (Figures 5b, 9)",
            ),
            "ablate": (
                "--ablate",
                "train nothing: test the saved networks under --output-dir without their oriented masks "
                "(Figures 5c, 10)",
            ),
        },
    )
    settings.add_flags(parser, SudokuConfig)
    return parser
