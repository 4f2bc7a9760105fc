"""The test of p = 2: whether offsets are normally distributed, within the MPND."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from .problem import Problem, pose
from .search import gaussian_starts, maximise_at, maximise_likelihood

_REGULAR_COUNT = 100  # offsets from which the statistic is chi-squared, unless C is full


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
    one normal sample in six. Its distribution does depend on nothing but the number of offsets, and is simulated.

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
        seed: What settles them.

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
    centre = mean if isinstance(mean, str) else "known"
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
    centre = np.zeros(d) if mean == "known" else mean
    samples = (generator.standard_normal((n, d)) for _ in range(num_simulations))
    return tuple(_statistic(pose(sample, form, weights=None, tap=None, mean=centre)) for sample in samples)
