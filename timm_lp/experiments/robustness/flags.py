"""The command line of the robustness benchmark: its flags, and what they must be together."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...command import NETWORK_FORMS, CommandParser, positive
from ..data.corruptions.names import NUM_SEVERITIES, WHERE
from ..data.presets import DIGITS

COMMAND = "python -m timm_lp.experiments.robustness"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.networks and (options.corruptions or options.compute or options.dataset):
        parser.error("`NETWORK` must be given with --corruptions, --compute or --dataset, got none. Name one")
    if options.networks and not (options.corruptions or options.compute):
        parser.error(f"`--corruptions` or `--compute` must be given, got neither. {WHERE}; --compute needs no files")
    if options.dataset is not None and not options.compute:
        parser.error("`--dataset` must come with --compute, got it with --corruptions. Leave it out")
    if not options.md5 and options.corruptions is None:
        parser.error("`--no-md5` must come with --corruptions, got it without. Leave it out")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=COMMAND,
        description="The accuracy of trained networks on corrupted images (Table 2); without arguments, "
        f"a demonstration on {DIGITS}.",
    )
    add = parser.add_argument
    add(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help=NETWORK_FORMS,
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--corruptions", type=Path, metavar="DIR", help=f"published corrupted images; nothing is downloaded: {WHERE}"
    )
    images.add_argument(
        "--compute", action="store_true", help="corrupt the test images of the trials' data set here, without frost"
    )
    add("--dataset", help="data set to corrupt, as finetune.py takes it; the trials' own if not given")
    add(
        "--severities",
        type=int,
        nargs="+",
        choices=range(1, NUM_SEVERITIES + 1),
        default=[1],
        help="default: 1, as in Table 2",
    )
    add("--no-md5", dest="md5", action="store_false", help="go on with files other than the published ones")
    add("--batch-size", type=positive, default=256, help="images of a batch over all processes (default: 256)")
    add("--mixed-precision", choices=("no", "fp16", "bf16"), help="number format; the launcher's if not given")
    add("--channels-last", action="store_true", help="keep images and kernels in the channels-last format")
    add("--cpu-threads", type=positive, help="threads of a process on CPUs; its share of the cores if not given")
    add("--output-dir", type=Path, default=Path("output/robustness"), help="default: output/robustness")
    return parser
