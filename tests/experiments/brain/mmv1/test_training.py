from dataclasses import replace

import numpy as np
import pytest
from accelerate import Accelerator

from timm_lp.experiments.brain.mmv1.synthetic import synthetic_mouse
from timm_lp.experiments.brain.mmv1.training import Settings, mean_correlation, run_trial, scores, smoothed
from timm_lp.trials.record import DivergedError

from .mice import QUICK, small_mouse

RNG = np.random.default_rng(0)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_a_trial_is_that_of_its_seed(accelerator: Accelerator) -> None:
    one, same, other = (run_trial(small_mouse(), "base", seed, QUICK, accelerator) for seed in (0, 0, 1))
    assert one == same
    assert one.losses != other.losses
    assert len(one.losses) == 2
    assert one.train_seconds > 0
    assert one.metrics.keys() == {"cc", "mse", "raw_cc"}


def test_training_ends_after_epochs_without_progress(accelerator: Accelerator) -> None:
    settings = replace(QUICK, epochs=40, patience=2, lr=0.02)
    losses = run_trial(small_mouse(), "behaviour", 0, settings, accelerator).losses
    best = int(np.argmin([validation for _, validation in losses]))
    assert len(losses) == min(settings.epochs, best + 1 + settings.patience)


def test_tests_the_weights_that_were_best_in_validation(accelerator: Accelerator) -> None:
    settings = replace(QUICK, epochs=30, patience=3, lr=0.02)
    long = run_trial(small_mouse(), "behaviour", 0, settings, accelerator)
    best = int(np.argmin([validation for _, validation in long.losses])) + 1
    short = run_trial(small_mouse(), "behaviour", 0, replace(settings, epochs=best), accelerator)
    assert short.metrics == long.metrics


def test_refuses_recordings_that_are_too_short(accelerator: Accelerator) -> None:
    mouse = synthetic_mouse(0, segments=1, train=40, test=5, neurons=3)
    with pytest.raises(ValueError, match="synthetic-0 must have windows of 4 bins, got none for test"):
        run_trial(mouse, "behaviour", 0, QUICK, accelerator)


def test_a_loss_that_is_no_number_ends_the_trial(accelerator: Accelerator) -> None:
    with pytest.raises(DivergedError, match=r"the loss of the validation became (nan|inf) in epoch \d of 2; lower"):
        run_trial(small_mouse(), "behaviour", 0, replace(QUICK, lr=1e30), accelerator)


def test_the_defaults_are_the_published_ones() -> None:
    assert Settings() == Settings(4, 50, 5, 256, 2e-4, 1.0, (128, 64, 32), 512)


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
