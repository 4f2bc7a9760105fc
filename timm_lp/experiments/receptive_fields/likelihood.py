"""The likelihood of the MPND and its gradient, for points and for counts on a lattice, and the search for its maximum.

Parameters are one vector: ln p, then those of `C`, then the centre where it is fitted. The search runs in coordinates
in which the offsets have unit variance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import ortho_group

from .density import Array, log_normalizer, log_normalizer_slope, tap_log_prob, variance

Objective = Callable[[Array], tuple[float, Array]]

P_MIN, P_MAX = 0.3, 200.0
_WIDTH_BOUND = 12.0  # of the logarithm of a width, in units of the offsets' deviation
_OPTIONS = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}
_ANGLES = (0.0, 22.5, 45.0, 67.5)  # degrees; p depends on the turn of a full C, and has local optima over it
_LARGEST_LOG = 230.0  # of |z|^p: its square must be finite for every exponent that the search tries


@dataclass(frozen=True)
class Sample:
    """Offsets with their weights.

    Attributes:
        points: Offsets, shape `(n, d)`.
        weights: Share of each, shape `(n,)`; they add up to 1.
        tap: Where the offsets are the centres of a lattice's taps: the taps' size along each axis, shape `(d,)`.
    """

    points: Array
    weights: Array
    tap: Array | None = None


@dataclass(frozen=True)
class Problem:
    """Offsets to fit, whitened: `x' = whitening (x - centre)`, in which they have unit variance.

    Attributes:
        sample: The whitened offsets.
        count: Number of observations.
        whitening: Shape `(d, d)`.
        centre: Shape `(d,)`.
        form: `"isotropic"`, `"diagonal"` or `"full"`.
        mean_kind: Origin of the centre: `"sample"` the offsets' mean, `"fit"` searched too, `"given"` the user's.
    """

    sample: Sample
    count: float
    whitening: Array
    centre: Array
    form: str
    mean_kind: str

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return len(self.centre)

    @property
    def fits_mean(self) -> bool:
        """Whether the centre is searched too."""
        return self.mean_kind == "fit"

    def C(self, parameters: Array) -> Array:
        """Return `C` for the offsets as they were given, shape `(d, d)`."""
        return self._whitened_C(parameters) @ self.whitening

    def mean(self, parameters: Array) -> Array:
        """Return the centre for the offsets as they were given, shape `(d,)`."""
        if not self.fits_mean:
            return self.centre
        return self.centre + np.linalg.solve(self.whitening, parameters[-self.dimensions :])

    def nll(self, whitened_nll: float) -> float:
        """Return the mean negative log-likelihood of the offsets as they were given, nats."""
        is_density = self.sample.tap is None
        return whitened_nll - float(np.linalg.slogdet(self.whitening)[1]) * is_density

    def _whitened_C(self, parameters: Array) -> Array:
        return matrix(parameters[1 : len(parameters) - self.dimensions * self.fits_mean], self.form, self.dimensions)


def negative_log_likelihood(sample: Sample, form: str, *, fits_mean: bool) -> Objective:
    """Return the function to minimise, with its gradient.

    Args:
        sample: The offsets.
        form: `"isotropic"` (`C = exp(c) I`, one parameter), `"diagonal"` (`C = diag(exp(c))`, d) or `"full"` (d x d).
        fits_mean: Whether the last d parameters are the centre; else it is 0.
    """
    d = sample.points.shape[1]
    terms = _point_terms if sample.tap is None else _tap_terms

    def objective(parameters: Array) -> tuple[float, Array]:
        p = float(np.exp(parameters[0]))
        widths, mean = parameters[1 : len(parameters) - d * fits_mean], parameters[len(parameters) - d * fits_mean :]
        C = matrix(widths, form, d)
        value, dp, dC, dmean = terms(sample, p, C, mean if fits_mean else np.zeros(d))
        if form == "full":
            dwidths = dC.ravel()
        else:
            along = np.diag(dC) * np.diag(C)
            dwidths = along.sum(keepdims=True) if form == "isotropic" else along
        return value, np.concatenate([[p * dp], dwidths, dmean[: d * fits_mean]])

    return objective


def maximise_likelihood(problem: Problem) -> tuple[Array, float]:
    """Return the parameters of the largest likelihood, and the mean negative log-likelihood there, nats.

    The search starts at a normal distribution, with a full `C` turned by several angles.
    """
    results = [_search(problem, start, (P_MIN, P_MAX)) for start in gaussian_starts(problem)]
    return min(results, key=lambda result: result[1])


def maximise_at(problem: Problem, p: float, near: Array) -> float:
    """Return the smallest mean negative log-likelihood with the exponent held, nats.

    Args:
        problem: The offsets.
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
    result = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS)
    return result.x, float(result.fun)


def _log_widths(problem: Problem, p: float, near: Array) -> Array:
    """Return ln(1 / sigma) where the likelihood is largest: `sigma^p = p mean |x|^p`, over all axes or each."""
    centre = near[len(near) - problem.dimensions :] if problem.fits_mean else 0.0
    size = np.abs(problem.sample.points - centre)
    largest = size.max()
    moments = problem.sample.weights @ (size / largest) ** p
    if problem.form == "isotropic":
        moments = moments.mean(keepdims=True)
    return -np.log(p * moments) / p - np.log(largest)


def matrix(widths: Array, form: str, d: int) -> Array:
    """Return `C`, shape `(d, d)`, of its parameters."""
    if form == "full":
        return widths.reshape(d, d)
    return np.diag(np.exp(np.broadcast_to(widths, d)))


def widths_of(C: Array, form: str) -> Array:
    """Return the parameters of `C`, the inverse of `matrix`."""
    if form == "full":
        return C.ravel()
    logs = np.log(np.diag(C))
    return logs[:1] if form == "isotropic" else logs


def _point_terms(sample: Sample, p: float, C: Array, mean: Array) -> tuple[float, float, Array, Array]:
    """Return the value and its derivatives with respect to p, `C` and the mean, from the density at the points."""
    x = sample.points - mean
    z = x @ C.T
    with np.errstate(divide="ignore"):
        log_z = np.log(np.abs(z))
    power = np.exp(np.minimum(p * log_z, _LARGEST_LOG))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(z == 0, 0.0, p * power / z) * sample.weights[:, None]
        log_slope = np.where(z == 0, 0.0, power * log_z)
    d = len(C)
    sign, log_det = np.linalg.slogdet(C)
    if sign == 0:
        return np.inf, 0.0, np.zeros_like(C), np.zeros(d)
    value = float(sample.weights @ power.sum(1)) + d * log_normalizer(p) - float(log_det)
    dp = float(sample.weights @ log_slope.sum(1)) + d * log_normalizer_slope(p)
    return value, dp, slope.T @ x - np.linalg.inv(C).T, -C.T @ slope.sum(0)


def _tap_terms(sample: Sample, p: float, C: Array, mean: Array) -> tuple[float, float, Array, Array]:
    """Return the same from the integrals over the taps; `C` must be diagonal."""
    d, value, dp = len(C), 0.0, 0.0
    taps = np.zeros(d) if sample.tap is None else sample.tap
    dC, dmean = np.zeros((d, d)), np.zeros(d)
    for axis in range(d):  # the density is a product, so the counts along each axis say all
        centres, index = np.unique(sample.points[:, axis], return_inverse=True)
        weights = np.bincount(index, weights=sample.weights)
        half = taps[axis] / 2
        ends = centres - mean[axis] - half, centres - mean[axis] + half
        log_prob, dlow, dhigh, slope = tap_log_prob(C[axis, axis] * ends[0], C[axis, axis] * ends[1], p)
        value -= float(weights @ log_prob)
        dp -= float(weights @ slope)
        dC[axis, axis] = -weights @ (dlow * ends[0] + dhigh * ends[1])
        dmean[axis] = C[axis, axis] * (weights @ (dlow + dhigh))
    return value, dp, dC, dmean
