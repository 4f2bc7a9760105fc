"""The command lines of the Sudoku experiment and of its solver, and the command that repeats a run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...command import CommandLine
from ...settings import Settings, setting
from .config import SudokuConfig

SOLVE = "solve"

RECIPES = Path(__file__).parent / "recipes"
DEMO_RECIPE = RECIPES / "demo.yaml"

COMMAND = CommandLine(
    "timm-lp sudoku",
    SudokuConfig,
    "Sudoku with base, large and Lp networks (section 5); without arguments, a small demonstration. "
    f"`timm-lp sudoku {SOLVE} PUZZLE` solves a puzzle with a trained network.",
    recipes=RECIPES,
    usual_recipe=DEMO_RECIPE,
    launcher="python -m timm_lp.experiments.sudoku",
    named=("data", "puzzles", "channels", "depth", "input"),  # with one of these it is no demonstration
    local=(
        *("output_dir", "cpu_threads", "checkpoint_seconds", "tracker", "track_masks"),
        *("ablate_variant", "ablate_puzzles", "ablate_draws", "ablate_min_gamma"),
    ),
    actions={
        "report": (
            "--report",
            "run nothing: print and write the tables and the curves of the trials under --output-dir",
        ),
        "masks": ("--masks", "run nothing: show the masks of the saved networks under --output-dir (Figures 5b, 9)"),
        "ablate": (
            "--ablate",
            "train nothing: test the saved networks under --output-dir without their oriented masks (Figures 5c, 10)",
        ),
    },
    is_usage=False,
)
command_line = COMMAND.repeat


@dataclass(frozen=True, kw_only=True)
class SolveSettings(Settings):
    """Which puzzles to solve, and with which network."""

    puzzles: list[str] = setting(
        [],
        "81 cells, 0 or a dot for a blank one; the nine lines of a board; or a file of such puzzles, one a line or as "
        "boards with empty lines between them; standard input if not given",
        positional=True,
        nargs="*",
        metavar="PUZZLE",
    )
    network: Path | None = setting(
        None,
        "folder of a trial of this experiment; the network that comes with timm-lp if not given",
        Path,
        metavar="FOLDER",
    )


SOLVE_COMMAND = CommandLine(
    f"{COMMAND.program} {SOLVE}",
    SolveSettings,
    "Fill a puzzle cell by cell, the surest first, with a network with Lp masks, and check the result by the rules.",
    takes_recipe=False,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[Any, str]:
    """Return the settings of a command line, and what it asks for: `"run"`, an action, or `"solve"`.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If it cannot be read.
        ValueError: If the settings cannot be used.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == [SOLVE]:
        return SOLVE_COMMAND.parse(arguments[1:]), SOLVE
    return COMMAND.parse_with_action(arguments)
