"""The command line of the receptive fields."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...command import failures_in_one_line
from ...files import write_json, write_text
from .experiment import Measured, Plan, run
from .flags import COMMAND, EXAMPLE_NETWORK, parse_arguments
from .plot import plot_exponents, plot_fields, plot_kernels, plot_units
from .report import results, to_csv, to_markdown


@failures_in_one_line(COMMAND)
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the tables, and write tables and pictures.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or a file cannot be read or written; the message says which.
    """
    options = parse_arguments(arguments)
    plan = _plan(options)
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


def _plan(options: argparse.Namespace) -> Plan:
    is_example = not options.networks and options.offsets is None
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


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
