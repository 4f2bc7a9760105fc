"""The command line of the Sudoku experiment, and the command that repeats a run."""

from pathlib import Path

from ...command import CommandLine
from .config import SudokuConfig

RECIPES = Path(__file__).parent / "recipes"
DEMO_RECIPE = RECIPES / "demo.yaml"

COMMAND = CommandLine(
    "timm-lp sudoku",
    SudokuConfig,
    "Sudoku with base, large and Lp networks (section 5); without arguments, a small demonstration.",
    recipes=RECIPES,
    usual_recipe=DEMO_RECIPE,
    launcher="python -m timm_lp.experiments.sudoku",
    named=("data", "puzzles", "channels", "depth", "input"),  # with one of these it is no demonstration
    local=(
        *("output_dir", "cpu_threads", "checkpoint_seconds"),
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
parse_arguments = COMMAND.parse_with_action
command_line = COMMAND.repeat
