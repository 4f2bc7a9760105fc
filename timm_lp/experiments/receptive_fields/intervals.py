"""The interval of a fit's exponent."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from .density import Array
from .likelihood import P_MAX, P_MIN, Problem, maximise_at, maximise_likelihood, negative_log_likelihood
from .problem import resampled

# Where the observed information gives the right spread of ln p.
_REGULAR_P = (1.5, 8.0)
_REGULAR_COUNT = 1000
_BOX_LIKE_P = 4.0  # estimates from which p may be so large that the centre matters to it
_DIFFERENCE = 1e-4
_AT_BOUND = 1e-6


@dataclass(frozen=True)
class Interval:
    """An interval of p.

    Attributes:
        low: Lower end; 0 where the offsets give none.
        high: Upper end; inf where the offsets give none.
        kind: `"information"`, `"profile"` or `"bootstrap"`.
        level: Its probability.
    """

    low: float
    high: float
    kind: str
    level: float


def interval_of_p(
    problem: Problem, parameters: Array, nll: float, *, kind: str, level: float, num_resamples: int, seed: int
) -> Interval:
    """Return the interval of p around a fit.

    Args:
        problem: The offsets.
        parameters: The fit.
        nll: The mean negative log-likelihood there, nats.
        kind: `"information"`, `"profile"`, `"bootstrap"` or `"auto"`.
        level: Probability of the interval.
        num_resamples: Fits of the bootstrap.
        seed: Seed of the bootstrap's resamples.
    """
    if kind == "auto":
        kind = _right_kind(problem, math.exp(parameters[0]))
    if kind == "bootstrap":
        return _bootstrap(problem, level, num_resamples, seed)
    spread = _information_spread(problem, parameters) if kind == "information" else None
    if spread is None:
        return _profile(problem, parameters, nll, level)
    reach = math.exp(float(norm.ppf((1 + level) / 2)) * spread)
    p = math.exp(parameters[0])
    return Interval(p / reach, p * reach, "information", level)


def _right_kind(problem: Problem, p: float) -> str:
    if problem.form == "full":
        return "bootstrap"
    is_regular = _REGULAR_P[0] <= p <= _REGULAR_P[1] and problem.count >= _REGULAR_COUNT
    return "information" if is_regular else "profile"


def _information_spread(problem: Problem, parameters: Array) -> float | None:
    """Return the standard deviation of ln p from the observed information, None where the likelihood has no peak."""
    if _unbounded(math.exp(parameters[0])) in (0.0, math.inf):
        return None
    objective = negative_log_likelihood(problem.sample, problem.form, fits_mean=problem.fits_mean)
    steps = _DIFFERENCE * np.eye(len(parameters))
    rows = [(objective(parameters + step)[1] - objective(parameters - step)[1]) / (2 * _DIFFERENCE) for step in steps]
    information = (np.array(rows) + np.array(rows).T) / 2
    if np.linalg.eigvalsh(information)[0] <= 0:
        return None
    return math.sqrt(np.linalg.inv(information)[0, 0] / problem.count)


def _profile(problem: Problem, parameters: Array, nll: float, level: float) -> Interval:
    """Return the p whose likelihood, maximised over all other parameters, is close enough to the largest one.

    Few offsets of a box-like density leave its centre open: their mean blurs its edges and makes p too small, the
    centre of the largest likelihood makes p too large. The interval then spans those of both centres.
    """
    low, high = _profile_ends(problem, parameters, nll, level)
    if problem.mean_kind != "given" and parameters[0] > math.log(_BOX_LIKE_P):
        other = replace(problem, mean_kind="sample" if problem.fits_mean else "fit")
        ends = _profile_ends(other, *maximise_likelihood(other), level)
        low, high = min(low, ends[0]), max(high, ends[1])
    return Interval(low, high, "profile", level)


def _profile_ends(problem: Problem, parameters: Array, nll: float, level: float) -> tuple[float, float]:
    allowed = float(chi2.ppf(level, 1)) / (2 * problem.count)
    best = float(parameters[0])

    def excess(log_p: float) -> float:
        return maximise_at(problem, math.exp(log_p), parameters) - nll - allowed

    def end(bound: float, beyond: float) -> float:
        if abs(best - bound) < _AT_BOUND or excess(bound) < 0:
            return beyond
        return math.exp(brentq(excess, *sorted((best, bound)), xtol=1e-4))

    return end(math.log(P_MIN), 0.0), end(math.log(P_MAX), math.inf)


def _bootstrap(problem: Problem, level: float, num_resamples: int, seed: int) -> Interval:
    """Return the quantiles of p over fits of offsets that are resampled with replacement."""
    generator = np.random.default_rng(seed)
    size = max(1, round(problem.count))
    exponents = []
    for _ in range(num_resamples):
        parameters, _ = maximise_likelihood(resampled(problem, generator.multinomial(size, problem.sample.weights)))
        exponents.append(_unbounded(math.exp(parameters[0])))
    low = float(np.quantile(exponents, (1 - level) / 2, method="lower"))
    high = float(np.quantile(exponents, (1 + level) / 2, method="higher"))
    return Interval(low, high, "bootstrap", level)


def _unbounded(p: float) -> float:
    """Return 0 or inf for an exponent at a bound of the search."""
    if p <= P_MIN * (1 + _AT_BOUND):
        return 0.0
    return math.inf if p >= P_MAX * (1 - _AT_BOUND) else p
