"""The command line of the masks' numbers and pictures: its flags."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..command import NETWORK_FORMS, CommandParser

POOLING = ("trials", "all", "none")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m timm_lp.masks",
        description="What the masks of networks look like: tables and pictures, layer by layer.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help=f"{NETWORK_FORMS}, Sudoku's too; if none is given, a demonstration whose masks no training moved",
    )
    parser.add_argument(
        "--pool",
        choices=POOLING,
        default=POOLING[0],
        help="which networks to take together: trials that differ only in their seeds; all; or none (default: trials)",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("output/masks"), help="default: output/masks")
    return parser
