import importlib.util

import numpy as np
import pytest
from scipy.stats import kendalltau

from timm_lp.experiments.brain.kendall import weighted_tau
from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_responses

_RESPONSES = [np.random.default_rng(units).normal(size=(20, units)) for units in (30, 40)]
_RSATOOLBOX_TAU = 0.011083263714842662


def _lists(entries: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(entries)
    x = rng.integers(levels, size=entries).astype(float)
    return x, x + rng.integers(2 * levels, size=entries)


@pytest.mark.parametrize(("entries", "levels"), [(3, 2), (30, 4), (300, 2), (300, 10**6), (2000, 100)])
def test_is_scipys_tau_of_the_repeated_entries(entries: int, levels: int) -> None:
    x, y = _lists(entries, levels)
    weights = np.random.default_rng(1).integers(1, 4, (entries, 70))  # more sets than one batch
    weights[::3, 1:] = 0
    expected = [kendalltau(np.repeat(x, counts), np.repeat(y, counts)).statistic for counts in weights.T]
    assert weighted_tau(x, y, weights) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_is_the_slow_sum_over_pairs() -> None:
    x, y = _lists(25, 4)
    weights = np.random.default_rng(2).integers(0, 3, (25, 2))
    for counts, tau in zip(weights.T, weighted_tau(x, y, weights), strict=True):
        concordant = untied_x = untied_y = 0.0
        for i in range(25):
            for j in range(i):
                signs = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
                concordant += counts[i] * counts[j] * signs[0] * signs[1]
                untied_x += counts[i] * counts[j] * abs(signs[0])
                untied_y += counts[i] * counts[j] * abs(signs[1])
        assert tau == pytest.approx(concordant / (untied_x * untied_y) ** 0.5, abs=1e-12)


def test_a_constant_list_has_no_tau() -> None:
    assert np.isnan(weighted_tau(np.ones(9), np.arange(9.0), np.ones((9, 1)))).all()


def test_is_rsatoolboxs_tau_as_it_was_once() -> None:
    """What version 0.3.2 gave for the data of the test below."""
    rsms = [rsm_of_responses(values[:, None], centred=False) for values in _RESPONSES]
    tau = weighted_tau(pairs_of(rsms[0]), pairs_of(rsms[1]), np.ones((190, 1)))
    assert tau == pytest.approx(_RSATOOLBOX_TAU, abs=1e-12)


@pytest.mark.skipif(not importlib.util.find_spec("rsatoolbox"), reason="rsatoolbox, the oracle, is not installed")
@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_is_rsatoolboxs_tau_of_dissimilarities() -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    rdms = [calc_rdm(Dataset(values), method="correlation") for values in _RESPONSES]
    rsms = [rsm_of_responses(values[:, None], centred=False) for values in _RESPONSES]
    np.testing.assert_allclose(1 - rdms[0].get_matrices()[0], rsms[0], atol=1e-12)
    tau = weighted_tau(pairs_of(rsms[0]), pairs_of(rsms[1]), np.ones((190, 1)))
    assert tau == pytest.approx(compare(*rdms, method="tau-b")[0], abs=1e-12)
    assert tau == pytest.approx(_RSATOOLBOX_TAU, abs=1e-12)
