import numpy as np
from scipy.stats import kendalltau

from timm_lp.experiments.brain.ceiling import ceiling_of
from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_responses
from timm_lp.experiments.brain.synthetic import AREAS, synthetic_cortex

from .data import IMAGES, small_cortex


def test_is_that_of_its_seed() -> None:
    one, same, other = (small_cortex(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.responses.images, same.responses.images)
    np.testing.assert_array_equal(one.responses.areas["fine"].responses, same.responses.areas["fine"].responses)
    assert not np.array_equal(one.responses.images, other.responses.images)


def test_says_that_it_is_made_up() -> None:
    responses = small_cortex().responses
    assert responses.synthetic
    assert "no measurement" in responses.source
    assert responses.images.shape == (IMAGES, 32, 32)
    assert [*responses.areas] == [*AREAS]
    assert responses.areas["fine"].responses.shape == (IMAGES, 4, 36)
    assert np.bincount(responses.areas["fine"].mice).tolist() == [12, 12, 12]


def test_its_features_reach_the_ceiling_and_shuffled_ones_do_not() -> None:
    cortex = synthetic_cortex(images=60, size=32)
    for name, area in cortex.responses.areas.items():
        measured = rsm_of_responses(area.responses, True)
        features = rsm_of_responses(cortex.features[name][:, None], True)
        ceiling = ceiling_of(area, centred=True)
        assert ceiling.kind == "across mice"
        tau = kendalltau(pairs_of(measured), pairs_of(features)).statistic
        assert 0.85 < tau / ceiling.tau < 1.1
        assert abs(kendalltau(pairs_of(measured), pairs_of(features[::-1, ::-1])).statistic) < 0.1


def test_its_areas_differ() -> None:
    cortex = synthetic_cortex(images=60, size=32)
    rsms = [pairs_of(rsm_of_responses(features[:, None], True)) for features in cortex.features.values()]
    assert kendalltau(*rsms).statistic < 0.5
