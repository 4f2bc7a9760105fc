"""Fit the MPND to offsets by maximum likelihood (Eq. 1; the paper fits the isotropic form, A.1 and A.2); test p = 2."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from .density import Array
from .intervals import Interval, interval_of_p
from .likelihood import P_MAX, Problem, gaussian_starts, maximise_at, maximise_likelihood
from .problem import pose

_REGULAR_COUNT = 100  # offsets from which the statistic of the test is chi-squared, unless C is full


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
        interval: The interval of p; None where it was not asked for.
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
            elsewhere, and the bootstrap for a full `C`, whose interval holds p = 2 a little less often than it says,
            because the turn of `C` is open there; None for no interval.
        level: Probability of the interval.
        num_resamples: Fits of the bootstrap.
        seed: Seed of the bootstrap's resamples.

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
    of_p = None
    if interval is not None:
        of_p = interval_of_p(
            problem, parameters, nll, kind=interval, level=level, num_resamples=num_resamples, seed=seed
        )
    return MPNDFit(
        p=math.exp(parameters[0]),
        C=problem.C(parameters),
        mean=problem.mean(parameters),
        nll=problem.nll(nll),
        form=form,
        num_offsets=problem.count,
        interval=of_p,
    )


@dataclass(frozen=True)
class GaussianTest:
    """A likelihood-ratio test of p = 2.

    Attributes:
        statistic: Twice the logarithm of the ratio of the largest likelihoods, with p free and with p = 2.
        p_value: Probability of one as large or larger where p is 2.
        null: What the statistic was compared with: `"chi2"` or `"simulation"`.
    """

    statistic: float
    p_value: float
    null: str


def gaussian_test(
    offsets: ArrayLike,
    form: Literal["isotropic", "diagonal", "full"] = "diagonal",
    *,
    weights: ArrayLike | None = None,
    tap: ArrayLike | None = None,
    mean: Literal["sample", "fit"] | ArrayLike = "sample",
    null: Literal["auto", "chi2", "simulation"] = "auto",
    num_simulations: int = 199,
    seed: int = 0,
) -> GaussianTest:
    """Test p = 2 against any other p, the likelihood ratio of two fits.

    The form must be able to describe the offsets: unequal or correlated axes make an isotropic fit reject p = 2 too.
    With a full `C` the statistic is not chi-squared, as p = 2 leaves the turn of `C` open: a level of 5 % rejects about
    one normal sample in six. Its distribution depends on the number of offsets alone, and is simulated.

    Args:
        offsets: As in `fit_mpnd`.
        form: As in `fit_mpnd`.
        weights: As in `fit_mpnd`.
        tap: As in `fit_mpnd`.
        mean: As in `fit_mpnd`.
        null: What the statistic is compared with: `"chi2"` with one degree of freedom; `"simulation"`, the statistics
            of normal samples of the same size; `"auto"` for the simulation where `C` is full or there are less than 100
            offsets, chi-squared elsewhere and for counts on a lattice.
        num_simulations: Number of normal samples.
        seed: Seed of these samples.

    Raises:
        ValueError: As `fit_mpnd`; also if `null` is not one of these, or is a simulation where `tap` is given.
    """
    if null not in ("auto", "chi2", "simulation"):
        raise ValueError(f"`null` must be auto, chi2 or simulation, got {null!r}. Use auto.")
    if null == "simulation" and tap is not None:
        raise ValueError("`null` must be auto or chi2 where `tap` is given, got 'simulation'. Use auto.")
    if num_simulations < 19:
        raise ValueError(f"`num_simulations` must be at least 19, got {num_simulations}. Use 199.")
    problem = pose(offsets, form, weights=weights, tap=tap, mean=mean)
    statistic = _statistic(problem)
    is_regular = tap is not None or (form != "full" and problem.count >= _REGULAR_COUNT)
    if null == "chi2" or (null == "auto" and is_regular):
        return GaussianTest(statistic, float(chi2.sf(statistic, 1)), "chi2")
    size = max(1, round(problem.count))
    centre = mean if isinstance(mean, str) else "given"
    simulated = _normal_statistics(size, problem.dimensions, form, centre, num_simulations, seed)
    p_value = (1 + sum(value >= statistic for value in simulated)) / (1 + num_simulations)
    return GaussianTest(statistic, p_value, "simulation")


def _statistic(problem: Problem) -> float:
    held, free = maximise_at(problem, 2.0, gaussian_starts(problem)[0]), maximise_likelihood(problem)[1]
    return max(0.0, 2 * problem.count * (held - free))


@lru_cache(maxsize=64)
def _normal_statistics(n: int, d: int, form: str, mean: str, num_simulations: int, seed: int) -> tuple[float, ...]:
    """Return the statistics of standard normal samples; that of any other normal sample has the same distribution."""
    generator = np.random.default_rng(seed)
    centre = np.zeros(d) if mean == "given" else mean
    samples = (generator.standard_normal((n, d)) for _ in range(num_simulations))
    return tuple(_statistic(pose(sample, form, weights=None, tap=None, mean=centre)) for sample in samples)
