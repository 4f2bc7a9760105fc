"""The search for the parameters of largest likelihood, in coordinates in which the offsets have unit variance."""

import math

import numpy as np
from scipy.optimize import minimize
from scipy.stats import ortho_group

from .density import Array, variance
from .likelihood import negative_log_likelihood, widths_of
from .problem import Problem

P_MIN, P_MAX = 0.3, 200.0
_WIDTH_BOUND = 12.0  # of the logarithm of a width, in units of the offsets' deviation
_OPTIONS = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}
_ANGLES = (0.0, 22.5, 45.0, 67.5)  # degrees; p depends on the turn of a full C, and has local optima over it


def maximise_likelihood(problem: Problem) -> tuple[Array, float]:
    """Return the parameters of the largest likelihood, and the mean negative log-likelihood there, nats.

    The search starts at a normal distribution, with a full `C` turned by several angles.
    """
    found = [_search(problem, start, (P_MIN, P_MAX)) for start in gaussian_starts(problem)]
    return min(found, key=lambda result: result[1])


def maximise_at(problem: Problem, p: float, near: Array) -> float:
    """Return the smallest mean negative log-likelihood with the exponent held, nats.

    Args:
        problem: What is searched.
        p: The exponent.
        near: Parameters to start at. The widths that are best for `p` have a closed form at points, unless `C` is full.
    """
    start = near.copy()
    if problem.form != "full" and problem.sample.tap is None:
        count = 1 if problem.form == "isotropic" else problem.dimensions
        start[1 : 1 + count] = _log_widths(problem, p, near)
    start[0] = math.log(p)
    return _search(problem, start, (p, p))[1]


def gaussian_starts(problem: Problem) -> list[Array]:
    """Return the parameters of the normal distribution with the offsets' variance, once for each turn."""
    d, form = problem.dimensions, problem.form
    turns = [np.eye(d)]
    if form == "full" and d == 2:
        turns = [np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]) for t in np.radians(_ANGLES)]
    elif form == "full" and d > 2:
        turns = [np.eye(d), *ortho_group.rvs(d, size=2 * d, random_state=0)]
    mean = np.zeros(d * problem.fits_mean)
    return [np.concatenate([[math.log(2)], widths_of(math.sqrt(variance(2)) * turn, form), mean]) for turn in turns]


def _search(problem: Problem, start: Array, p_range: tuple[float, float]) -> tuple[Array, float]:
    objective = negative_log_likelihood(problem.sample, problem.form, fits_mean=problem.fits_mean)
    width = (None, None) if problem.form == "full" else (-_WIDTH_BOUND, _WIDTH_BOUND)
    bounds = [(math.log(p_range[0]), math.log(p_range[1])), *[width] * (len(start) - 1)]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS)
    return found.x, float(found.fun)


def _log_widths(problem: Problem, p: float, near: Array) -> Array:
    """Return ln(1 / sigma) where the likelihood is largest: `sigma^p = p mean |x|^p`, over all axes or each."""
    centre = near[len(near) - problem.dimensions :] if problem.fits_mean else 0.0
    size = np.abs(problem.sample.points - centre)
    largest = size.max()
    moments = problem.sample.weights @ (size / largest) ** p
    if problem.form == "isotropic":
        moments = moments.mean(keepdims=True)
    return -np.log(p * moments) / p - np.log(largest)
