"""How often the intervals of p hold it, and which one is taken where."""

import numpy as np
import pytest

from timm_lp.experiments.receptive_fields import fit_mpnd, sample_mpnd

TURNED = np.array([[1.0, 0.3], [-0.2, 0.7]])


@pytest.mark.parametrize(
    ("p", "n", "kind"), [(2, 1000, "information"), (6, 1000, "information"), (1, 100, "profile"), (16, 100, "profile")]
)
def test_the_interval_holds_p_as_often_as_it_says(p: float, n: int, kind: str) -> None:
    """Of 20 intervals of 95 %, 1 misses p on average, and more than 5 in one of 3,000 such simulations."""
    misses = 0
    for seed in range(20):
        fit = fit_mpnd(sample_mpnd(n, np.eye(2), p, seed=seed), interval="auto")
        assert fit.interval is not None
        assert fit.interval.kind == kind
        misses += not fit.interval.low < p < fit.interval.high
    assert misses <= 5


def test_the_bootstrap_of_a_turned_density_holds_p() -> None:
    offsets = sample_mpnd(300, TURNED, 4, seed=0)
    fit = fit_mpnd(offsets, "full", num_resamples=20)
    assert fit.interval is not None
    assert (fit.interval.kind, fit.interval.level) == ("bootstrap", 0.95)
    assert 1 < fit.interval.low < 4 < fit.interval.high < 40
    assert fit_mpnd(offsets, "full", num_resamples=20).interval == fit.interval


@pytest.mark.parametrize(("p", "n"), [(1.2, 2000), (16, 2000), (3, 500)])
def test_the_profile_is_taken_where_the_information_is_not_sure(p: float, n: int) -> None:
    fit = fit_mpnd(sample_mpnd(n, np.eye(2), p, seed=0))
    assert fit.interval is not None
    assert fit.interval.kind == "profile"


def test_information_and_profile_agree_where_both_are_right() -> None:
    offsets = sample_mpnd(20000, np.eye(2), 3, seed=0)
    ends = [np.array(fit_mpnd(offsets, interval=kind).p_interval) for kind in ("information", "profile")]
    np.testing.assert_allclose(*ends, rtol=3e-3)


def test_a_higher_level_gives_a_wider_interval() -> None:
    offsets = sample_mpnd(500, np.eye(2), 3, seed=0)
    for kind in ("information", "profile"):
        narrow, wide = (fit_mpnd(offsets, interval=kind, level=level).p_interval for level in (0.5, 0.99))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_without_a_peak_the_profile_takes_the_place_of_the_information() -> None:
    fit = fit_mpnd(sample_mpnd(300, np.eye(2), 0.15, seed=0), mean=[0, 0], interval="information")
    assert fit.interval is not None
    assert fit.interval.kind == "profile"


@pytest.mark.parametrize(("p", "end"), [(0.1, "low"), (400, "high")])
def test_resamples_at_a_bound_of_the_search_give_no_end(p: float, end: str) -> None:
    fit = fit_mpnd(sample_mpnd(60, np.eye(2), p, seed=0), mean=[0, 0], interval="bootstrap", num_resamples=20)
    assert fit.interval is not None
    assert getattr(fit.interval, end) == {"low": 0, "high": np.inf}[end]
