import numpy as np
import pytest
from scipy.stats import kendalltau

from timm_lp.experiments.brain.alignment import Alignment, Samples, align, sample_images
from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_responses

N = 12


def _rsm(seed: int) -> np.ndarray:
    return rsm_of_responses(np.random.default_rng(seed).normal(size=(N, 1, 9)), centred=True)


LAYERS = {f"layer{n}": _rsm(n) for n in range(3)}
AREAS = {"one": 0.8 * _rsm(2) + 0.2 * _rsm(10), "other": _rsm(11)}


@pytest.fixture(scope="module")
def samples() -> Samples:
    return sample_images(N, resamples=20, splits=4, permutations=6, seed=3)


@pytest.fixture(scope="module")
def alignment(samples: Samples) -> Alignment:
    return align(LAYERS, AREAS, samples)


def _tau(layer: str, area: str, images: np.ndarray) -> float:
    """Return the tau of images that may repeat, pair by pair; none of an image and itself."""
    pairs = [(a, b) for n, a in enumerate(images) for b in images[:n] if a != b]
    return kendalltau(*([rsm[pair] for pair in pairs] for rsm in (LAYERS[layer], AREAS[area]))).statistic


def test_tau_is_scipys_of_each_layer_and_area(alignment: Alignment) -> None:
    assert (alignment.layers, alignment.areas) == ([*LAYERS], [*AREAS])
    for layer, row in zip(LAYERS, alignment.tau, strict=True):
        for area, tau in zip(AREAS, row, strict=True):
            assert tau == pytest.approx(kendalltau(pairs_of(LAYERS[layer]), pairs_of(AREAS[area])).statistic, abs=1e-12)


def test_samples_leave_out_pairs_of_an_image_with_itself(alignment: Alignment) -> None:
    rng = np.random.default_rng(3)
    for sample, counts in enumerate(rng.multinomial(N, np.full(N, 1 / N), size=20)):
        images = np.repeat(np.arange(N), counts)
        assert len(images) == N
        assert alignment.resampled[1, 0, sample] == pytest.approx(_tau("layer1", "one", images), abs=1e-12)


def test_halves_have_no_image_in_common(samples: Samples, alignment: Alignment) -> None:
    one, other = np.tril_indices(N, -1)
    for split in range(4):
        halves = []
        for side in range(2):
            weights = samples.weights[:, 1 + 20 + 2 * split + side]
            images = np.union1d(one[weights > 0], other[weights > 0])
            assert alignment.halves[2, 1, split, side] == pytest.approx(_tau("layer2", "other", images), abs=1e-12)
            halves.append(images)
        assert sorted(np.concatenate(halves)) == list(range(N))


def test_shuffles_are_the_same_for_all_layers_and_areas(samples: Samples, alignment: Alignment) -> None:
    assert sorted(samples.permutations[0]) == list(range(N))
    for shuffle, order in enumerate(samples.permutations):
        expected = kendalltau(pairs_of(LAYERS["layer1"]), pairs_of(AREAS["other"][np.ix_(order, order)])).statistic
        assert alignment.shuffled[1, 1, shuffle] == pytest.approx(expected, abs=1e-12)


def test_the_best_layer_of_each_area(alignment: Alignment) -> None:
    assert alignment.best[0] == 2
    assert alignment.best_tau.tolist() == [alignment.tau[2, 0], alignment.tau[:, 1].max()]
    np.testing.assert_array_equal(alignment.best_resampled[0], alignment.resampled[2, 0])
    np.testing.assert_array_equal(alignment.best_resampled[1], alignment.resampled[alignment.best[1], 1])


def test_the_layer_is_chosen_on_one_half_and_scored_on_the_other(alignment: Alignment) -> None:
    for area in range(2):
        for split in range(4):
            chosen = alignment.halves[:, area, split, 0].argmax()
            assert alignment.held_out[area, split] == alignment.halves[chosen, area, split, 1]


def test_chance_is_that_of_the_best(alignment: Alignment) -> None:
    best = [max(alignment.shuffled[:, area, s]) for area in range(2) for s in range(6)]
    assert alignment.null == pytest.approx(np.quantile(best, 0.95))
    maxima = [alignment.shuffled[:, :, s].max() for s in range(6)]
    assert alignment.null_of_maximum == pytest.approx(np.quantile(maxima, 0.95))


def test_samples_are_those_of_the_seed(samples: Samples) -> None:
    same, other = (sample_images(N, resamples=20, splits=4, permutations=6, seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(same.weights, samples.weights)
    assert not np.array_equal(other.weights, samples.weights)
