import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.sampling import draw, draw_coop, draw_nested, num_drawn, short_classes

from ..images import make_split_file

# Numbers of the images that CoOp's published lists of DTD hold of its first and last class (banded, zigzagged): by
# shots and seed, of train and then of val. https://github.com/linzhiqiu/cross_modal_adaptation, folder indices/dtd.
PUBLISHED = {
    (8, 1): (
        ("117 142 147 102 33 106 10 59", "16 117 102 67 124 110 23 62"),
        ("122 8 125 44", "31 127 39 121"),
    ),
    (8, 2): (
        ("49 147 139 141 108 138 118 140", "69 86 46 19 70 113 44 90"),
        ("24 61 114 152", "41 63 32 24"),
    ),
    (8, 3): (
        ("82 90 87 117 138 83 150 86", "26 50 54 129 14 55 115 91"),
        ("53 122 132 145", "64 81 127 121"),
    ),
    (16, 1): (
        (
            "117 142 147 102 33 106 10 59 47 49 36 150 112 74 22 68",
            "101 56 25 69 50 115 93 80 55 67 26 124 98 34 52 68",
        ),
        ("116 24 101 69", "24 17 88 109"),
    ),
    (16, 2): (
        (
            "49 147 139 141 108 138 118 140 58 131 76 10 83 22 102 124",
            "98 25 123 55 131 102 56 67 58 93 45 86 94 76 23 34",
        ),
        ("8 103 73 153", "121 104 95 57"),
    ),
    (16, 3): (
        (
            "82 90 87 117 138 83 150 86 42 106 147 133 118 10 4 67",
            "105 93 16 37 29 26 83 40 131 126 86 94 102 76 36 19",
        ),
        ("103 122 73 21", "43 119 104 17"),
    ),
}

NAMES = ["ant", "bee", "cat"]
LABELS = [i % 3 for i in range(30)]


def test_the_drawn_images_are_nested_and_per_class() -> None:
    eight, four = (draw_nested(LABELS, NAMES, shots, seed=1)[0] for shots in (8, 4))
    assert Counter(LABELS[i] for i in eight) == {0: 8, 1: 8, 2: 8}
    assert set(four) < set(eight)
    assert eight == draw_nested(LABELS, NAMES, 8, seed=1)[0]
    assert eight != draw_nested(LABELS, NAMES, 8, seed=2)[0]


@settings(derandomize=True, deadline=None, database=None)
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


def test_coops_published_lists_are_reproduced() -> None:
    """Its split of DTD has 60 and 24 images of each of 47 classes; a place must be the same image in every list."""
    train, val = ([label for label in range(47) for _ in range(count)] for count in (60, 24))
    images: dict[tuple[str, int], str] = {}
    coincidences = 0
    for (num_shots, seed), lists in PUBLISHED.items():
        for split, labels, places, published in zip(
            ("train", "val"), (train, val), draw_coop(train, val, num_shots, seed), lists, strict=True
        ):
            ours = [place for place in places if labels[place] in (0, 46)]
            theirs = [f"{name} {number}" for name, row in zip("bz", published, strict=True) for number in row.split()]
            for place, image in zip(ours, theirs, strict=True):
                coincidences += (split, place) in images
                assert images.setdefault((split, place), image) == image
    assert len(set(images.values())) == len(images)
    assert coincidences == 75, "places that two lists share"


def test_coop_takes_all_of_a_small_class() -> None:
    assert draw_coop([0, 1, 1, 1], [0], 2, seed=0)[0][0] == 0
    assert len(draw_coop([0, 1, 1, 1], [0], 2, seed=0)[0]) == 3
    assert draw_coop([0, 1, 1, 1], [0], 0, seed=0) == ([0, 1, 2, 3], [0])


@pytest.mark.parametrize(("shots", "expected"), [(0, {}), (2, {"ant": 1, "bee": 0}), (1, {"bee": 0})])
def test_small_classes_are_counted(shots: int, expected: dict[str, int]) -> None:
    assert short_classes([0, 2, 2, 2], ["ant", "bee", "cat"], shots) == expected


def test_drawn_shots_are_of_the_training_pool() -> None:
    data = load_data("digits")
    drawn = draw(data, "nested", 16, seed=3)
    assert set(Counter(drawn.train.own_labels().tolist()).values()) == {16}
    assert set(Counter(drawn.held_out.own_labels().tolist()).values()) == {4}
    assert not set(drawn.train.indices) & (set(data.test.indices) | set(drawn.held_out.indices))
    assert drawn.short == {}
    assert set(draw(data, "nested", 200, seed=3).short) == set(data.train.class_names)
    for shots in (0, 16, 200):
        assert num_drawn(data, shots, 3) == len(draw(data, "nested", shots, 3).train)


def test_coop_needs_its_split_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`sampler` must be nested for digits, got 'coop'"):
        draw(load_data("digits"), "coop", 4, seed=1)
    data = load_data(str(make_split_file(tmp_path, {"train": 5, "val": 3, "test": 2})))
    drawn = draw(data, "coop", 4, seed=1)
    assert (len(drawn.train), len(drawn.held_out)) == (12, 9)
    assert drawn.held_out.sources is data.val.sources
