"""The command line of the masks' numbers and pictures."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.utils import logging as hub_logging

from ..command import CommandParser, failures_in_one_line
from .demo import demonstration
from .networks import POOLING, load_groups
from .output import write_masks


@failures_in_one_line("python -m timm_lp.masks")
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and the pictures of the masks of some networks, and print the tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a network has no masks, or cannot be had; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    hub_logging.disable_propagation()  # it prints its warnings itself
    options = _parser().parse_args(arguments)
    groups = load_groups(options.networks, options.pool) if options.networks else [demonstration()]
    print(f"{write_masks(groups, options.output_dir)}\nTables and pictures: {options.output_dir}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m timm_lp.masks",
        description="What the masks of networks look like: tables and pictures, layer by layer.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help="a registered name, hf-hub:ORG/NAME, local-dir:FOLDER or a trial's folder, Sudoku's too; "
        "if none is given, a demonstration whose masks no training moved",
    )
    parser.add_argument(
        "--pool",
        choices=POOLING,
        default=POOLING[0],
        help="which networks to take together: trials, whose names differ only in the -seed1 at their end; "
        "all; or none (default: trials)",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("output/masks"), help="default: output/masks")
    return parser
