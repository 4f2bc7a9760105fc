"""The command line of the receptive fields: its flags, and what they must be together."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from ...command import CommandParser, positive
from .likelihood import FORMS

COMMAND = "python -m timm_lp.experiments.receptive_fields"
EXAMPLE_NETWORK = "alexnet"
UNITS = 17  # neurons or images in each group of Figure 1g


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    is_example = not options.networks and options.offsets is None
    has_network = bool(options.networks) or is_example
    if options.images is not None and not has_network:
        parser.error("`--images` must come with a NETWORK, got `--offsets` alone. Name a network.")
    if options.images is not None and "images" not in options.inputs:
        parser.error("`--images` must come with `--inputs images`, got noise alone. Leave one of them out.")
    if options.form == "full" and has_network:
        parser.error(
            "`--form` must be isotropic or diagonal for a network, got full. "
            "A turned density has no closed integral over a kernel's taps"
        )
    if is_example and options.weights is not None:
        parser.error("`--weights` must come with a NETWORK, got none. Name a network.")
    if options.tap is not None and (options.offsets is None or len(options.tap) > 2):
        parser.error("`--tap` must be one number, or one for x and one for y, and come with `--offsets`.")
    if options.tap is not None and options.form == "full":
        parser.error(
            "`--form` must be isotropic or diagonal with `--tap`, got full. A turned density has no closed integral "
            "over a step of the grid"
        )
    return options


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=COMMAND,
        description="Fit the MPND (Eq. 1) to receptive fields: of a network's first convolution, or a user's own. "
        f"Without arguments: a synthetic example and {EXAMPLE_NETWORK} with random weights.",
    )
    add = parser.add_argument
    add(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help="registered name, hf-hub:, local-dir: or a saved network's folder",
    )
    add(
        "--offsets", type=Path, metavar="CSV", help="offsets of synapses: group,x,y, and neuron where there are several"
    )
    add(
        "--tap",
        type=_width,
        nargs="+",
        metavar="WIDTH",
        help="step of the grid on which offsets lie (pixels, rounded micrometres), in their unit: one, or x and y",
    )
    add("--images", type=Path, metavar="DIR", help="folder of images; else crops of scikit-learn's two photographs")
    add("--num-images", type=positive, default=UNITS, help=f"images, and inputs of noise (default: {UNITS})")
    add("--inputs", nargs="+", choices=("images", "noise"), default=("images", "noise"), help="default: both")
    add("--weights", nargs="+", choices=("trained", "untrained"), help="default: both")
    add("--unit", choices=("image", "neuron"), default="image", help="what a field is of (default: image)")
    add("--form", choices=FORMS, default=FORMS[0], help=f"form of C (default: {FORMS[0]}, the paper's)")
    add("--seed", type=_seed, default=0, help="settles crops, noise, random weights and draws (default: 0)")
    add("--output-dir", type=Path, default=Path("output/receptive_fields"), help="default: output/receptive_fields")
    return parser


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


_seed.__name__ = "number"


def _width(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return value


_width.__name__ = "number"
