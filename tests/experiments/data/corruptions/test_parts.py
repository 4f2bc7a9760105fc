"""The parts that corruptions are made of: random numbers, motion, edges, water."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from timm_lp.experiments.data.corruptions.functions import CORRUPTIONS, spatter
from timm_lp.experiments.data.corruptions.resampling import bilinear, motion
from timm_lp.experiments.data.corruptions.textures import Generators, canny, distance, equalize

from . import reference
from .reference import pictures


def _grey(level: float, count: int = 20) -> tuple[np.ndarray, Generators]:
    images = np.full((count, 32, 32, 3), level)
    tags = np.random.default_rng(0).integers(0, 256, (count, 4), dtype=np.uint8)
    return images, Generators(tags, "test")


def test_motion_to_the_right_smears_a_point_to_its_left() -> None:
    image = np.zeros((1, 32, 32, 1))
    image[0, 10, 10] = 1
    made = motion(image, np.array([0.0]), 2, 1.0)[0, :, :, 0]
    weights = np.exp(-(np.arange(5) ** 2) / 2)
    np.testing.assert_array_equal(made[10, 6:11] * 255, np.rint(255 * weights / weights.sum())[::-1])
    assert np.count_nonzero(made) == 4, "the last weight is below half a level"


@pytest.mark.parametrize(("repeat_edge", "mode"), [(True, "reflect"), (False, "mirror")])
def test_bilinear_is_scipys_interpolation(repeat_edge: bool, mode: str) -> None:
    images = pictures(2).astype(np.float64)
    rows, columns = np.random.default_rng(1).uniform(-9, 40, (2, 2, 32, 32))
    made = bilinear(images, rows, columns, repeat_edge=repeat_edge)
    for number in range(2):
        for channel in range(3):
            where = [rows[number], columns[number]]
            expected = map_coordinates(images[number, ..., channel], where, order=1, mode=mode)
            np.testing.assert_allclose(made[number, ..., channel], expected, atol=1e-9)


def test_canny_finds_the_crests_of_slopes() -> None:
    images = gaussian_filter(np.random.default_rng(4).uniform(0, 255, (5, 32, 32)), (0, 1, 1)).astype(np.uint8)
    for low, high in ((20, 60), (50, 150)):
        expected = [reference.canny(image, low, high) for image in images]
        assert 0 < np.sum(expected) < images.size / 2
        np.testing.assert_array_equal(canny(images.astype(np.float64), low, high), expected)


def test_distances_are_lengths_of_ways() -> None:
    """By hand: along a line, across corners, by knight's moves, and both."""
    edges = np.zeros((3, 32, 32), dtype=bool)
    edges[0, 5, 5] = edges[1, 0, 0] = edges[1, 31, 31] = True
    made = distance(edges, 20)
    assert made[0, 5, 5] == 0
    for (row, column), expected in {(5, 12): 7, (9, 9): 5.6, (7, 6): 2.1969, (3, 12): 3 + 2 * 2.1969}.items():
        assert made[0, row, column] == pytest.approx(expected, abs=1e-4)
    assert made[1, 30, 31] == 1
    assert made[1, 0, 31] == 20
    np.testing.assert_array_equal(made[2], np.full((32, 32), 20.0))


def test_equalize_spreads_levels() -> None:
    image = np.array([[[10.0, 10.0, 20.0, 20.0], [20.0, 30.0, 30.0, 40.0]]])
    # 2 pixels are darkest; of the 6 above, 3, 5 and 6 are up to each level
    expected = [[[0, 0, 128, 128], [128, 212, 212, 255]]]
    np.testing.assert_array_equal(equalize(image), expected)
    np.testing.assert_array_equal(equalize(np.full((1, 2, 2), 7.0)), np.full((1, 2, 2), 7.0))


def test_water_brightens_and_mud_covers() -> None:
    images, generators = _grey(0.2)
    wet = spatter(images, generators, 0.65, 0.3, 1.0, 0.69, 0.5, "water")
    assert wet.min() == pytest.approx(0.2)
    assert wet.max(axis=(1, 2, 3)) == pytest.approx(np.full(20, 0.2 + 0.5 * 238 / 255))
    muddy = spatter(images, generators, 0.65, 0.1, 0.5, 0.68, 0.6, "mud")
    assert muddy[..., 0].max() > 50 / 255
    assert muddy[..., 2].min() < 30 / 255
    dry = spatter(images, generators, 0.1, 0.01, 1.0, 0.69, 0.5, "water")
    np.testing.assert_allclose(dry, images, rtol=1e-7)


def test_heights_above_white_start_again_at_black() -> None:
    """As they do where a float becomes a byte: a level of 256 shines as little as one of 0."""
    images, generators = _grey(0.2)
    tall = spatter(images, generators, 0.99, 0.1, 2.0, 0.9, 0.5, "water")
    heights = gaussian_filter(0.99 + 0.1 * _grey(0.2)[1].normal((32, 32)), (0, 2, 2), mode="nearest")
    is_256 = np.floor(255 * heights) == 256
    assert np.count_nonzero(is_256) > 100
    assert tall[is_256] == pytest.approx(0.2)


@pytest.mark.parametrize("arguments", CORRUPTIONS["spatter"].severities)
def test_no_spatter_leaves_the_range_of_its_liquid(arguments: dict[str, Any]) -> None:
    """Rounding must not make levels below black on the way, whatever the drops look like."""
    images, generators = _grey(0.2, 300)
    made = spatter(images, generators, **arguments)
    assert np.isfinite(made).all()
    lowest, highest = (0.2, 0.2 + 0.5 * 238 / 255) if arguments["liquid"] == "water" else (20 / 255, 63 / 255)
    assert lowest - 1e-6 <= made.min() < made.max() <= highest + 1e-6


def test_generators_depend_on_image_and_purpose() -> None:
    images = pictures(2)
    images[1, 0, 0, 0] += 1
    one, other = Generators(images, "a"), Generators(images, "b")
    first, second = one.normal((4,)), other.normal((4,))
    assert len({*first[0], *first[1], *second[0], *second[1]}) == 16
    np.testing.assert_array_equal(Generators(images[1:], "a").normal((4,)), first[1:])
    whole = one.integers(-1, 0, (1000,))
    assert sorted(set(whole[0])) == [-1, 0]


def test_random_numbers_have_their_distributions() -> None:
    _, generators = _grey(0.5)
    normal, uniform = generators.normal((32, 32)), generators.uniform(-45, 45, (32, 32))
    assert (normal.mean(), normal.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, rel=0.02))
    assert (uniform.mean(), uniform.std()) == (pytest.approx(0, abs=0.7), pytest.approx(90 / 12**0.5, rel=0.02))
    events = generators.poisson(np.full((20, 32, 32), 25.0))
    assert (events.mean(), events.var()) == (pytest.approx(25, rel=0.02), pytest.approx(25, rel=0.04))
