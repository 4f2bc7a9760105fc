import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timm_lp.fewshot.sampling import draw_coop, draw_nested, short_classes

NAMES = ["ant", "bee", "cat"]
LABELS = [i % 3 for i in range(30)]


def test_the_drawn_images_are_nested_and_per_class() -> None:
    eight, four = (draw_nested(LABELS, NAMES, shots, seed=1)[0] for shots in (8, 4))
    assert Counter(LABELS[i] for i in eight) == {0: 8, 1: 8, 2: 8}
    assert set(four) < set(eight)
    assert eight == draw_nested(LABELS, NAMES, 8, seed=1)[0]
    assert eight != draw_nested(LABELS, NAMES, 8, seed=2)[0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 12), st.integers(0, 9))
def test_draws_are_nested_and_their_held_out_images_apart(labels: list[int], shots: int, seed: int) -> None:
    names = [str(label) for label in range(5)]
    drawn, held_out = draw_nested(labels, names, shots, seed)
    counts = Counter(labels)
    assert Counter(labels[i] for i in drawn) == {label: min(count, shots) for label, count in counts.items()}
    assert set(draw_nested(labels, names, shots - 1 or 1, seed)[0]) <= set(drawn)
    assert not set(drawn) & set(held_out)
    most = {label: min(max(count - shots, 0), shots, 4) for label, count in counts.items()}
    assert Counter(labels[i] for i in held_out) == {label: count for label, count in most.items() if count}


def test_a_class_does_not_depend_on_the_others() -> None:
    alone = draw_nested([0] * 10, ["cat"], 4, seed=3)[0]
    labels = [1] * 10 + [0] * 5
    both = draw_nested(labels, ["ant", "cat"], 4, seed=3)[0]
    assert [i for i in both if labels[i] == 1] == alone


def test_no_shots_are_all_images_and_a_fifth_is_held_out() -> None:
    drawn, held_out = draw_nested(LABELS, NAMES, 0, seed=1)
    assert sorted(drawn) == list(range(30))
    assert Counter(LABELS[i] for i in held_out) == {0: 2, 1: 2, 2: 2}
    assert set(held_out) < set(drawn)


def test_coop_is_drawn_as_its_code_draws() -> None:
    """Dassl groups the items by label, in order of appearance, and samples each group with the global generator."""
    train = [2, 0, 1, 2, 0, 1, 2, 0, 1, 1, 1, 2, 0]
    val = [1, 0, 2] * 6

    def sample(labels: list[int], count: int) -> list[int]:
        tracker = defaultdict(list)
        for i, label in enumerate(labels):
            tracker[label].append(i)
        return [i for items in tracker.values() for i in random.sample(items, count)]

    for seed in (1, 2, 3):
        random.seed(seed)
        expected = sample(train, 3), sample(val, 3)
        assert draw_coop(train, val, 3, seed) == expected
    random.seed(1)
    sample(train, 4)
    assert draw_coop(train, val, 4, 1)[1] == sample(val, 4)


def test_known_draws_of_coop() -> None:
    """Written down once, so that a change of Python's generator or of ours shows."""
    assert draw_coop([0] * 20 + [1] * 20, [0] * 8 + [1] * 8, 4, seed=1) == (
        [4, 18, 2, 8, 23, 35, 34, 38],
        [6, 7, 1, 0, 15, 8, 11, 13],
    )


def test_coop_takes_all_of_a_small_class() -> None:
    assert draw_coop([0, 1, 1, 1], [0], 2, seed=0)[0][0] == 0
    assert len(draw_coop([0, 1, 1, 1], [0], 2, seed=0)[0]) == 3
    assert draw_coop([0, 1, 1, 1], [0], 0, seed=0) == ([0, 1, 2, 3], [0])


@pytest.mark.parametrize(("shots", "expected"), [(0, {}), (2, {"ant": 1, "bee": 0}), (1, {"bee": 0})])
def test_small_classes_are_counted(shots: int, expected: dict[str, int]) -> None:
    assert short_classes([0, 2, 2, 2], ["ant", "bee", "cat"], shots) == expected
