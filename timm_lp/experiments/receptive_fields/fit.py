"""Fit the MPND to offsets by maximum likelihood (Eq. 1; the paper's fit is the isotropic one, A.1 and A.2)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .density import Array
from .intervals import Interval, interval_of_p
from .likelihood import FORMS, Sample
from .search import P_MAX, Problem, maximise_likelihood

_LATTICE_TOLERANCE = 1e-6  # of a tap


@dataclass(frozen=True)
class MPNDFit:
    """An MPND fitted to offsets.

    Attributes:
        p: Exponent; `P_MIN` or `P_MAX` (0.3, 200) where the likelihood still grows there.
        C: Inverse width, shape `(d, d)`, 1 / unit of the offsets.
        mean: Centre, shape `(d,)`, unit of the offsets.
        nll: Mean negative log-likelihood of an offset, nats; of its tap, where the offsets lie on a lattice.
        form: `"isotropic"`, `"diagonal"` or `"full"`.
        num_offsets: Number of observations: the sum of the weights.
        interval: Where p may lie, and how that was found; None where it was not asked for.
    """

    p: float
    C: Array
    mean: Array
    nll: float
    form: str
    num_offsets: float
    interval: Interval | None = None

    @property
    def p_interval(self) -> tuple[float, float] | None:
        """Lower and upper end of the interval of p; inf or 0 where the offsets give no bound on that side."""
        return None if self.interval is None else (self.interval.low, self.interval.high)

    @property
    def is_flat(self) -> bool:
        """Whether the offsets fill a box so evenly that they only bound p from below."""
        return self.p >= P_MAX * (1 - 1e-6) or (self.interval is not None and math.isinf(self.interval.high))


def fit_mpnd(
    offsets: ArrayLike,
    form: Literal["isotropic", "diagonal", "full"] = "isotropic",
    *,
    weights: ArrayLike | None = None,
    tap: ArrayLike | None = None,
    mean: Literal["sample", "fit"] | ArrayLike = "sample",
    interval: Literal["auto", "information", "profile", "bootstrap"] | None = "auto",
    level: float = 0.95,
    num_resamples: int = 200,
    seed: int = 0,
) -> MPNDFit:
    """Fit the MPND to offsets by maximum likelihood.

    The likelihood of a full `C` does not depend on its turn at p = 2, and has several optima elsewhere: the search
    starts at four angles and keeps the best.

    Args:
        offsets: Offsets, shape `(n, d)`.
        form: Form of `C`: `"isotropic"` is `I / sigma`, the paper's; `"diagonal"` has a width for each axis; `"full"`
            any shape and turn.
        weights: How often each offset was observed, shape `(n,)`; 3 is the same as the offset three times. None for
            once.
        tap: Where offsets are the centres of a lattice's taps (counts of a kernel's synapses): the taps' size, a number
            or one for each axis, unit of the offsets. The density is integrated over the taps then; at the centres
            alone the likelihood of a flat field grows without bound.
        mean: The centre: `"sample"` for the offsets' mean, as in the paper; `"fit"` for the one of the largest
            likelihood; or the centre itself, shape `(d,)`.
        interval: How the interval of p is found: `"information"` from the likelihood's curvature, if it has a peak;
            `"profile"` where the likelihood falls by the chi-squared quantile; `"bootstrap"` from fits of resampled
            offsets; `"auto"` for the information where 1.5 <= p <= 8 and there are 1,000 offsets or more, the profile
            elsewhere, and the bootstrap for a full `C`, which holds p = 2 somewhat less often than it says, as the turn
            of `C` is open there; None for no interval.
        level: Probability of the interval.
        num_resamples: Fits of the bootstrap.
        seed: What settles the bootstrap's draws.

    Returns:
        The fit. Where the offsets only bound p, the interval's other end is inf or 0.

    Raises:
        ValueError: If an argument is not as said, or the offsets span no volume; the message says what to do.
    """
    if interval not in ("auto", "information", "profile", "bootstrap", None):
        raise ValueError(
            f"`interval` must be auto, information, profile, bootstrap or None, got {interval!r}. Use auto."
        )
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}. Use 0.95.")
    if num_resamples < 20:
        raise ValueError(f"`num_resamples` must be at least 20, got {num_resamples}. Use 200.")
    problem = pose(offsets, form, weights=weights, tap=tap, mean=mean)
    parameters, nll = maximise_likelihood(problem)
    found = None
    if interval is not None:
        found = interval_of_p(
            problem, parameters, nll, kind=interval, level=level, num_resamples=num_resamples, seed=seed
        )
    return MPNDFit(
        p=math.exp(parameters[0]),
        C=problem.C(parameters),
        mean=problem.mean(parameters),
        nll=problem.nll(nll),
        form=form,
        num_offsets=problem.count,
        interval=found,
    )


def pose(offsets: ArrayLike, form: str, *, weights: ArrayLike | None, tap: ArrayLike | None, mean: Any) -> Problem:
    """Return what is to be searched, from the arguments of `fit_mpnd`, after checking them.

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
    whitening = _whitening(points - centre, shares, form)
    whitened_tap = None if taps is None else taps * np.diag(whitening)
    return Problem(
        Sample((points - centre) @ whitening.T, shares, whitened_tap),
        count=float(counts.sum()),
        whitening=whitening,
        centre=centre,
        form=form,
        mean_kind=mean if isinstance(mean, str) else "known",
    )


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
    places = (points - points[0]) / taps
    if (np.abs(places - np.round(places)) > _LATTICE_TOLERANCE * np.maximum(1, np.abs(places))).any():
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


def _whitening(points: Array, shares: Array, form: str) -> Array:
    """Return the matrix of the form that gives the offsets unit variance, so that one start fits all units."""
    covariance = (points * shares[:, None]).T @ points
    spread = np.diag(covariance)
    values, vectors = np.linalg.eigh(covariance)
    if spread.min() <= 0 or (form == "full" and values[0] <= 1e-12 * values[-1]):
        raise ValueError(
            f"`offsets` must spread along every direction, got a covariance of {covariance.tolist()}. "
            "Leave out an axis that does not vary."
        )
    if form == "full":
        return vectors @ np.diag(values**-0.5) @ vectors.T
    return np.diag(np.full(len(spread), spread.mean()) ** -0.5 if form == "isotropic" else spread**-0.5)
