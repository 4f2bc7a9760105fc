"""The command line of the receptive fields."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...command import CommandParser, failures_in_one_line, positive
from ...files import write_json, write_text
from .experiment import EXAMPLE_NETWORK, UNITS, Measured, Plan, run
from .likelihood import FORMS
from .plot import plot_exponents, plot_fields, plot_kernels, plot_units
from .report import results, to_csv, to_markdown

_COMMAND = "python -m timm_lp.experiments.receptive_fields"


@failures_in_one_line(_COMMAND)
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the tables, and write tables and pictures.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or a file cannot be read or written; the message says which.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    plan = _plan(parser, options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    measured = run(plan)
    text = to_markdown(measured.fits, synthetic=plan.synthetic)
    settings = {name: _plain(value) for name, value in vars(plan).items()}
    write_json(options.output_dir / "results.json", results(measured.fits, settings, synthetic=plan.synthetic))
    write_text(options.output_dir / "fits.csv", to_csv(measured.fits, synthetic=plan.synthetic))
    pictures = _draw(measured, options.output_dir, synthetic=plan.synthetic)
    write_text(options.output_dir / "report.md", "\n\n".join(["# Receptive fields", text, *pictures]) + "\n")
    print(f"{text}\n\nresults.json, report.md, fits.csv and pictures: {options.output_dir}")


def _draw(measured: Measured, folder: Path, *, synthetic: bool) -> list[str]:
    """Draw the pictures, and return the Markdown that shows them."""
    fields, fits = measured.fields, measured.fits
    plot_fields(fields, fits, folder / "fields.png", synthetic=synthetic)
    plot_units(fields, fits, folder / "units.png", synthetic=synthetic)
    plot_exponents(fits, folder / "p.png", synthetic=synthetic, known=measured.known)
    shown = [
        "![Mean field of each group, its fit, and profiles of both](fields.png)",
        "![Fields of single neurons or images](units.png)",
        "![Exponent of each field](p.png)",
    ]
    for place, panel in enumerate(measured.kernels, start=1):
        name = f"kernels-{place}-{re.sub(r'[^A-Za-z0-9.]+', '-', panel.title)}.png"
        plot_kernels(panel, folder / name, synthetic=synthetic)
        shown.append(f"![Kernels of {panel.title}, and their functional synapses]({name})")
    return shown


def _plan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Plan:
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
    return Plan(
        networks=(EXAMPLE_NETWORK,) if is_example else tuple(dict.fromkeys(options.networks)),
        weights=("untrained",) if is_example else tuple(dict.fromkeys(options.weights or ("trained", "untrained"))),
        inputs=tuple(dict.fromkeys(options.inputs)),
        images=options.images,
        num_images=options.num_images,
        offsets=options.offsets,
        tap=None if options.tap is None else (options.tap[0], options.tap[-1]),
        synthetic=is_example,
        unit=options.unit,
        form=options.form,
        seed=options.seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=_COMMAND,
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


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
