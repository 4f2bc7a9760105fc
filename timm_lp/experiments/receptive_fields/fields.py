"""Receptive fields as groups of offsets, and the fit of each."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .density import Array
from .fit import fit_mpnd
from .flags import Form
from .gaussian import gaussian_test
from .problem import deviations
from .search import P_MAX


@dataclass(frozen=True)
class Field:
    """The synapses of one neuron, or of one image.

    Attributes:
        group: Name of what is compared with other groups.
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
        interval_kind: How the interval was found.
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
        """Return what is written to `results.json`; an end without bound is None."""
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

    The counts of a network's field have no interval and no test of their own: neighbouring patches share pixels, and
    millions of such counts are not millions of observations. The spread over images or neurons says how sure they are.

    Args:
        field: The field.
        form: Form of `C`, as in `fit_mpnd`.
        seed: What settles the draws of intervals and tests.

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
