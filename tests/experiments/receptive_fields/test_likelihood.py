"""The likelihood and its gradient, against sums and integrals of one offset at a time."""

import math

import numpy as np
import pytest

from timm_lp.experiments.receptive_fields.density import tap_log_prob
from timm_lp.experiments.receptive_fields.flags import FORMS
from timm_lp.experiments.receptive_fields.likelihood import (
    Sample,
    matrix,
    negative_log_likelihood,
    widths_of,
)

from . import reference

WIDTHS = {"isotropic": [0.2], "diagonal": [0.2, -0.3], "full": [1.1, 0.4, -0.3, 0.8]}
MEAN = [0.11, -0.07]
TAP = np.array([0.7, 0.9])


@pytest.mark.parametrize("fits_mean", [False, True])
@pytest.mark.parametrize("p", [1.3, 2, 5, 30])
@pytest.mark.parametrize("form", FORMS)
def test_points(form: str, p: float, fits_mean: bool) -> None:
    generator = np.random.default_rng(1)
    x, weights = generator.uniform(-0.9, 0.9, size=(12, 2)), generator.dirichlet(np.ones(12))
    C, mean = matrix(np.array(WIDTHS[form]), form, 2), np.array(MEAN) * fits_mean
    slow = -sum(w * reference.log_prob(point, C, p, mean) for w, point in zip(weights, x, strict=True))
    _compare(Sample(x, weights), form, p, fits_mean, slow)


@pytest.mark.parametrize("fits_mean", [False, True])
@pytest.mark.parametrize("p", [0.6, 1.3, 2, 5, 30])
@pytest.mark.parametrize("form", ["isotropic", "diagonal"])
def test_taps(form: str, p: float, fits_mean: bool) -> None:
    x = np.stack(np.meshgrid(*(TAP[:, None] * np.arange(-1, 2)), indexing="ij"), -1).reshape(-1, 2)
    weights = np.random.default_rng(2).dirichlet(np.ones(len(x)))
    C, mean = matrix(np.array(WIDTHS[form]), form, 2), np.array(MEAN) * fits_mean
    slow = 0.0
    for point, weight in zip(x - mean, weights, strict=True):
        for axis in range(2):
            ends = C[axis, axis] * (point[axis] - TAP[axis] / 2), C[axis, axis] * (point[axis] + TAP[axis] / 2)
            slow -= weight * reference.log_tap_prob(*ends, p)
    _compare(Sample(x, weights, TAP), form, p, fits_mean, slow)


def _compare(sample: Sample, form: str, p: float, fits_mean: bool, slow: float) -> None:
    """Compare the value with the slow one, and the gradient with differences of the value."""
    parameters = np.array([math.log(p), *WIDTHS[form], *MEAN[: 2 * fits_mean]])
    objective = negative_log_likelihood(sample, form, fits_mean=fits_mean)
    value, gradient = objective(parameters)
    assert value == pytest.approx(slow, rel=1e-9)
    for place in range(len(parameters)):

        def along(entry: float, place: int = place) -> float:
            moved = parameters.copy()
            moved[place] = entry
            return objective(moved)[0]

        assert gradient[place] == pytest.approx(reference.slope(along, parameters[place], 1e-4), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("p", [0.3, 1, 2, 4, 16, 200])
@pytest.mark.parametrize(
    ("low", "high"), [(-0.4, 0.3), (0.01, 0.5), (-0.5, -0.01), (0.3, 0.9), (-1.1, -0.8), (0.95, 1.05), (-3.0, 1.0)]
)
def test_a_tap_and_its_derivatives(low: float, high: float, p: float) -> None:
    """Where the mass is far out too, and for almost a box."""
    value, *slopes = (float(part[0]) for part in tap_log_prob(np.array([low]), np.array([high]), p))
    assert value == pytest.approx(reference.log_tap_prob(low, high, p), rel=1e-9, abs=1e-11)
    slow = [
        reference.slope(lambda z: reference.log_tap_prob(z, high, p), low, 1e-4),
        reference.slope(lambda z: reference.log_tap_prob(low, z, p), high, 1e-4),
        reference.slope(lambda q: reference.log_tap_prob(low, high, q), p, 1e-3 * p),
    ]
    np.testing.assert_allclose(slopes, slow, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("p", [0.3, 2, 16])
def test_a_tap_that_ends_at_the_centre_is_half_of_one_around_it(p: float) -> None:
    """The value, and the derivatives, which differences across the centre's kink would not show."""
    ends = np.array([0.0, -0.5, -0.5]), np.array([0.5, 0.0, 0.5])
    value, dlow, dhigh, dp = tap_log_prob(*ends, p)
    np.testing.assert_allclose(value, value[2] - np.log([2, 2, 1]), rtol=1e-12)
    np.testing.assert_allclose(dp, dp[2], rtol=1e-12)
    at_centre, at_end = np.exp(-np.array([0, 0.5**p])) / (2 * math.gamma(1 + 1 / p)) / math.exp(value[0])
    np.testing.assert_allclose(dlow, [-at_centre, -at_end, -at_end / 2], rtol=1e-12)
    np.testing.assert_allclose(dhigh, [at_end, at_centre, at_end / 2], rtol=1e-12)


def test_far_taps_have_finite_values() -> None:
    low = np.array([3.0, 40.0, -41.0, 1e6])
    for part in tap_log_prob(low, low + 1, 200.0):
        assert np.isfinite(part).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_widths_are_those_of_the_matrix(form: str) -> None:
    widths = np.array(WIDTHS[form])
    np.testing.assert_allclose(widths_of(matrix(widths, form, 2), form), widths, rtol=1e-12)


def test_a_matrix_without_an_inverse_has_no_likelihood() -> None:
    objective = negative_log_likelihood(Sample(np.eye(2), np.array([0.5, 0.5])), "full", fits_mean=False)
    assert objective(np.array([0.0, 1, 1, 1, 1]))[0] == math.inf
