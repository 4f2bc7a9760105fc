import numpy as np
import pytest

from timm_lp.experiments.brain.alignment import Alignment
from timm_lp.experiments.brain.groups import Aligned, groups_of, interval_of


def _aligned(group: str, seed: int | None, tau: list[list[float]], held_out: float = 0.0) -> Aligned:
    shape = len(tau), len(tau[0])
    resampled = np.array(tau)[..., None] + np.arange(-2, 3) / 10
    halves = np.full((*shape, 3, 2), held_out)
    shuffled = np.full((*shape, 4), held_out / 10)
    alignment = Alignment(["a", "b"][: shape[0]], ["x", "y"], np.array(tau), resampled, halves, shuffled)
    return Aligned(f"{group} {seed}", group, seed, seed is None, alignment)


def test_takes_the_seeds_of_a_network_together() -> None:
    members = [
        _aligned("net", 0, [[0.1, 0.5], [0.3, 0.2]], 0.2),
        _aligned("pixels", None, [[0.0, 0.1]]),
        _aligned("net", 1, [[0.2, 0.3], [0.1, 0.4]], 0.4),
    ]
    net, pixels = groups_of(members)
    assert (net.name, net.baseline, pixels.name, pixels.baseline) == ("net", False, "pixels", True)
    assert net.areas == ["x", "y"]
    assert [*net.alignments] == [0, 1]
    assert net.best_taus.tolist() == [[0.3, 0.5], [0.2, 0.4]]
    assert net.maxima.tolist() == [0.5, 0.4]
    assert net.best_layers("x") == ["b", "a"]
    assert net.best_layers("y") == ["a", "b"]
    assert net.where_maximal() == ["a, y", "b, y"]
    assert net.held_out == pytest.approx([0.3, 0.3])
    assert net.chance() == pytest.approx((0.03, 0.03))
    low, high = net.interval
    assert low == pytest.approx(np.array([0.25, 0.45]) - 0.19)
    assert high == pytest.approx(np.array([0.25, 0.45]) + 0.19)
    assert pixels.best_layers("y") == ["a"]


def test_an_interval_holds_95_percent() -> None:
    low, high = interval_of(np.arange(201.0)[None])
    assert (low[0], high[0]) == pytest.approx((5, 195))
