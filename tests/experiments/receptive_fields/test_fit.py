"""Fits of offsets whose distribution is known, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from timm_lp.experiments.receptive_fields import fit_mpnd, mpnd_log_prob, sample_mpnd
from timm_lp.experiments.receptive_fields.likelihood import P_MAX, P_MIN

WIDTHS = {
    "isotropic": np.eye(2) / 3,
    "diagonal": np.diag([1 / 3, 2.0]),
    "full": np.array([[1.0, 0.3], [-0.2, 0.7]]),
}
MEAN = np.array([5.0, -2.0])
# Twice the median error of many fits: by p, for 100, 1,000 and 10,000 offsets.
ERRORS = {1: (0.14, 0.05, 0.02), 2: (0.18, 0.07, 0.034), 4: (0.28, 0.07, 0.026), 16: (0.64, 0.14, 0.06)}
FULL_ERRORS = {1: 0.06, 2: 0.13, 4: 0.09, 16: 0.22}


@pytest.mark.parametrize(
    ("form", "p", "column"),
    [
        pytest.param(form, p, column, marks=[pytest.mark.exhaustive] * ((row + column + turn) % 2))
        for row, p in enumerate(ERRORS)
        for column in range(3)
        for turn, form in enumerate(("isotropic", "diagonal"))
    ],
)
def test_finds_the_exponent(form: Any, p: int, column: int) -> None:
    """Of the product, half is exhaustive; the other half has each pair of two of the three."""
    n, seeds = ((100, 20), (1000, 10), (10000, 5))[column]
    fits = [fit_mpnd(sample_mpnd(n, WIDTHS[form], p, MEAN, seed=seed), form, interval=None) for seed in range(seeds)]
    assert np.median([abs(fit.p / p - 1) for fit in fits]) < ERRORS[p][column]


@pytest.mark.parametrize("p", FULL_ERRORS)
def test_finds_the_exponent_of_a_turned_density(p: int) -> None:
    fits = [fit_mpnd(sample_mpnd(1000, WIDTHS["full"], p, seed=s), "full", interval=None) for s in range(5)]
    assert np.median([abs(fit.p / p - 1) for fit in fits]) < FULL_ERRORS[p]


@pytest.mark.parametrize("mean", ["sample", "fit", MEAN])
@pytest.mark.parametrize("form", WIDTHS)
def test_finds_the_width_and_the_centre_and_says_how_likely_they_are(form: Any, mean: Any) -> None:
    offsets = sample_mpnd(4000, WIDTHS[form], 4, MEAN, seed=0)
    fit = fit_mpnd(offsets, form, mean=mean, interval=None)
    np.testing.assert_allclose(fit.mean, MEAN, atol=0.1)
    np.testing.assert_allclose(fit.C.T @ fit.C, WIDTHS[form].T @ WIDTHS[form], rtol=0.15, atol=0.03)
    assert fit.nll == pytest.approx(-mpnd_log_prob(offsets, fit.C, fit.p, fit.mean).mean(), rel=1e-9)
    centre = offsets.mean(0) if isinstance(mean, str) and mean == "sample" else MEAN
    true_nll = -mpnd_log_prob(offsets, WIDTHS[form], 4, centre).mean()
    assert fit.nll < true_nll
    assert (fit.num_offsets, fit.form, fit.interval, fit.p_interval) == (4000, form, None, None)


def test_a_fitted_centre_is_more_likely_than_the_samples() -> None:
    offsets = sample_mpnd(300, WIDTHS["diagonal"], 16, seed=0)
    assert fit_mpnd(offsets, "diagonal", mean="fit").nll < fit_mpnd(offsets, "diagonal").nll - 1e-3


@pytest.mark.parametrize("form", WIDTHS)
def test_the_unit_does_not_matter(form: Any) -> None:
    offsets = sample_mpnd(500, WIDTHS[form], 3, MEAN, seed=1)
    fit, small = fit_mpnd(offsets, form, interval=None), fit_mpnd(1e-4 * offsets, form, interval=None)
    assert small.p == pytest.approx(fit.p, rel=1e-4)
    np.testing.assert_allclose(np.abs(np.linalg.det(small.C)), 1e8 * np.abs(np.linalg.det(fit.C)), rtol=1e-3)


@pytest.mark.parametrize("scales", [(1e-300, 1e-300), (1e300, 1e300), (1e-7, 1e5), (1e-140, 1e150)])
@pytest.mark.parametrize("form", WIDTHS)
def test_the_fit_follows_any_scale(form: Any, scales: tuple[float, float]) -> None:
    """p stays, `C` is divided by the scales, and the likelihood changes by their logarithms."""
    if form == "isotropic":  # it has one width for both axes
        scales = scales[0], scales[0]
    offsets = sample_mpnd(200, np.eye(2), 2.5, MEAN, seed=1)
    fit, scaled = fit_mpnd(offsets, form, interval=None), fit_mpnd(offsets * scales, form, interval=None)
    assert scaled.p == pytest.approx(fit.p, rel=1e-3)
    assert scaled.nll == pytest.approx(fit.nll + np.log(scales).sum(), abs=1e-6)
    np.testing.assert_allclose(np.abs(scaled.C * scales), np.abs(fit.C), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(scaled.mean, fit.mean * scales, rtol=1e-12)
    assert scaled.nll == pytest.approx(
        -mpnd_log_prob(offsets * scales, scaled.C, scaled.p, scaled.mean).mean(), rel=1e-9
    )


@pytest.mark.parametrize("form", WIDTHS)
@pytest.mark.parametrize("where", [0.1, 37.3, -1e9, 1e-200, 1e200])
def test_identical_offsets_that_rounding_separates_are_refused(form: Any, where: float) -> None:
    same = np.full((50, 2), where)
    near = same * (1 + np.finfo(float).eps * np.random.default_rng(0).integers(-3, 4, (50, 2)))
    one_axis = np.stack([GOOD[:, 0], same[:, 0]], axis=-1)
    for offsets in (same, near, one_axis):
        with pytest.raises(ValueError, match="`offsets` must spread along every axis, got a standard deviation of"):
            fit_mpnd(offsets, form)


@pytest.mark.parametrize("thickness", [0.0, 1e-14, 1e-9])
@pytest.mark.parametrize("slope", [1.0, -3e-7, 2e80])
def test_a_line_is_no_volume_for_a_full_matrix(slope: float, thickness: float) -> None:
    noise = thickness * np.random.default_rng(0).normal(size=50)
    line = np.stack([GOOD[:, 0], slope * (GOOD[:, 0] + 5 + noise)], axis=-1)
    with pytest.raises(ValueError, match="`offsets` must spread along every direction for a full `C`"):
        fit_mpnd(line, "full")


@pytest.mark.parametrize(("form", "p"), [("isotropic", 0.6), ("isotropic", 1.0), ("diagonal", 0.6), ("full", 1.0)])
def test_a_far_outlier_is_no_flat_field(form: Any, p: float) -> None:
    offsets = sample_mpnd(60, np.eye(2), p, seed=1)
    offsets[0] = [1e6, 3e5]
    fit = fit_mpnd(offsets, form, num_resamples=20)
    assert not fit.is_flat
    assert fit.p_interval is not None
    assert fit.p_interval[0] < fit.p < fit.p_interval[1] < 2


@pytest.mark.parametrize(
    "rounded", [lambda x: np.round(2 * x) / 2, lambda x: np.round(0.65 * np.round(2 * x), 2), np.floor]
)
@pytest.mark.parametrize("form", WIDTHS)
def test_offsets_on_a_grid_need_its_steps(form: Any, rounded: Any) -> None:
    offsets = sample_mpnd(1000, np.eye(2), 1, seed=2)
    with pytest.raises(ValueError, match=r"`tap` must be given where offsets lie on a grid, got steps of .*Give "):
        fit_mpnd(rounded(offsets), form)
    for twice in ([[0.0, 0.0], [1.0, 1.3]], np.repeat([[0.0, 0.1], [1.0, 1.3], [2.0, 2.5]], 20, axis=0)):
        with pytest.raises(ValueError, match=r"`tap` must be given|`offsets` must spread along every direction"):
            fit_mpnd(twice, form)


@pytest.mark.parametrize(("form", "p"), [("isotropic", 1), ("diagonal", 2), ("isotropic", 4)])
def test_rounded_offsets_give_the_exponent_of_those_that_were_not(form: Any, p: int) -> None:
    offsets = sample_mpnd(2000, np.eye(2), p, seed=6)
    exact = fit_mpnd(offsets, form, interval=None).p
    for step in (0.5, 0.2):
        fit = fit_mpnd(step * np.round(offsets / step), form, tap=step, interval=None)
        assert fit.p == pytest.approx(exact, rel=0.06)
    assert fit_mpnd(np.round(offsets, 2), form, interval=None).p == pytest.approx(exact, rel=0.01)  # no coarse steps


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("form", WIDTHS)
def test_other_dimensions(form: Any, d: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0] if form == "full" else np.eye(d)
    fit = fit_mpnd(sample_mpnd(3000, turn, 4, seed=2), form, interval=None)
    assert fit.p == pytest.approx(4, rel=0.25)
    assert abs(np.linalg.det(fit.C)) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("form", WIDTHS)
def test_a_weight_is_how_often_an_offset_was_observed(form: Any) -> None:
    offsets = sample_mpnd(60, WIDTHS[form], 2, seed=3)
    counts = np.random.default_rng(0).integers(0, 4, len(offsets))
    weighted = fit_mpnd(offsets, form, weights=counts, interval=None)
    repeated = fit_mpnd(np.repeat(offsets, counts, axis=0), form, interval=None)
    assert weighted.num_offsets == counts.sum()
    assert weighted.p == pytest.approx(repeated.p, rel=1e-4)
    assert weighted.nll == pytest.approx(repeated.nll, rel=1e-8)


@pytest.mark.parametrize(("form", "p"), [("diagonal", 1), ("isotropic", 2), ("diagonal", 4), ("isotropic", 16)])
def test_counts_on_a_lattice_give_the_exponent_that_the_taps_centres_do_not(form: Any, p: int) -> None:
    """A lattice of two taps to a sigma, and of eight where the box's edge would be hidden in one of them."""
    offsets = sample_mpnd(20000, WIDTHS[form], p, seed=4)
    tap = 1 / np.diag(WIDTHS[form]) / (8 if p == 16 else 2)
    centres, counts = np.unique(np.round(offsets / tap), axis=0, return_counts=True)
    fit = fit_mpnd(centres * tap, form, weights=counts, tap=tap)
    assert fit.p == pytest.approx(p, rel={1: 0.04, 2: 0.04, 4: 0.06, 16: 0.15}[p])
    np.testing.assert_allclose(fit.C, WIDTHS[form], rtol=0.06)
    assert fit.p_interval is not None
    assert fit.p_interval[0] < fit.p < fit.p_interval[1] < 1.5 * p
    expected = fit_mpnd(offsets, form, interval=None).nll - np.log(tap).sum()
    assert fit.nll == pytest.approx(expected, abs=0.1)  # the mass of a tap is about the density times its area


@pytest.mark.parametrize("mean", ["sample", "fit"])
def test_a_flat_field_bounds_the_exponent_from_below(mean: Any) -> None:
    taps = np.stack(np.meshgrid(np.arange(11.0), np.arange(11.0)), -1).reshape(-1, 2)
    fit = fit_mpnd(taps, weights=np.full(121, 20.0), tap=1, mean=mean)
    assert fit.is_flat
    assert fit.p_interval is not None
    assert 10 < fit.p_interval[0] < P_MAX
    assert fit.p_interval[1] == math.inf
    assert fit.interval is not None
    assert fit.interval.kind == "profile"
    assert 1 / fit.C[0, 0] == pytest.approx(5.5, rel=0.02)
    assert fit_mpnd(taps, tap=1, interval=None).is_flat


def test_a_peak_bounds_the_exponent_from_above() -> None:
    fit = fit_mpnd(sample_mpnd(300, np.eye(2), 0.15, seed=0), mean=[0, 0])
    assert not fit.is_flat
    assert fit.p == pytest.approx(P_MIN)
    assert fit.p_interval is not None
    assert fit.p_interval[0] == 0
    assert P_MIN < fit.p_interval[1] < 0.5


GOOD = sample_mpnd(50, np.eye(2), 2, seed=0)
LINE = np.stack([GOOD[:, 0], GOOD[:, 0]], -1)
BAD = [
    ((GOOD, "round"), {}, r"`form` must be one of isotropic, diagonal, full, got 'round'\. The paper's is isotropic"),
    ((GOOD[:, 0],), {}, r"`offsets` must be finite numbers of shape \(n, d\), got shape \(50,\)\. Leave out"),
    ((GOOD[:0],), {}, r"`offsets` must be finite numbers of shape \(n, d\), got shape \(0, 2\)\."),
    ((np.where(GOOD > 1, np.nan, GOOD),), {}, r"got shape \(50, 2\), not all finite\. Leave out rows"),
    ((np.zeros((5, 2)),), {}, r"`offsets` must spread along every axis, got a standard deviation of 0 .* Leave out"),
    ((1e-303 * GOOD,), {}, r"`offsets` must have standard deviations from 1e-302 to 1e\+302"),
    ((LINE, "full"), {}, "`offsets` must spread along every direction for a full `C`, got all in a line or plane"),
    (
        (GOOD,),
        {"weights": [1.0]},
        r"`weights` must be .* of shape \(50,\).*, got shape \(1,\) from 1\.0 to",
    ),
    ((GOOD,), {"weights": -np.ones(50)}, r"`weights` must be .* from -1\.0 to -1\.0\. Give how often"),
    ((GOOD,), {"weights": np.zeros(50)}, "`weights` must be .* not all 0"),
    ((GOOD,), {"weights": np.full(50, np.inf)}, "`weights` must be finite numbers"),
    ((GOOD,), {"weights": []}, r"got shape \(0,\)\. Give"),
    ((GOOD, "full"), {"tap": 1}, "`form` must be isotropic or diagonal where `tap` is given, got 'full'"),
    ((GOOD,), {"tap": 0}, r"`tap` must be a number above 0 or 2 of them, got 0\.0\. Give the distance"),
    ((GOOD,), {"tap": [1, 1, 1]}, r"`tap` must be a number above 0 or 2 of them, got \[1\.0, 1\.0, 1\.0\]"),
    ((GOOD,), {"tap": 1}, r"`offsets` must lie whole taps apart where `tap` is given, got others than multiples of 1"),
    ((GOOD,), {"mean": "median"}, r"`mean` must be sample, fit or the centre itself, got 'median'\. Use sample"),
    ((GOOD,), {"mean": [1, 2, 3]}, r"`mean` must be sample, fit or 2 finite numbers, got \[1\.0, 2\.0, 3\.0\]\. Use"),
    ((GOOD,), {"mean": [1, np.nan]}, "`mean` must be sample, fit or 2 finite numbers"),
    ((GOOD,), {"interval": "wald"}, r"`interval` must be auto, information, profile, bootstrap or None, got 'wald'"),
    ((GOOD,), {"level": 95}, r"`level` must be between 0 and 1, got 95\. Use 0\.95"),
    ((GOOD,), {"num_resamples": 1}, r"`num_resamples` must be at least 20, got 1\. Use 200"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), BAD)
def test_what_cannot_be_fitted_is_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_mpnd(*arguments, **options)
