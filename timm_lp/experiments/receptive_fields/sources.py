"""Where fields come from: a user's offsets, a network's first convolution, or draws from a known MPND."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from .density import Array, sample_mpnd
from .fields import Field
from .problem import check_spread, coarse_steps, pose
from .synapses import Counts, FirstConvolution, functional_synapses, tap_offsets

SYNTHETIC_P = (1, 2, 4, 16)
_SYNTHETIC_SYNAPSES = 1000
_FEWEST = 10  # synapses of a neuron


def synthetic_fields(units: int, seed: int) -> list[Field]:
    """Return groups of as many fields each, drawn from an MPND whose exponent is known."""
    return [
        Field(
            synthetic_group(p),
            f"draw {unit + 1}",
            sample_mpnd(_SYNTHETIC_SYNAPSES, np.eye(2), p, seed=seed + 1000 * p + unit),
        )
        for p in SYNTHETIC_P
        for unit in range(units)
    ]


def synthetic_group(p: int) -> str:
    """Return the name of a group that is drawn."""
    return f"synthetic, p = {p}"


def read_fields(path: Path, tap: tuple[float, float] | None = None) -> list[Field]:
    """Return the fields of a CSV file with the columns `group,x,y`, and `neuron` where a group has several.

    Args:
        path: The file; its first line names the columns.
        tap: Steps of the grid on which x and y lie, unit of the offsets; None where they lie anywhere.

    Raises:
        ValueError: If it lacks a column, a number cannot be read, or a neuron has less than ten synapses, all of them
            in a line, or on a grid that is not that of `tap`.
        OSError: If it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"`--offsets` must be a CSV file in UTF-8, got {path}: {error}. Save it as such.") from error
    missing = [column for column in ("group", "x", "y") if column not in columns]
    if missing:
        raise ValueError(
            f"`--offsets` must have the columns group, x and y, got {path} without {', '.join(missing)}. "
            "Name them in its first line."
        )
    units: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line, row in enumerate(rows, start=2):
        unit = (row["group"] or "").strip(), (row.get("neuron") or "").strip()
        units.setdefault(unit, []).append(_offset(row, line, path))
    if not units:
        raise ValueError(f"`--offsets` must hold offsets, got {path} without any. Give a line for each synapse.")
    fields = [Field(group, neuron or group, np.array(offsets), None, tap) for (group, neuron), offsets in units.items()]
    for field in fields:
        _check(field, path)
    return fields


def _offset(row: dict[str, str], line: int, path: Path) -> tuple[float, float]:
    try:
        offset = float(row["x"]), float(row["y"])
    except (TypeError, ValueError):
        offset = (float("nan"),) * 2
    if not np.isfinite(offset).all():
        raise ValueError(
            f"`--offsets` must have finite numbers as x and y, got {row['x']!r} and {row['y']!r} in line {line} of "
            f"{path}. Leave out what was not measured."
        )
    return offset


def _check(field: Field, path: Path) -> None:
    name = f"{field.group}, {field.unit}" if field.unit != field.group else field.group
    if len(field.offsets) < _FEWEST:
        raise ValueError(
            f"`--offsets` must hold at least {_FEWEST} synapses for each neuron, got {len(field.offsets)} for {name!r} "
            f"in {path}. Leave it out."
        )
    shares = np.full(len(field.offsets), 1 / len(field.offsets))
    steps = coarse_steps(field.offsets, shares) if field.tap is None else None
    if steps and all(steps):
        given = " ".join(f"{step:.6g}" for step in dict.fromkeys(steps))
        raise ValueError(
            f"`--offsets` must come with `--tap` where they lie on a grid, got those of {name!r} in {path}. "
            f"`--tap {given}` says how wide a step of theirs is."
        )
    try:
        check_spread(field.offsets, shares, "full")
        pose(field.offsets, "isotropic", weights=None, tap=field.tap, mean="sample")
    except ValueError as error:
        raise ValueError(f"`--offsets` must be offsets that can be fitted, got {name!r} in {path}: {error}") from error


@dataclass(frozen=True)
class NetworkSource:
    """A network and what it is shown.

    Attributes:
        group: Name of the group.
        network: Name of the network with its weights, for the picture of its kernels.
        shown: Name of what it is shown.
        convolution: Its first convolution.
        inputs: What it is shown, by name, each of shape `(I, H, W)`.
    """

    group: str
    network: str
    shown: str
    convolution: FirstConvolution
    inputs: list[tuple[str, Tensor]]

    def synapses(self) -> Iterator[tuple[str, Counts]]:
        """Yield the functional synapses of each input, shape `(O, I, Kh, Kw)`, with its name."""
        for name, image in self.inputs:
            yield name, functional_synapses(self.convolution, image)

    def fields(self, synapses: dict[str, Counts], unit: str) -> list[Field]:
        """Return the fields: of each image over all neurons (section 2), or of each neuron over all images.

        Those without synapses on at least two rows and two columns have no shape, and are left out.

        Args:
            synapses: The functional synapses by input.
            unit: `"image"` or `"neuron"`.
        """
        if unit == "image":
            maps = {name: counts.sum((0, 1)) for name, counts in synapses.items()}
        else:
            total = sum(counts.sum(1) for counts in synapses.values())
            maps = {f"neuron {place + 1}": neuron for place, neuron in enumerate(np.asarray(total))}
        offsets = tap_offsets(self.convolution)
        height, width = self.convolution.dilation
        return [
            Field(self.group, name, offsets, counts.ravel().astype(np.float64), (float(width), float(height)))
            for name, counts in maps.items()
            if _has_shape(counts)
        ]


def _has_shape(counts: Array | Counts) -> bool:
    return all((counts.sum(axis) > 0).sum() > 1 for axis in (0, 1))
