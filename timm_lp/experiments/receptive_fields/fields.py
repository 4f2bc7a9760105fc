"""Receptive fields as groups of offsets, from a user's file or a known MPND, and the fit of each."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .density import Array, sample_mpnd
from .fit import fit_mpnd, gaussian_test
from .flags import Form
from .likelihood import P_MAX
from .problem import check_spread, coarse_steps, deviations, pose

SYNTHETIC_P = (1, 2, 4, 16)
_SYNTHETIC_SYNAPSES = 1000
_FEWEST = 10  # synapses of a neuron


@dataclass(frozen=True)
class Field:
    """The synapses of one neuron, or of one image.

    Attributes:
        group: Name of its group; groups are compared.
        unit: Name of the neuron or image.
        offsets: From the neuron to its synapses, shape `(n, 2)`, x and y.
        counts: How often each was seen, shape `(n,)`, where the offsets are taps of a kernel; None for once.
        tap: Distance of the taps along x and y, unit of the offsets; None where they lie anywhere.
    """

    group: str
    unit: str
    offsets: Array
    counts: Array | None = None
    tap: tuple[float, float] | None = None

    def standardized(self) -> "Field":
        """Return the field with mean 0 and variance 1 along each axis (section 2)."""
        counts = np.ones(len(self.offsets)) if self.counts is None else self.counts
        mean = np.average(self.offsets, axis=0, weights=counts)
        deviation = deviations(self.offsets - mean, counts / counts.sum())
        tap = None if self.tap is None else (self.tap[0] / deviation[0], self.tap[1] / deviation[1])
        return Field(self.group, self.unit, (self.offsets - mean) / deviation, self.counts, tap)


@dataclass(frozen=True)
class FieldFit:
    """The MPND of one field, standardized.

    Attributes:
        group: As in `Field`.
        unit: As in `Field`.
        num_synapses: Number of synapses.
        p: Exponent.
        is_flat: Whether the field only bounds p from below.
        C: Inverse width, shape `(2, 2)`, 1 / standard deviation.
        low: Lower end of the interval of p; None where the synapses are not independent, as those of a network.
        high: Upper end, inf where there is none.
        interval_kind: Method of the interval.
        gaussian_p_value: Of the test of p = 2, None where the synapses are not independent.
    """

    group: str
    unit: str
    num_synapses: int
    p: float
    is_flat: bool
    C: Array
    low: float | None = None
    high: float | None = None
    interval_kind: str | None = None
    gaussian_p_value: float | None = None

    @property
    def inverse_p(self) -> float:
        """1/p, 0 where p is at the upper bound of the search."""
        return 0.0 if self.p >= P_MAX * (1 - 1e-6) else 1 / self.p

    @property
    def sigma(self) -> float:
        """Geometric mean of the widths, standard deviations."""
        return float(abs(np.linalg.det(self.C)) ** -0.5)

    def record(self) -> dict[str, Any]:
        """Return the entry in `results.json`; an end without bound is None."""
        has_end = self.high is not None and math.isfinite(self.high)
        return {
            "group": self.group,
            "unit": self.unit,
            "num_synapses": self.num_synapses,
            "p": self.p,
            "is_flat": self.is_flat,
            "p_low": self.low,
            "p_high": self.high if has_end else None,
            "interval": self.interval_kind,
            "gaussian_p_value": self.gaussian_p_value,
            "sigma": self.sigma,
            "C": self.C.tolist(),
        }


def fit_field(field: Field, form: Form, seed: int) -> FieldFit:
    """Fit the MPND to a field after standardizing it.

    The counts of a network's field have no interval and no test: neighbouring patches share pixels, and millions of
    such counts are not millions of observations. The spread over images or neurons shows how sure they are.

    Args:
        field: The field.
        form: Form of `C`, as in `fit_mpnd`.
        seed: Seed of intervals and tests.

    Raises:
        ValueError: If the field's synapses do not spread along both axes.
    """
    standard = field.standardized()
    is_independent = field.counts is None
    fit = fit_mpnd(
        standard.offsets,
        form,
        weights=field.counts,
        tap=standard.tap,
        interval="auto" if is_independent else None,
        seed=seed,
    )
    test = gaussian_test(standard.offsets, form, tap=standard.tap, seed=seed) if is_independent else None
    return FieldFit(
        group=field.group,
        unit=field.unit,
        num_synapses=round(fit.num_offsets),
        p=fit.p,
        is_flat=fit.is_flat,
        C=fit.C,
        low=None if fit.interval is None else fit.interval.low,
        high=None if fit.interval is None else fit.interval.high,
        interval_kind=None if fit.interval is None else fit.interval.kind,
        gaussian_p_value=None if test is None else test.p_value,
    )


def synthetic_fields(units: int, seed: int) -> list[Field]:
    """Return groups of as many fields each, samples of an MPND whose exponent is known."""
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
    """Return the name of a group of samples."""
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
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
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
    for line, row in rows:
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
