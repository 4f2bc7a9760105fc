"""The command: measure receptive fields, fit each, print the tables, and write tables and pictures."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from ...command import failures_in_one_line, first_line
from ...reporting import write_page
from ...trials.networks import Subject, find_networks
from .fields import (
    SYNTHETIC_P,
    Field,
    FieldFit,
    fit_field,
    read_fields,
    synthetic_fields,
    synthetic_group,
)
from .flags import COMMAND, EXAMPLE_NETWORK, WEIGHTS, FieldsSettings
from .inputs import InputFormat, embedded_images, find_images, input_format, read_images
from .plot import KernelPanel, plot_exponents, plot_fields, plot_kernels, plot_units
from .report import results, to_csv, to_markdown
from .synapses import NetworkSource, first_convolution


@dataclass(frozen=True)
class Measured:
    """The fields of a run and their fits.

    Attributes:
        fields: The fields.
        fits: The fit of each.
        kernels: The picture of each network's kernels.
        true_p: Exponents of the synthetic groups, by name.
    """

    fields: list[Field]
    fits: list[FieldFit]
    kernels: list[KernelPanel] = field(default_factory=list)
    true_p: dict[str, float] = field(default_factory=dict)


@failures_in_one_line(COMMAND.program)
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the fields that the command line names, print the tables, and write tables and pictures.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or a file cannot be read or written; the message says which.
    """
    options = COMMAND.parse(arguments)
    synthetic = options.is_example
    fields, sources = _read(options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    measured = _measure(options, fields, sources)
    text = to_markdown(measured.fits, synthetic=synthetic)
    pictures = {picture.name: picture for picture in _pictures(measured, synthetic=synthetic)}
    shown = [f"![{picture.title}]({name})" for name, picture in pictures.items()]
    page = write_page(
        options.output_dir,
        "report",
        "\n\n".join(["# Receptive fields", text, *shown]),
        tables={"fits.csv": to_csv(measured.fits, synthetic=synthetic)},
        data={"results.json": results(measured.fits, _described(options), synthetic=synthetic)},
        pictures={name: picture.plot for name, picture in pictures.items()},
    )
    print(f"{text}\n\n{page}")


def _described(options: FieldsSettings) -> dict[str, Any]:
    """Return the settings as `results.json` keeps them."""
    return {
        "networks": _networks(options),
        "weights": _weights(options),
        "inputs": _unique(options.inputs),
        "images": None if options.images is None else str(options.images),
        "num_images": options.num_images,
        "offsets": None if options.offsets is None else str(options.offsets),
        "tap": _tap(options),
        "synthetic": options.is_example,
        "unit": options.unit,
        "form": options.form,
        "seed": options.seed,
    }


def _networks(options: FieldsSettings) -> list[str]:
    return [EXAMPLE_NETWORK] if options.is_example else _unique(options.networks)


def _weights(options: FieldsSettings) -> list[str]:
    return ["untrained"] if options.is_example else _unique(options.weights or WEIGHTS)


def _tap(options: FieldsSettings) -> tuple[float, float] | None:
    """Return the steps of the grid along x and y."""
    return (options.tap[0], options.tap[-1]) if options.tap else None


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


class _Picture(NamedTuple):
    """A picture: its file's name, its title, and the function that plots it into a file."""

    name: str
    title: str
    plot: Callable[[Path], None]


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
    plot = partial(plot_exponents, fits, synthetic=synthetic, true_p=measured.true_p)
    yield _Picture("p.png", "Exponent of each field", plot)
    for number, panel in enumerate(measured.kernels, start=1):
        name = f"kernels-{number}-{re.sub(r'[^A-Za-z0-9.]+', '-', panel.title)}.png"
        title = f"Kernels of {panel.title}, and their functional synapses"
        yield _Picture(name, title, partial(plot_kernels, panel, synthetic=synthetic))


def run(options: FieldsSettings) -> Measured:
    """Collect the fields and fit them; files and networks are read before anything is computed.

    Raises:
        ValueError: If a file, folder or network is not what it must be, or no field is left to fit.
        OSError: If one cannot be read.
    """
    return _measure(options, *_read(options))


def _read(options: FieldsSettings) -> tuple[list[Field], list[NetworkSource]]:
    fields = [] if options.offsets is None else read_fields(options.offsets, _tap(options))
    return fields, _network_sources(options)


def _measure(options: FieldsSettings, fields: list[Field], sources: list[NetworkSource]) -> Measured:
    if options.is_example:
        fields = fields + synthetic_fields(options.num_images, options.seed)
    panels: dict[str, KernelPanel] = {}
    with tqdm(total=sum(len(source.inputs) for source in sources), desc="synapses", unit="input") as progress:
        for source in sources:
            counts = {}
            for name, synapses in source.synapses():
                counts[name] = synapses
                progress.update()
            fields = fields + _fields_of(source, counts, options.unit)
            panel = panels.setdefault(
                source.network, KernelPanel(source.network, source.convolution.kernel.double().numpy(), {})
            )
            panel.counts[source.shown] = np.sum(list(counts.values()), axis=0)
    fits = [fit_field(each, options.form, options.seed) for each in tqdm(fields, desc="fits", unit="field")]
    true_p = {synthetic_group(p): float(p) for p in SYNTHETIC_P} if options.is_example else {}
    return Measured(fields, fits, list(panels.values()), true_p)


def network_titles(names: Sequence[str]) -> dict[str, str]:
    """Return what to call each network: a folder without those that it lies in, unless two are called the same."""
    short = {name: Path(name).resolve().name if Path(name).is_dir() else name for name in names}
    return {name: title if list(short.values()).count(title) == 1 else name for name, title in short.items()}


def _fields_of(source: NetworkSource, counts: dict[str, np.ndarray], unit: str) -> list[Field]:
    fields = source.fields(counts, unit)
    if not fields:
        raise ValueError(
            f"`NETWORK` must have functional synapses, got none for {source.group}. Show it other images, or noise."
        )
    return fields


def _network_sources(options: FieldsSettings) -> list[NetworkSource]:
    names = _networks(options)
    if not names:
        return []
    subjects = find_networks(names).networks
    images = _images(options) if "images" in options.inputs else []
    titles = network_titles([subject.name for subject in subjects])
    sources = []
    for subject in subjects:
        for weights in _weights(options):
            title = f"{titles[subject.name]}, {weights}"
            network = _load(subject, weights, options.seed)
            taken = input_format(network, subject.name)
            convolution = first_convolution(network, taken.size, subject.name)
            for shown in _unique(options.inputs):
                inputs = _as_inputs(images, taken) if shown == "images" else _noise(taken, options)
                sources.append(NetworkSource(f"{title}, {shown}", title, shown, convolution, inputs))
    return sources


def _images(options: FieldsSettings) -> list[tuple[str, Image.Image]]:
    if options.images is None:
        crops = embedded_images(options.num_images, options.seed)
        return [(f"crop {number}", crop) for number, crop in enumerate(crops, start=1)]
    paths = find_images(options.images, options.num_images)
    return list(zip((path.name for path in paths), read_images(paths), strict=True))


def _as_inputs(images: list[tuple[str, Image.Image]], taken: InputFormat) -> list[tuple[str, Tensor]]:
    names, pictures = zip(*images, strict=True)
    return list(zip(names, taken.to_inputs(pictures), strict=True))


def _noise(taken: InputFormat, options: FieldsSettings) -> list[tuple[str, Tensor]]:
    inputs = taken.noise(options.num_images, options.seed)
    return [(f"noise {number}", x) for number, x in enumerate(inputs, start=1)]


def _load(subject: Subject, weights: str, seed: int) -> nn.Module:
    """Return a network in evaluation mode.

    Raises:
        ValueError: If it cannot be built, or its trained weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "untrained":
            return subject.load(pretrained=False).eval()
        try:
            return subject.load().eval()
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"`NETWORK` must have trained weights that can be had, got {subject.name}: "
                f"{first_line(error).rstrip('.')}. `--weights untrained` needs none."
            ) from error
