"""The command line of the speed benchmark: its flags."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..command import NETWORK_FORMS, CommandParser, positive

SUITES = ("networks", "training", "latency", "layers", "growth", "grid")
FORMATS = ("NCHW", "NHWC")
AUTOCAST = "autocast"
DTYPES = ("float32", AUTOCAST, "bfloat16")
CLOCKS = ("wall", "cpu")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    return create_parser().parse_args(arguments)


def create_parser() -> argparse.ArgumentParser:
    """Return what reads a command line, and says what is wrong with it."""
    parser = CommandParser(
        prog="python -m timm_lp.bench",
        description="Speed and memory of Lp-convolution beside plain PyTorch. Each case runs in each mode, the product "
        "of --format, --dtype and --threads.",
        epilog="networks: the README's table; training: whole networks at the sizes and batches of training; latency: "
        "evaluation of one image; layers: single layers; growth: one layer over the size of its kernel; grid: layers "
        "of every kind, to search for one that is slower than torch's convolution.",
    )
    parser.add_argument("suite", nargs="?", choices=SUITES, default="networks", help="what to measure, see below")
    parser.add_argument(
        "--network", nargs="+", default=[], metavar="NETWORK", help=f"time these in place of a suite: {NETWORK_FORMS}"
    )
    parser.add_argument("--only", default="", help="measure the cases whose names contain this")
    parser.add_argument("--runs", type=positive, default=7, help="measured runs of each form (default: 7)")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["NCHW"], help="NHWC is channels_last")
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, default=["float32"], help="autocast is to bfloat16 (default: float32)"
    )
    parser.add_argument("--optimizer", action="store_true", help="end training steps with AdamW")
    parser.add_argument(
        "--threads", nargs="+", type=positive, help="threads on the CPU; torch's own number if not given"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu, on one thread, is for busy machines (default: wall)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--no-memory", action="store_true", help="do not measure the peak memory")
    parser.add_argument("--output", type=Path, default=Path("output/bench"), help="default: output/bench")
    parser.add_argument("--compare", type=Path, help="results.json of another run, to compare with")
    return parser
