"""The command line of the comparisons with the brain: its flags."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...command import NETWORK_FORMS, CommandParser, positive
from .recordings import AREAS, CRE_LINES, DEPTH, WINDOW

PROGRAM = "python -m timm_lp.experiments.brain"

_TABLE_5 = ("base", "large", "lp2", "lp4", "lp8", "lp16")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    parser = create_parser()
    options = parser.parse_args(arguments)
    if options.command == "mmv1" and options.synthetic == bool(options.data):
        parser.error("either `--data` or `--synthetic` must be given")
    if options.command == "mmv1" and options.synthetic and options.mice:
        parser.error("`--mice` must come with `--data`, got it with `--synthetic`. Leave it out")
    return options


def create_parser() -> argparse.ArgumentParser:
    """Return what reads a command line, and says what is wrong with it."""
    parser = CommandParser(prog=PROGRAM, description="Compare networks with the visual cortex of mice.")
    commands = parser.add_subparsers(dest="command", required=True)
    rsa = commands.add_parser(
        "rsa",
        help="representational similarity of networks and areas (Figure 6)",
        description="Kendall's tau between the similarities of images in the layers of networks and in areas of a "
        "cortex. Without arguments: untrained networks beside a synthetic cortex.",
    )
    rsa.add_argument("--responses", type=Path, metavar="FILE", help="responses of a cortex (default: synthetic ones)")
    rsa.add_argument(
        "--images", type=Path, metavar="DIR", help="its images in the same order (default: the file's own)"
    )
    rsa.add_argument("--models", nargs="+", default=[], metavar="NETWORK", help=NETWORK_FORMS)
    rsa.add_argument(
        "--untrained", nargs="+", default=[], metavar="NETWORK", help="such networks, but with random weights"
    )
    rsa.add_argument("--seeds", nargs="+", type=int, default=[0], help="of random weights, not of trials (default: 0)")
    rsa.add_argument("--layers", nargs="+", default=[], help="modules to compare (default: every convolution)")
    rsa.add_argument("--areas", nargs="+", default=[], help="areas to compare with (default: all)")
    rsa.add_argument("--image-size", type=positive, help="pixels of the networks' input (default: their own)")
    rsa.add_argument(
        "--resamples", type=positive, default=500, help="samples of the images, for intervals (default: 500)"
    )
    rsa.add_argument("--splits", type=positive, default=50, help="divisions of the images into halves (default: 50)")
    rsa.add_argument("--permutations", type=positive, default=100, help="shuffled orders of the images (default: 100)")
    rsa.add_argument("--seed", type=int, default=0, help="of samples, divisions and orders (default: 0)")
    rsa.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    _add_output_dir(rsa, "output/brain/rsa")
    prepare = commands.add_parser(
        "prepare",
        help="a responses file from a copy of the Allen Brain Observatory",
        description="Pool the neurons of recordings by area, and write a responses file for `rsa`.",
    )
    prepare.add_argument("--nwb", type=Path, required=True, metavar="DIR", help="NWB files of the recordings")
    prepare.add_argument("--events", type=Path, required=True, metavar="DIR", help="NUMBER_events.npz of each")
    prepare.add_argument("--areas", nargs="+", default=AREAS, help=f"default: {' '.join(AREAS)}")
    prepare.add_argument(
        "--depth",
        nargs=2,
        type=float,
        default=DEPTH,
        metavar=("LEAST", "GREATEST"),
        help=f"micrometres, both included (default: {DEPTH[0]:.0f} {DEPTH[1]:.0f}, layer 2/3)",
    )
    prepare.add_argument("--cre", nargs="*", default=CRE_LINES, help=f"none: all (default: {' '.join(CRE_LINES)})")
    prepare.add_argument(
        "--window", type=positive, default=WINDOW, help=f"frames whose events are summed (default: {WINDOW})"
    )
    prepare.add_argument("--image-side", type=positive, default=256, help="longest side that is kept (default: 256)")
    _add_output_dir(prepare, "output/brain/prepare")
    mmv1 = commands.add_parser(
        "mmv1",
        help="prediction of V1 activity in freely moving mice (Table 5)",
        description="Train the network of Xu et al. (2024) and its conversions, beside one that sees no video.",
    )
    mmv1.add_argument("--data", type=Path, metavar="DIR", help="the published data: a folder for each mouse")
    mmv1.add_argument("--synthetic", action="store_true", help="made-up mice and small networks, to see it run")
    mmv1.add_argument("--mice", nargs="+", default=[], help="folders to take (default: all)")
    mmv1.add_argument("--variants", nargs="+", default=_TABLE_5, help=f"default: {' '.join(_TABLE_5)}")
    mmv1.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    mmv1.add_argument("--frames", type=positive, help="bins that the network sees (default: 4)")
    mmv1.add_argument("--epochs", type=positive, help="at most (default: 50)")
    mmv1.add_argument("--batch-size", type=positive, help="windows, over all processes (default: 256)")
    mmv1.add_argument("--lr", type=float, help="of Adam (default: 2e-4)")
    _add_output_dir(mmv1, "output/brain/mmv1")
    return parser


def _add_output_dir(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output-dir", type=Path, default=Path(default), help=f"default: {default}")
