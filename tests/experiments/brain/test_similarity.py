import numpy as np
import pytest

from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_gram, rsm_of_responses


@pytest.mark.parametrize("centred", [True, False])
def test_is_numpys_correlation_of_the_mean_responses(centred: bool) -> None:
    responses = np.random.default_rng(0).normal(3, 1, (9, 4, 25))
    means = responses.mean(1)
    expected = np.corrcoef(means - means.mean(0) if centred else means)
    np.testing.assert_allclose(rsm_of_responses(responses, centred), expected, atol=1e-12)


def test_centring_decides() -> None:
    responses = np.random.default_rng(0).normal(size=(9, 1, 25)) + 5 * np.random.default_rng(1).normal(size=25)
    assert pairs_of(rsm_of_responses(responses, centred=False)).min() > 0.8
    assert abs(pairs_of(rsm_of_responses(responses, centred=True)).mean()) < 0.2


def test_an_image_without_variance_has_no_similarity() -> None:
    activities = np.random.default_rng(0).normal(size=(9, 50)) + 7
    activities[2] = 7
    rsm = rsm_of_gram(activities @ activities.T, activities.sum(1), 50, centred=False)
    assert np.isnan(rsm[2]).all()
    assert np.isnan(rsm).sum() == 17


def test_pairs_stand_below_the_diagonal() -> None:
    assert pairs_of(np.arange(9.0).reshape(3, 3)).tolist() == [3, 6, 7]
