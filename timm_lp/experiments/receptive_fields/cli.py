"""The command line of the receptive fields."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...command import failures_in_one_line
from ...reporting import write_page
from .experiment import Measured, Plan, run
from .flags import COMMAND, EXAMPLE_NETWORK, WEIGHTS, FieldsSettings
from .plot import plot_exponents, plot_fields, plot_kernels, plot_units
from .report import results, to_csv, to_markdown


@failures_in_one_line(COMMAND.program)
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the tables, and write tables and pictures.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or a file cannot be read or written; the message says which.
    """
    options = COMMAND.parse(arguments)
    plan = _plan(options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    measured = run(plan)
    text = to_markdown(measured.fits, synthetic=plan.synthetic)
    settings = {name: _plain(value) for name, value in vars(plan).items()}
    pictures = {picture.name: picture for picture in _pictures(measured, synthetic=plan.synthetic)}
    shown = [f"![{picture.title}]({name})" for name, picture in pictures.items()]
    page = write_page(
        options.output_dir,
        "report",
        "\n\n".join(["# Receptive fields", text, *shown]),
        tables={"fits.csv": to_csv(measured.fits, synthetic=plan.synthetic)},
        data={"results.json": results(measured.fits, settings, synthetic=plan.synthetic)},
        pictures={name: picture.draw for name, picture in pictures.items()},
    )
    print(f"{text}\n\n{page}")


class _Picture(NamedTuple):
    """A picture: its file's name, what it shows, and what draws it into a file."""

    name: str
    title: str
    draw: Callable[[Path], None]


def _pictures(measured: Measured, *, synthetic: bool) -> Iterator[_Picture]:
    """Yield the pictures of a run."""
    fields, fits = measured.fields, measured.fits
    yield _Picture(
        "fields.png",
        "Mean field of each group, its fit, and profiles of both",
        partial(plot_fields, fields, fits, synthetic=synthetic),
    )
    yield _Picture(
        "units.png", "Fields of single neurons or images", partial(plot_units, fields, fits, synthetic=synthetic)
    )
    draw = partial(plot_exponents, fits, synthetic=synthetic, known=measured.known)
    yield _Picture("p.png", "Exponent of each field", draw)
    for number, panel in enumerate(measured.kernels, start=1):
        name = f"kernels-{number}-{re.sub(r'[^A-Za-z0-9.]+', '-', panel.title)}.png"
        title = f"Kernels of {panel.title}, and their functional synapses"
        yield _Picture(name, title, partial(plot_kernels, panel, synthetic=synthetic))


def _plan(options: FieldsSettings) -> Plan:
    return Plan(
        networks=(EXAMPLE_NETWORK,) if options.is_example else tuple(dict.fromkeys(options.networks)),
        weights=("untrained",) if options.is_example else tuple(dict.fromkeys(options.weights or WEIGHTS)),
        inputs=tuple(dict.fromkeys(options.inputs)),
        images=options.images,
        num_images=options.num_images,
        offsets=options.offsets,
        tap=(options.tap[0], options.tap[-1]) if options.tap else None,
        synthetic=options.is_example,
        unit=options.unit,
        form=options.form,
        seed=options.seed,
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
