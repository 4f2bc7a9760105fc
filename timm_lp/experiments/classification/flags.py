"""The command line of the benchmark, and the command that repeats a run."""

from pathlib import Path

from ...command import CommandLine
from .config import FinetuneConfig

RECIPES = Path(__file__).parent / "recipes"
DIGITS_RECIPE = RECIPES / "digits.yaml"

COMMAND = CommandLine(
    "timm-lp finetune",
    FinetuneConfig,
    "Few-shot transfer of base, large and Lp networks; without arguments, on embedded digits.",
    recipes=RECIPES,
    usual_recipe=DIGITS_RECIPE,
    launcher="accelerate launch finetune.py",
    named=("model", "dataset"),  # with one of these the recipe is not the embedded digits'
    local=(
        *("output_dir", "push_to_hub", "tracker", "track_masks", "workers", "cpu_threads", "cache_mib"),
        *("check_images", "checkpoint_seconds"),
    ),
    actions={
        "report": (
            "--report",
            "run nothing: print and write the tables and the plot of the trials under --output-dir",
        ),
        "measure": ("--measure-loading", "run nothing: measure images per second of loading, training, and both"),
    },
    is_usage=False,
)
parse_arguments = COMMAND.parse_with_action
command_line = COMMAND.repeat
