import numpy as np
import pytest

from timm_lp.experiments.brain.mmv1.metrics import mean_correlation, scores, smoothed

RNG = np.random.default_rng(0)


def test_smoothing_is_the_mean_of_41_bins() -> None:
    values = RNG.normal(size=(100, 2))
    for now in (0, 5, 50, 99):
        near = values[max(0, now - 20) : now + 21]
        assert smoothed(values)[now] == pytest.approx(near.sum(0) / 41)


def test_correlation_is_numpys_mean_over_the_neurons() -> None:
    one, other = RNG.normal(size=(2, 60, 3))
    expected = [np.corrcoef(one[:, neuron], other[:, neuron])[0, 1] for neuron in range(3)]
    assert mean_correlation(one, other) == pytest.approx(np.mean(expected))
    one[:, 0] = 2.5
    assert mean_correlation(one, other) == pytest.approx(np.sum(expected[1:]) / 3)


def test_scores_smoothed_and_raw_counts() -> None:
    spikes, predicted = RNG.poisson(2, (300, 4)).astype(float), RNG.random((300, 4))
    found = scores(predicted, spikes)
    assert found["raw_cc"] == mean_correlation(predicted, spikes)
    assert found["cc"] == mean_correlation(smoothed(predicted), smoothed(spikes))
    assert found["mse"] == pytest.approx(((smoothed(predicted) - smoothed(spikes)) ** 2).mean())
    assert scores(spikes, spikes) == pytest.approx({"cc": 1, "mse": 0, "raw_cc": 1})
