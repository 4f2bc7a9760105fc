"""Check offsets, and put them into coordinates in which they have unit variance."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .density import Array
from .flags import FORMS
from .likelihood import Problem, Sample

_COARSE = 0.05  # standard deviations: steps of a lattice below it change ln p by no more than 0.005
_REGULAR = 0.02  # of a step: how far offsets may be from their lattice
_ROUNDING = 64 * np.finfo(np.float64).eps  # of the largest coordinate: what varies by less is constant
_FLAT = 1e-6  # of the largest standard deviation: what is thinner in a direction spans no volume
_LARGEST = 1e302  # of a standard deviation: beyond it, and below its inverse, `C` leaves float64


def pose(offsets: ArrayLike, form: str, *, weights: ArrayLike | None, tap: ArrayLike | None, mean: Any) -> Problem:
    """Return the problem that the arguments of `fit_mpnd` pose, after checking them.

    Raises:
        ValueError: As `fit_mpnd`.
    """
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {', '.join(FORMS)}, got {form!r}. The paper's is isotropic.")
    points = _checked_offsets(offsets)
    counts = np.ones(len(points)) if weights is None else _checked_weights(weights, len(points))
    points, counts = points[counts > 0], counts[counts > 0]
    shares = counts / counts.sum()
    taps = None if tap is None else _checked_tap(tap, points, form)
    centre = _centre(mean, points, shares)
    check_spread(points, shares, form)
    steps = None if taps is not None else coarse_steps(points, shares)
    if steps is not None:
        widths = ", ".join("none" if step is None else f"{step:.6g}" for step in steps)
        advice = "`form` isotropic or diagonal and `tap`" if form == "full" else "`tap`"
        raise ValueError(
            f"`tap` must be given where offsets lie on a grid, got steps of {widths} along the axes, more than "
            f"{_COARSE:g} standard deviations. Give {advice}, the steps' size, or offsets that were not rounded."
        )
    whitening = _whitening(points - centre, shares, form)
    return Problem(
        Sample((points - centre) @ whitening.T, shares, None if taps is None else taps * np.diag(whitening)),
        count=float(counts.sum()),
        whitening=whitening,
        centre=centre,
        form=form,
        mean_kind=mean if isinstance(mean, str) else "given",
    )


def resampled(problem: Problem, counts: NDArray[np.integer]) -> Problem:
    """Return the problem of the same offsets, each taken `counts` times, shape `(n,)`.

    Centre and whitening are computed anew: an offset far from all others moves and scales those of its resample.
    """
    points, shares = problem.sample.points[counts > 0], counts[counts > 0] / counts.sum()
    shift = shares @ points if problem.mean_kind == "sample" else np.zeros(problem.dimensions)
    whitening = _whitening(points - shift, shares, problem.form)
    tap = None if problem.sample.tap is None else problem.sample.tap * np.diag(whitening)
    return replace(
        problem,
        sample=Sample((points - shift) @ whitening.T, shares, tap),
        count=float(counts.sum()),
        whitening=whitening @ problem.whitening,
        centre=problem.centre + np.linalg.solve(problem.whitening, shift),
    )


def deviations(points: Array, shares: Array) -> Array:
    """Return the root mean square of offsets along each axis, shape `(d,)`, whatever their unit."""
    reach = np.abs(points).max(axis=0)
    scaled = points / np.where(reach > 0, reach, 1.0)
    return reach * np.sqrt(shares @ scaled**2)


def _checked_offsets(offsets: ArrayLike) -> Array:
    points = np.asarray(offsets, dtype=np.float64)
    if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
        finite = "" if np.isfinite(points).all() else ", not all finite"
        raise ValueError(
            f"`offsets` must be finite numbers of shape (n, d), got shape {points.shape}{finite}. "
            "Leave out rows that were not measured."
        )
    return points


def _checked_weights(weights: ArrayLike, n: int) -> Array:
    counts = np.asarray(weights, dtype=np.float64)
    if counts.shape != (n,) or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"`weights` must be finite numbers of shape ({n},), none below 0 and not all 0, got shape {counts.shape}"
            f"{f' from {counts.min()} to {counts.max()}' if counts.size else ''}. Give how often each offset was seen."
        )
    return counts


def _checked_tap(tap: ArrayLike, points: Array, form: str) -> Array:
    if form == "full":
        raise ValueError(
            "`form` must be isotropic or diagonal where `tap` is given, got 'full'. A turned density has no closed "
            "integral over a tap."
        )
    given = np.asarray(tap, dtype=np.float64)
    if given.shape not in {(), (points.shape[1],)} or not np.isfinite(given).all() or (given <= 0).any():
        raise ValueError(
            f"`tap` must be a number above 0 or {points.shape[1]} of them, got {given.tolist()}. "
            "Give the distance between two neighbouring taps."
        )
    taps = np.broadcast_to(given, points.shape[1])
    steps = (points - points[0]) / taps
    if (np.abs(steps - np.round(steps)) > _REGULAR).any():
        raise ValueError(
            f"`offsets` must lie whole taps apart where `tap` is given, got others than multiples of {given.tolist()}. "
            "Leave `tap` out for offsets that lie anywhere."
        )
    return taps


def _centre(mean: Any, points: Array, shares: Array) -> Array:
    if isinstance(mean, str):
        if mean not in ("sample", "fit"):
            raise ValueError(f"`mean` must be sample, fit or the centre itself, got {mean!r}. Use sample.")
        return shares @ points
    centre = np.asarray(mean, dtype=np.float64)
    if centre.shape != points.shape[1:] or not np.isfinite(centre).all():
        raise ValueError(
            f"`mean` must be sample, fit or {points.shape[1]} finite numbers, got {centre.tolist()}. "
            "Use sample for the offsets' own."
        )
    return centre


def check_spread(points: Array, shares: Array, form: str) -> None:
    """Refuse offsets that do not vary along an axis, or with a full `C` in some direction, but for rounding."""
    centred = points - shares @ points
    deviation = deviations(centred, shares)
    largest = np.abs(points).max(axis=0)
    thin = deviation <= _ROUNDING * largest
    if thin.any():
        raise ValueError(
            f"`offsets` must spread along every axis, got a standard deviation of {deviation.min():.3g} along axis "
            f"{int(thin.argmax())} around {points[0, int(thin.argmax())]:.6g}. Leave out an axis that does not vary."
        )
    if deviation.max() > _LARGEST or deviation.min() < 1 / _LARGEST:
        raise ValueError(
            f"`offsets` must have standard deviations from {1 / _LARGEST:g} to {_LARGEST:g}, got {deviation.tolist()}. "
            "Give them in another unit."
        )
    if form == "full":
        standard = centred / deviation
        thickness = np.sqrt(max(0.0, np.linalg.eigvalsh((standard * shares[:, None]).T @ standard)[0]))
        if thickness <= max(_FLAT, float((_ROUNDING * largest / deviation).max())):
            raise ValueError(
                "`offsets` must spread along every direction for a full `C`, got all in a line or plane up to "
                f"{thickness:.1g} standard deviations. Leave out an axis that another one gives."
            )


def coarse_steps(points: Array, shares: Array) -> list[float | None] | None:
    """Return the steps of offsets along the axes where one is so coarse that it would change p, else None.

    At the points of such a lattice the density is not that of the cells around them: a peak at a point has no bound.
    """
    steps = [_lattice_step(axis) for axis in points.T]
    deviation = deviations(points - shares @ points, shares)
    is_coarse = any(step is not None and step > _COARSE * spread for step, spread in zip(steps, deviation, strict=True))
    return steps if is_coarse else None


def _lattice_step(values: Array) -> float | None:
    """Return the step of the lattice on which values lie up to rounding, None where they lie on none; shape `(n,)`."""
    levels = np.unique(values)
    gaps = np.diff(levels)
    gaps = gaps[gaps > max(1e-9 * (levels[-1] - levels[0]), _ROUNDING * np.abs(levels).max())]
    if not len(gaps):
        return None
    whole = np.round(gaps / gaps.min())
    step = gaps.sum() / whole.sum()
    off = np.abs(np.cumsum(gaps) - step * np.cumsum(whole)).max()
    return float(step) if off <= _REGULAR * step else None


def _whitening(points: Array, shares: Array, form: str) -> Array:
    """Return the matrix of the form that gives the offsets unit variance, so that one start fits all units."""
    deviation = deviations(points, shares)
    if not deviation.any():  # one offset, taken each time
        return np.eye(len(deviation))
    if form == "isotropic":
        largest = deviation.max()
        return np.eye(len(deviation)) / (largest * np.sqrt(np.mean((deviation / largest) ** 2)))
    deviation = np.where(deviation > 0, deviation, deviation.max())
    if form == "diagonal":
        return np.diag(1 / deviation)
    standard = points / deviation
    values, vectors = np.linalg.eigh((standard * shares[:, None]).T @ standard)
    return vectors @ np.diag(np.maximum(values, _FLAT**2) ** -0.5) @ vectors.T / deviation
