from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import kendalltau

from timm_lp.experiments.brain.ceiling import Ceiling, attainable_tau, ceiling_of
from timm_lp.experiments.brain.responses import Area
from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_responses

from .data import small_cortex

AREA = small_cortex().responses.areas["fine"]
IMAGES, TRIALS, KINDS = 60, 6, 400  # KINDS of neurons are what an area has


def _tau(one: np.ndarray, other: np.ndarray) -> float:
    return kendalltau(pairs_of(one), pairs_of(other)).statistic


def _ceiling_and_truth(
    neurons: Sequence[int], seed: int, *, trials: int = TRIALS, scales: Sequence[float] = (1,), noise: float = 1.0
) -> tuple[Ceiling, float]:
    """Return the ceiling of mice with so many neurons, and the tau between the area's true similarities and theirs.

    Args:
        neurons: Of each mouse.
        seed: Of everything that is drawn.
        trials: Times that each image is shown.
        scales: Of the mice's responses, by turns.
        noise: Standard deviation of a trial over that of the neurons' true responses.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(IMAGES, 8)) * np.linspace(2, 0.5, 8)
    area = features @ rng.normal(size=(8, KINDS))
    mice = np.repeat(np.arange(len(neurons)), neurons)
    true = area[:, None, rng.integers(KINDS, size=len(mice))] * np.resize(scales, len(neurons))[mice]
    responses = true + noise * area.std() * rng.normal(size=(IMAGES, trials, len(mice)))
    found = _tau(rsm_of_responses(area[:, None], True), rsm_of_responses(responses, True))
    return ceiling_of(Area(responses, mice=mice), centred=True), found


@pytest.mark.parametrize(
    ("neurons", "options"),
    [
        ((40, 40, 40), {}),
        ((20, 60, 300), {}),
        ((30, 200), {}),
        ((5, 10, 20, 40, 80, 160), {}),
        ((100, 100, 3, 3), {}),
        ((12,) * 10, {}),
        ((20, 60, 300), {"trials": 1}),
        ((20, 60, 300), {"trials": 3, "noise": 3.0}),
        ((30, 40, 50, 60), {"scales": (1.0, 1.5, 2.0, 0.5)}),
    ],
)
def test_the_truth_reaches_the_ceiling_across_mice_of_any_size(neurons: tuple[int, ...], options: dict) -> None:
    runs = [_ceiling_and_truth(neurons, seed, **options) for seed in range(4)]
    assert {ceiling.kind for ceiling, _ in runs} == {"across mice"}
    assert np.mean([truth / ceiling.tau for ceiling, truth in runs]) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(
    ("neurons", "options"), [((5, 5, 5, 400), {}), ((3, 300), {}), ((100, 100), {"scales": (10.0, 1.0), "noise": 0.2})]
)
def test_mice_that_are_too_unlike_give_way_to_the_trials(neurons: tuple[int, ...], options: dict) -> None:
    runs = [_ceiling_and_truth(neurons, seed, **options) for seed in range(4)]
    assert {ceiling.kind for ceiling, _ in runs} == {"halves of trials"}
    assert all("% of the signal, so the others are no part to compare with it." in found.reason for found, _ in runs)
    assert 0.85 < np.mean([truth / ceiling.tau for ceiling, truth in runs]) < 1.02
    single, _ = _ceiling_and_truth(neurons, 0, trials=1, **options)
    assert (single.kind, single.tau) == ("none", None)
    assert single.reason


@pytest.mark.parametrize("trials", [2, 3, 5, 12])
@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_the_recorded_neurons_reach_the_ceiling_between_halves_of_trials(trials: int, noise: float) -> None:
    """Much noise leaves more of itself in half of the trials than twice what all of them have."""
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        true = (rng.normal(size=(IMAGES, 8)) * np.linspace(2, 0.5, 8)) @ rng.normal(size=(8, 150))
        responses = true[:, None] + noise * true.std() * rng.normal(size=(IMAGES, trials, 150))
        ceiling = ceiling_of(Area(responses), centred=True)
        assert ceiling.kind == "halves of trials"
        shares.append(_tau(rsm_of_responses(true[:, None], True), rsm_of_responses(responses, True)) / ceiling.tau)
    assert np.mean(shares) == pytest.approx(1, abs=0.08)


def test_the_agreement_across_mice_is_the_papers() -> None:
    mice = [rsm_of_responses(AREA.responses[:, :, AREA.mice == mouse], True) for mouse in range(3)]
    ceiling = ceiling_of(AREA, centred=True)
    assert ceiling.kind == "across mice"
    assert ceiling.agreement == pytest.approx(np.median([_tau(*both) for both in combinations(mice, 2)]))


@pytest.mark.parametrize("agreement", [0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("noise", [(2.0, 2.0), (1.2, 6.0), (3.9, 3.9)])
def test_the_ceiling_solves_its_equation(agreement: float, noise: tuple[float, float]) -> None:
    r = np.sin(np.pi * agreement / 2)
    of_all = np.exp(brentq(lambda log: np.prod([1 + f * np.exp(log) for f in noise]) - 1 / r**2, -30, 30))
    assert attainable_tau(agreement, noise) == pytest.approx(2 / np.pi * np.arcsin((1 + of_all) ** -0.5), rel=1e-6)
    if noise == (2.0, 2.0):
        spearman_brown = np.sqrt(2 * r / (1 + r))
        assert attainable_tau(agreement, noise) == pytest.approx(2 / np.pi * np.arcsin(spearman_brown), rel=1e-9)


def test_extremes_of_the_agreement() -> None:
    assert attainable_tau(-0.1, (2, 2)) == attainable_tau(0.0, (2, 2)) == 0
    assert attainable_tau(1.0, (2, 2)) == pytest.approx(1)


def test_is_taken_between_halves_of_the_trials_of_one_mouse() -> None:
    one = ceiling_of(replace(AREA, mice=np.zeros(36)), centred=True)
    assert one.kind == "halves of trials"
    assert one == ceiling_of(replace(AREA, mice=None), centred=True)
    assert one != ceiling_of(replace(AREA, mice=None), centred=True, seed=1)


def test_a_mouse_with_one_neuron_is_left_out() -> None:
    mice = AREA.mice.copy()
    mice[0] = 9
    assert ceiling_of(replace(AREA, mice=mice), centred=True).kind == "across mice"


def test_is_the_published_one_where_there_is_nothing_to_compare() -> None:
    rsm = rsm_of_responses(AREA.responses, True)
    assert ceiling_of(Area(rsm=rsm, published_ceiling=0.3), centred=True).tau == 0.3
    assert ceiling_of(Area(AREA.responses[:, :1], published_ceiling=0.3), centred=True).kind == "published"
    nothing = ceiling_of(Area(rsm=rsm), centred=True)
    assert (nothing.kind, nothing.tau, nothing.agreement) == ("none", None, None)


@pytest.mark.parametrize("silent", [slice(0, 1), slice(0, 3)])
def test_halves_without_activity_are_no_ceiling(silent: slice) -> None:
    responses = AREA.responses.copy()
    responses[3, silent] = 0
    kind = ceiling_of(Area(responses), centred=False).kind
    assert kind == ("halves of trials" if silent.stop == 1 else "none")
