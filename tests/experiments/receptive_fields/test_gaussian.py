"""The test of p = 2: its level on normal samples, and whether it sees others."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from timm_lp.experiments.receptive_fields import fit_mpnd, gaussian_test, mpnd_log_prob, sample_mpnd
from timm_lp.experiments.receptive_fields.fit import _normal_statistics

TURNED = np.array([[1.0, 0.9], [0.0, 0.5]])


def _rejections(form: Any, n: int, runs: int, **options: Any) -> int:
    """Return how many of the normal samples are rejected at a level of 5 %."""
    samples = (np.random.default_rng([n, run]).standard_normal((n, 2)) for run in range(runs))
    return sum(gaussian_test(sample, form, **options).p_value <= 0.05 for sample in samples)


@pytest.mark.parametrize(("form", "n"), [("isotropic", 1000), ("diagonal", 100)])
def test_rejects_one_normal_sample_in_twenty(form: str, n: int) -> None:
    assert 2 <= _rejections(form, n, 200, null="chi2") <= 20  # 10 on average; the ends are 2.6 and 3.2 deviations off


def test_a_full_matrix_needs_the_simulated_null() -> None:
    """The simulation keeps the level; chi-squared, whose 95 % quantile is 3.84, would reject three times as often."""
    simulated = _normal_statistics(100, 2, "full", "sample", 99, 0)
    assert np.mean(np.array(simulated) > chi2.ppf(0.95, 1)) > 0.1
    assert np.quantile(simulated, 0.95) > 4.5
    assert _rejections("full", 100, 20, num_simulations=99) <= 4  # 1 on average, more than 4 in one of 400


def test_few_offsets_and_a_full_matrix_are_simulated() -> None:
    offsets = sample_mpnd(99, np.eye(2), 2, seed=0)
    assert gaussian_test(offsets, num_simulations=19).null == "simulation"
    assert gaussian_test(offsets, "full", num_simulations=19).null == "simulation"
    assert gaussian_test(sample_mpnd(100, np.eye(2), 2, seed=0)).null == "chi2"


def test_the_null_of_a_full_matrix_is_that_of_every_normal_distribution() -> None:
    offsets = np.random.default_rng(0).standard_normal((150, 2))
    plain, turned = (gaussian_test(x, "full", num_simulations=19) for x in (offsets, offsets @ TURNED + 3))
    assert turned.statistic == pytest.approx(plain.statistic, abs=1e-3)


@pytest.mark.parametrize("mean", ["sample", "fit", [0.0, 0.0]])
def test_the_statistic_is_the_ratio_of_the_likelihoods(mean: Any) -> None:
    offsets = sample_mpnd(400, np.eye(2), 3, seed=0)
    fit = fit_mpnd(offsets, "diagonal", mean=mean, interval=None)
    centre = np.zeros(2) if isinstance(mean, list) else offsets.mean(0)
    normal = np.diag((2 * ((offsets - centre) ** 2).mean(0)) ** -0.5)
    ratio = 2 * (-400 * fit.nll - mpnd_log_prob(offsets, normal, 2, centre).sum())
    result = gaussian_test(offsets, "diagonal", mean=mean)
    assert result.statistic == pytest.approx(ratio, abs=1e-4)
    assert result.p_value == pytest.approx(chi2.sf(ratio, 1), rel=1e-3)


@pytest.mark.parametrize(("form", "p"), [("isotropic", 1), ("diagonal", 4), ("full", 1), ("full", 4)])
def test_sees_that_offsets_are_not_normal(form: Any, p: float) -> None:
    result = gaussian_test(sample_mpnd(1000, np.eye(2), p, seed=0), form, num_simulations=19)
    assert result.p_value == pytest.approx(0.05) if form == "full" else result.p_value < 1e-6


def test_counts_on_a_lattice() -> None:
    for p, is_small in ((2, False), (4, True)):
        centres, counts = np.unique(np.round(2 * sample_mpnd(5000, np.eye(2), p, seed=0)), axis=0, return_counts=True)
        result = gaussian_test(centres, weights=counts, tap=1)
        assert (result.p_value < 0.01, result.null) == (is_small, "chi2")


GOOD = sample_mpnd(50, np.eye(2), 2, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null": "f"}, r"`null` must be auto, chi2 or simulation, got 'f'\. Use auto\."),
        ({"null": "simulation", "tap": 1}, r"`null` must be auto or chi2 where `tap` is given, got 'simulation'\."),
        ({"num_simulations": 5}, r"`num_simulations` must be at least 19, got 5\. Use 199\."),
        ({"form": "round"}, "`form` must be one of isotropic, diagonal, full, got 'round'"),
    ],
)
def test_what_cannot_be_tested_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_test(GOOD, **options)
