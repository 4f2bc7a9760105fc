import numpy as np
import pytest
from scipy.stats import norm, ttest_rel

from timm_lp.experiments.brain.alignment import Alignment
from timm_lp.experiments.brain.comparison import differences, resolution
from timm_lp.experiments.brain.groups import Aligned, Group, groups_of

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=200)


def _alignment(taus: list[float], samples: np.ndarray = SAMPLES, scale: float = 0.01) -> Alignment:
    """Return an alignment whose first layer is the best of every area."""
    tau = np.array([taus, np.subtract(taus, 0.01)])
    resampled = tau[..., None] + scale * samples
    halves = np.zeros((2, len(taus), 1, 2))
    return Alignment(["a", "b"], [f"area{n}" for n in range(len(taus))], tau, resampled, halves, np.zeros((2, 1, 1)))


def _group(name: str, seeds: dict[int | None, Alignment]) -> Group:
    (group,) = groups_of(Aligned(name, name, seed, False, alignment) for seed, alignment in seeds.items())
    return group


def test_pairs_the_images() -> None:
    one, other = _alignment([0.3, 0.2], scale=0.03), _alignment([0.25, 0.2], scale=0.01)
    found = differences([_group("one", {None: one}), _group("other", {None: other})])
    assert [(d.first, d.second, d.area, d.seeds, d.p_seeds) for d in found] == [
        ("one", "other", "area0", 0, None),
        ("one", "other", "area1", 0, None),
    ]
    expected = 0.05 + 0.02 * SAMPLES
    assert found[0].difference == pytest.approx(0.05)
    assert (found[0].low, found[0].high) == pytest.approx(tuple(np.quantile(expected, (0.025, 0.975))))
    p_value = 2 * norm.sf(0.05 / (0.02 * SAMPLES.std()))
    assert found[0].p_images == pytest.approx(2 * p_value)  # Holm: two comparisons
    assert found[1].p_images == pytest.approx(1)


def test_pairs_the_seeds_that_both_have() -> None:
    taus = {"one": {0: 0.31, 1: 0.33, 2: 0.35, 5: 0.9}, "other": {0: 0.30, 1: 0.30, 2: 0.31, 7: 0.1}}
    groups = [_group(name, {seed: _alignment([tau]) for seed, tau in seeds.items()}) for name, seeds in taus.items()]
    (found,) = differences(groups)
    assert found.seeds == 3
    assert found.difference == pytest.approx((0.01 + 0.03 + 0.04) / 3)
    assert found.p_seeds == pytest.approx(ttest_rel([0.31, 0.33, 0.35], [0.30, 0.30, 0.31]).pvalue)


def test_takes_means_where_no_seed_is_shared() -> None:
    one = _group("one", {0: _alignment([0.3]), 1: _alignment([0.5])})
    (found,) = differences([one, _group("other", {None: _alignment([0.1])})])
    assert (found.seeds, found.p_seeds) == (0, None)
    assert found.difference == pytest.approx(0.3)


def test_holm_counts_all_pairs_and_areas() -> None:
    samples = RNG.normal(size=(3, 200))
    groups = [
        _group(str(n), {s: _alignment([0.2 + 0.01 * n, 0.3 + 0.003 * s * n], samples[n]) for s in range(3)})
        for n in range(3)
    ]
    found = differences(groups)
    assert len(found) == 6
    raw = []
    for d in found:
        spread = 0.01 * (samples[int(d.first)] - samples[int(d.second)]).std()
        raw.append(2 * norm.sf(abs(d.difference) / spread))
    by_size = np.argsort(raw)
    holm = np.minimum(1, np.maximum.accumulate(np.array(raw)[by_size] * np.arange(6, 0, -1)))
    assert [found[place].p_images for place in by_size] == pytest.approx(holm)
    assert [d.p_seeds is None for d in found] == [True, False] * 3  # in the first area the seeds are equal


def test_networks_of_one_function_do_not_differ() -> None:
    rounded = _alignment([0.2 + 1e-6], SAMPLES + 1e-5 * RNG.normal(size=200))
    found = differences([_group("one", {0: _alignment([0.2])}), _group("other", {0: rounded})])
    assert found[0].p_images == 1
    assert resolution(found) is None
    assert differences([_group("alone", {0: rounded})]) == []


def test_resolution_is_half_the_median_interval() -> None:
    groups = [_group(str(n), {None: _alignment([0.1], RNG.normal(size=200))}) for n in range(3)]
    found = differences(groups)
    assert resolution(found) == pytest.approx(np.median([d.high - d.low for d in found]) / 2)
