"""Fit the MPND to offsets by maximum likelihood (Eq. 1; the paper's fit is the isotropic one, A.1 and A.2)."""

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from .density import Array
from .intervals import Interval, interval_of_p
from .problem import pose
from .search import P_MAX, maximise_likelihood


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
        tap: Where offsets lie on a lattice (counts of a kernel's synapses, pixels, rounded micrometres): its steps'
            size, a number or one for each axis, unit of the offsets. The density is integrated over the cells then; at
            their centres alone the likelihood of a flat field, or of a peak, grows without bound. Steps above 0.05
            standard deviations are refused without it.
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
        ValueError: If an argument is not as said, or the offsets span no volume, or lie on a lattice whose `tap` is
            not given; the message says what to do.
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
