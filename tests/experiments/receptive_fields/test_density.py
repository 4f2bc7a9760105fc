import math

import numpy as np
import pytest
from scipy.stats import gennorm, kstest, multivariate_normal

from timm_lp.experiments.receptive_fields import mpnd_log_prob, sample_mpnd
from timm_lp.experiments.receptive_fields.density import log_normalizer, log_normalizer_slope, variance

from . import reference

TURNED = np.array([[1.2, 0.4], [-0.3, 0.8]])
MEAN = np.array([0.3, -0.2])


@pytest.mark.parametrize("p", [1, 2, 4, 16])
def test_the_density_integrates_to_one_and_the_footnotes_does_not(p: float) -> None:
    """The integral over the plane, in the coordinates z = C x, a quarter at a time: there the density is smooth."""
    far = 40 ** (1 / p)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    nodes, weights = (nodes + 1) * far / 2, weights * far / 2
    quarters = [np.stack(np.meshgrid(u * nodes, v * nodes), -1) for u in (-1, 1) for v in (-1, 1)]
    offsets = np.stack(quarters) @ np.linalg.inv(TURNED).T + MEAN
    det = abs(np.linalg.det(TURNED))
    density = np.exp(mpnd_log_prob(offsets, TURNED, p, MEAN))
    integral = np.einsum("qij,i,j->", density, weights, weights) / det
    assert integral == pytest.approx(1, abs=1e-8)
    footnote = integral / det**2  # 1 / (normalizer * det C) instead of det C / normalizer
    assert abs(footnote - 1) > 0.1


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("p", [0.5, 1, 2, 3.7, 16])
def test_the_log_density_is_the_slow_one(d: int, p: float) -> None:
    generator = np.random.default_rng(d)
    x, C, mean = (
        generator.normal(size=(4, 5, d)),
        generator.normal(size=(d, d)) + 2 * np.eye(d),
        generator.normal(size=d),
    )
    slow = [[reference.log_prob(point, C, p, mean) for point in row] for row in x]
    np.testing.assert_allclose(mpnd_log_prob(x, C, p, mean), slow, rtol=1e-12)


def test_p_2_is_the_normal_distribution_and_one_dimension_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    normal = multivariate_normal(MEAN, np.linalg.inv(TURNED.T @ TURNED) / 2)
    np.testing.assert_allclose(mpnd_log_prob(x, TURNED, 2, MEAN), normal.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(mpnd_log_prob(x[:, :1], [[0.5]], 3), gennorm(3, scale=2).logpdf(x[:, 0]), rtol=1e-12)


def test_the_sign_of_det_C_does_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(mpnd_log_prob(x, TURNED[::-1], 3), mpnd_log_prob(x, TURNED, 3), rtol=1e-14)


@pytest.mark.parametrize("p", [1, 2, 4, 16])
def test_variance_and_normalizer(p: float) -> None:
    assert variance(p) == pytest.approx(gennorm(p).var(), rel=1e-10)
    assert log_normalizer(p) == pytest.approx(math.log(2 * math.gamma(1 + 1 / p)), rel=1e-12)
    assert log_normalizer_slope(p) == pytest.approx(reference.slope(log_normalizer, p, 1e-3), rel=1e-8)


@pytest.mark.parametrize("p", [0.7, 2, 16])
def test_the_offsets_drawn_have_the_density(p: float) -> None:
    z = (sample_mpnd(4000, TURNED, p, MEAN, seed=0) - MEAN) @ TURNED.T
    for axis in range(2):
        assert kstest(z[:, axis], gennorm(p).cdf).pvalue > 0.01
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.05
    np.testing.assert_array_equal(sample_mpnd(5, TURNED, p, seed=3), sample_mpnd(5, TURNED, p, seed=3))


@pytest.mark.parametrize(
    ("offsets", "C", "p", "message"),
    [
        ([0.0, 1.0, 2.0], np.eye(2), 2, r"`offsets` must have shape \(\.\.\., 2\), as `C` is 2 x 2, got \(3,\)\. Put"),
        (1.0, np.eye(1), 2, r"`offsets` must have shape \(\.\.\., 1\), as `C` is 1 x 1, got \(\)"),
        ([0.0, 1.0], np.ones((2, 2)), 2, r"`C` must be a square matrix with an inverse, got \[\[1\.0, 1\.0\]"),
        ([0.0, 1.0], np.ones((2, 3)), 2, r"`C` must be a square matrix with an inverse"),
        ([0.0, 1.0], [[np.nan, 0], [0, 1]], 2, r"`C` must be a square matrix with an inverse"),
        ([0.0, 1.0], np.eye(2), 0, r"`p` must be a finite number above 0, got 0\. Use 2 for a normal distribution\."),
        ([0.0, 1.0], np.eye(2), math.inf, r"`p` must be a finite number above 0, got inf"),
    ],
)
def test_what_is_no_density_is_refused(offsets: object, C: object, p: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mpnd_log_prob(offsets, C, p)  # type: ignore[arg-type]
    if message.startswith("`C`") or message.startswith("`p`"):
        with pytest.raises(ValueError, match=message):
            sample_mpnd(3, C, p, seed=0)  # type: ignore[arg-type]
