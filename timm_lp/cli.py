"""The console command `timm-lp`: it lists the commands, and starts any; standard library only."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

from . import __version__
from .command import failures_in_one_line, require_packages


class Command(NamedTuple):
    """A command of the project.

    Attributes:
        module: Its package: the module `flags` in it reads the command line, and `cli` does what that asks for.
        summary: What it does, in words.
        extra: The extra of this package that brings what it needs.
        packages: The modules of other packages without which it cannot start.
    """

    module: str
    summary: str
    extra: str
    packages: tuple[str, ...]


_NETWORKS = ("timm", "torch", "yaml")
_STATISTICS = ("numpy", "scipy", "statsmodels", "tqdm")
_TRAINING = ("accelerate", "psutil", *_NETWORKS, *_STATISTICS)
_IMAGES = ("PIL", "sklearn", "torchvision")

# Without matplotlib there are no pictures. What only some runs need says so then: matplotlib, datasets, h5py, and
# accelerate in `brain`.
COMMANDS = {
    "finetune": Command(
        "timm_lp.experiments.classification",
        "train and compare base, large and Lp networks",
        "experiments",
        (*_TRAINING, *_IMAGES),
    ),
    "robustness": Command(
        "timm_lp.experiments.robustness",
        "test trained networks on corrupted images (Table 2)",
        "experiments",
        (*_TRAINING, *_IMAGES),
    ),
    "masks": Command(
        "timm_lp.masks",
        "show what masks look like: tables and pictures, layer by layer",
        "masks",
        (*_NETWORKS, "tqdm"),
    ),
    "sudoku": Command(
        "timm_lp.experiments.sudoku",
        "Sudoku, where masks turn into rows and columns (section 5)",
        "experiments",
        _TRAINING,
    ),
    "receptive-fields": Command(
        "timm_lp.experiments.receptive_fields",
        "fit p to receptive fields of networks, or of your own neurons",
        "experiments",
        (*_NETWORKS, *_STATISTICS, *_IMAGES, "matplotlib"),
    ),
    "bench": Command(
        "timm_lp.bench",
        "measure speed and memory beside plain PyTorch",
        "bench",
        (*_NETWORKS, "PIL", "numpy", "torchvision", "tqdm"),
    ),
    "brain": Command(
        "timm_lp.experiments.brain",
        "compare networks with the visual cortex of mice",
        "brain",
        (*_NETWORKS, *_STATISTICS, "PIL"),
    ),
    "hub": Command(
        "hub_export",
        "publish networks, and bring them back, verified (the same as timm-lp-hub)",
        "hub",
        _NETWORKS,
    ),
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
        start(name, rest)
    elif name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"timm-lp {__version__}")
    else:
        print(_unknown(name), file=sys.stderr)
        sys.exit(2)


def start(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command, whichever door it came through; nothing slow is imported before its flags are checked.

    Args:
        name: Name of the command.
        arguments: Its command line, or None for the process's own.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    command = COMMANDS[name]
    program = f"timm-lp {name}"
    require_packages(program, command.extra, command.packages)
    with failures_in_one_line(program):
        import_module(f"{command.module}.flags").parse_arguments(arguments)
        import_module(f"{command.module}.cli").main(arguments)


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
