"""The console command `timm-lp`: it lists the commands, and starts one as `python -m` does; standard library only."""

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from . import __version__


class Command(NamedTuple):
    """A command of the project.

    Attributes:
        module: What `python -m` runs.
        summary: What it does, in words.
    """

    module: str
    summary: str


COMMANDS = {
    "finetune": Command("timm_lp.experiments.classification", "train and compare base, large and Lp networks"),
    "robustness": Command("timm_lp.experiments.robustness", "test trained networks on corrupted images (Table 2)"),
    "masks": Command("timm_lp.masks", "show what masks look like: tables and pictures, layer by layer"),
    "sudoku": Command("timm_lp.experiments.sudoku", "Sudoku, where masks turn into rows and columns (section 5)"),
    "receptive-fields": Command(
        "timm_lp.experiments.receptive_fields", "fit p to receptive fields of networks, or of your own neurons"
    ),
    "bench": Command("timm_lp.bench", "measure speed and memory beside plain PyTorch"),
    "brain": Command("timm_lp.experiments.brain", "compare networks with the visual cortex of mice"),
    "hub": Command("hub_export", "publish networks, and bring them back, verified (the same as timm-lp-hub)"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the command that the command line names, or list the commands.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If there is no such command, with exit code 2; else as the command ends.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        sys.argv[1:] = rest
        runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
    elif name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"timm-lp {__version__}")
    else:
        print(_unknown(name), file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        (
            "usage: timm-lp [-h] [--version] COMMAND [ARGUMENTS ...]",
            "",
            "Lp-convolution for every convolutional network in timm.",
            "",
            "commands:",
            *(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "`timm-lp COMMAND --help` lists the arguments of a command.",
            f"On several GPUs: accelerate launch -m {COMMANDS['finetune'].module} ARGUMENTS",
            f"In several processes on CPUs: torchrun --nproc_per_node 2 -m {COMMANDS['finetune'].module} ARGUMENTS",
        )
    )


def _unknown(name: str) -> str:
    near = get_close_matches(name, [*COMMANDS, "--help", "--version"])
    advice = f"Did you mean {' or '.join(near)}?" if near else "`timm-lp --help` says what they do."
    return f"timm-lp: COMMAND must be one of {', '.join(COMMANDS)}, got {name!r}. {advice}"
