from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from timm_lp.experiments.brain.ceiling import attainable_tau, ceiling_of
from timm_lp.experiments.brain.responses import Area
from timm_lp.experiments.brain.similarity import pairs_of, rsm_of_responses

from .data import small_cortex

AREA = small_cortex().responses.areas["fine"]


def test_is_taken_across_mice() -> None:
    mice = [pairs_of(rsm_of_responses(AREA.responses[:, :, AREA.mice == mouse], True)) for mouse in range(3)]
    taus = [kendalltau(mice[a], mice[b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    ceiling = ceiling_of(AREA, centred=True)
    assert ceiling.kind == "across mice"
    assert ceiling.agreement == pytest.approx(np.median(taus))
    assert ceiling.tau == attainable_tau(ceiling.agreement, 3)


def test_is_taken_between_halves_of_the_trials_of_one_mouse() -> None:
    one = ceiling_of(replace(AREA, mice=np.zeros(36)), centred=True)
    assert one.kind == "halves of trials"
    assert one == ceiling_of(replace(AREA, mice=None), centred=True)
    assert one != ceiling_of(replace(AREA, mice=None), centred=True, seed=1)
    assert one.tau == attainable_tau(one.agreement, 2)


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


@pytest.mark.parametrize("parts", [2, 5])
def test_extrapolates_normal_variables_to_what_the_truth_reaches(parts: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40_000)
    measured = truth + 1.5 * rng.normal(size=(parts, 40_000))
    between_parts = kendalltau(measured[0], measured[1]).statistic
    assert attainable_tau(between_parts, parts) == pytest.approx(
        kendalltau(truth, measured.mean(0)).statistic, abs=0.01
    )
    assert attainable_tau(-0.1, parts) == 0
    assert attainable_tau(1.0, parts) == pytest.approx(1)
