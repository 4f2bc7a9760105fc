"""What is random in corruptions, against slow forms that are given the same draws, and by its statistics."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from timm_lp.experiments.data.corruptions import blur, digital, geometry, noise, weather
from timm_lp.experiments.data.corruptions.draws import Draws
from timm_lp.experiments.data.corruptions.edges import canny
from timm_lp.experiments.data.corruptions.names import SEVERITIES

from .reference import at_the_edge, pictures


def _grey(level: float, count: int = 20) -> tuple[np.ndarray, Draws]:
    images = np.full((count, 32, 32, 3), level)
    tags = np.random.default_rng(0).integers(0, 256, (count, 4), dtype=np.uint8)
    return images, Draws(tags, "test")


def test_gaussian_noise_is_the_same_everywhere() -> None:
    images, draws = _grey(100.0)
    changed = noise.gaussian_noise(images, draws, 0.04) - 100
    assert changed.std() == pytest.approx(0.04 * 255, rel=0.02)
    assert changed.mean() == pytest.approx(0, abs=0.2)


def test_speckle_noise_is_in_proportion_to_the_level() -> None:
    for level in (50.0, 200.0):
        assert noise.speckle_noise(*_grey(level), 0.1).std() == pytest.approx(0.1 * level, rel=0.02)


def test_shot_noise_counts_photons() -> None:
    made = noise.shot_noise(*_grey(127.5), 50)
    counts = made * 50 / 255
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    assert (counts.mean(), counts.var()) == (pytest.approx(25, rel=0.02), pytest.approx(25, rel=0.04))


def test_impulse_noise_sets_a_share_to_black_or_white() -> None:
    made = noise.impulse_noise(*_grey(100.0), 0.07)
    assert np.mean(made == 0) == pytest.approx(0.035, rel=0.1)
    assert np.mean(made == 255) == pytest.approx(0.035, rel=0.1)
    assert np.mean(made == 100) == pytest.approx(0.93, rel=0.01)


@pytest.mark.parametrize("rounds", [1, 2])
def test_glass_blur_takes_the_colours_of_neighbours(rounds: int) -> None:
    """Visited from the last pixel to the first, as the published description does, none is read after it changed."""
    image = pictures(1)
    draws = Draws(image, "glass").integers(-1, 0, (30, 30, 2))[0]
    made = blur.glass_blur(image.astype(np.float64), Draws(image, "glass"), 0.05, rounds)[0]
    expected = image[0].astype(np.float64)
    if rounds == 2:
        steps = Draws(image, "glass")
        moves = [steps.integers(-1, 0, (30, 30, 2))[0] for _ in range(2)]
    else:
        moves = [draws]
    for move in moves:
        for row in range(31, 1, -1):
            for column in range(31, 1, -1):
                right, down = move[row - 2, column - 2]
                expected[row, column] = expected[row + down, column + right]
    np.testing.assert_allclose(made, expected)  # a blur of 0.05 pixels is none


def test_motion_averages_along_a_line() -> None:
    image = pictures(1).astype(np.float64)
    radius, sigma, angle = 6, 1.5, 30.0
    weights = [np.exp(-(step**2) / (2 * sigma**2)) for step in range(2 * radius + 1)]
    expected = np.zeros((32, 32, 3))
    for row in range(32):
        for column in range(32):
            for step, weight in enumerate(weights):
                down = int(np.ceil(step * np.sin(np.pi / 6) - 0.5))
                right = int(np.ceil(step * np.cos(np.pi / 6) - 0.5))
                pixel = image[0, at_the_edge(row + down, 32), at_the_edge(column + right, 32)]
                expected[row, column] += weight / sum(weights) * pixel
    np.testing.assert_allclose(geometry.motion(image, np.array([angle]), radius, sigma)[0], expected, atol=1e-9)


def test_motion_to_the_right_smears_a_point_to_its_left() -> None:
    image = np.zeros((1, 32, 32, 1))
    image[0, 10, 10] = 1
    made = geometry.motion(image, np.array([0.0]), 2, 1.0)[0, :, :, 0]
    weights = np.exp(-(np.arange(5) ** 2) / 2)
    np.testing.assert_allclose(made[10, 6:11], (weights / weights.sum())[::-1])
    assert made.sum() == pytest.approx(1)


@pytest.mark.parametrize(("repeat_edge", "mode"), [(True, "reflect"), (False, "mirror")])
def test_bilinear_is_scipys_interpolation(repeat_edge: bool, mode: str) -> None:
    images = pictures(2).astype(np.float64)
    rows, columns = np.random.default_rng(1).uniform(-9, 40, (2, 2, 32, 32))
    made = geometry.bilinear(images, rows, columns, repeat_edge=repeat_edge)
    for number in range(2):
        for channel in range(3):
            own = map_coordinates(images[number, ..., channel], [rows[number], columns[number]], order=1, mode=mode)
            np.testing.assert_allclose(made[number, ..., channel], own, atol=1e-9)


def test_elastic_transform_moves_three_points_and_all_between() -> None:
    """Where all three move alike, the image moves with them."""
    images = pictures(2).astype(np.float64)

    class Alike(Draws):
        def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            return np.broadcast_to(np.array([2.0, -1.0]), (2, *shape)) if shape == (3, 2) else np.zeros((2, *shape))

    made = digital.elastic_transform(images, Alike(images, ""), 5.0, 2.0, 3.0)
    np.testing.assert_allclose(made[:, :-1, 2:], images[:, 1:, :-2], atol=1e-9)


def test_elastic_transform_shifts_pixels_by_a_field() -> None:
    images = pictures(1).astype(np.float64)

    class Field(Draws):
        def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            if shape == (3, 2):
                return np.zeros((1, *shape))
            return np.stack([np.ones((1, 32, 32)), np.zeros((1, 32, 32))], axis=1)

    made = digital.elastic_transform(images, Field(images, ""), 3.0, 2.0, 3.0)
    np.testing.assert_allclose(made[:, :, :-3], images[:, :, 3:], atol=1e-9)


def test_clouds_are_those_of_the_diamond_square_algorithm() -> None:
    """The first steps by hand: the centre, then the middles of the sides, on a torus of 4x4 pixels."""
    images = pictures(2)
    made = weather.clouds(Draws(images, "clouds"), 4, 2.0)
    noise_of = Draws(images, "clouds").uniform(-1, 1, (15,))
    for cloud, own in zip(made, noise_of, strict=True):
        height = np.zeros((4, 4))
        height[2, 2] = 1e4 * own[0]
        height[0, 2] = height[2, 2] / 2 + 1e4 * own[1]  # the centre counts twice, above and below
        height[2, 0] = height[2, 2] / 2 + 1e4 * own[2]
        finer = 1e4 / 4
        for place, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
            corners = [height[(row + down) % 4, (column + right) % 4] for down in (0, 2) for right in (0, 2)]
            height[row + 1, column + 1] = np.mean(corners) + finer * own[3 + place]
        sides = height.copy()
        for place, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
            for first, (down, right) in ((7, (0, 1)), (11, (1, 0))):
                y, x = row + down, column + right
                four = [height[(y + a) % 4, (x + b) % 4] for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))]
                sides[y, x] = np.mean(four) + finer * own[first + place]
        np.testing.assert_allclose(cloud, (sides - sides.min()) / (sides.max() - sides.min()), atol=1e-9)


def test_fog_keeps_the_brightest_level() -> None:
    images = pictures(2).astype(np.float64)
    made = weather.fog(images, Draws(pictures(2), "fog"), 0.75, 2.5)
    cloud = weather.clouds(Draws(pictures(2), "fog"), 32, 2.5)[..., None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(made, (images + 191.25 * cloud) * brightest / (brightest + 191.25))


def test_it_does_not_snow_where_no_flake_is_bright_enough() -> None:
    images, draws = _grey(100.0, 2)
    made = weather.snow(images, draws, 0.1, 0.2, 1.0, 5.0, 8, 3.0, 0.9)
    np.testing.assert_allclose(made, 0.9 * 100 + 0.1 * (1.5 * 100 + 127.5))


def test_it_snows_from_two_sides() -> None:
    images, draws = _grey(0.0, 2)
    flakes = weather.snow(images, draws, 0.1, 0.2, 1.25, 0.3, 8, 3.0, 1.0)
    assert flakes.max() > 10
    np.testing.assert_allclose(flakes, np.rot90(flakes, 2, axes=(1, 2)))


def test_canny_finds_the_outline_of_a_square() -> None:
    image = np.zeros((2, 12, 12))
    image[0, 4:8, 4:8] = 200
    edges = canny(image, 50, 150)
    assert not edges[1].any()
    assert not edges[0, 5:7, 5:7].any(), "nothing inside"
    assert not edges[0, :3].any()
    assert edges[0, 3:5, 5:7].sum() == edges[0, 7:9, 5:7].sum() == 2, "one line of pixels on each side"
    assert edges[0, 5:7, 3:5].sum() == edges[0, 5:7, 7:9].sum() == 2
    image[0] /= 2000
    assert not canny(image, 50, 150).any(), "no slope is steep enough"


def test_equalize_spreads_levels() -> None:
    image = np.array([[[10.0, 10.0, 20.0, 20.0], [20.0, 30.0, 30.0, 40.0]]])
    # 2 pixels are darkest; of the 6 above, 3, 5 and 6 are up to each level
    expected = [[[0, 0, 128, 128], [128, 212, 212, 255]]]
    np.testing.assert_array_equal(weather.equalize(image), expected)
    np.testing.assert_array_equal(weather.equalize(np.full((1, 2, 2), 7.0)), np.full((1, 2, 2), 7.0))


def test_water_brightens_and_mud_covers() -> None:
    images, draws = _grey(40.0)
    wet = weather.spatter(images, draws, 0.65, 0.3, 1.0, 0.69, 0.5, "water")
    assert (wet >= 40).all()
    assert wet.max(axis=(1, 2, 3)) == pytest.approx(np.full(20, 40 + 0.5 * 238))
    muddy = weather.spatter(images, draws, 0.65, 0.1, 0.5, 0.68, 0.6, "mud")
    assert muddy[..., 0].max() > 50
    assert muddy[..., 2].min() < 30
    dry = weather.spatter(images, draws, 0.1, 0.01, 1.0, 0.69, 0.5, "water")
    np.testing.assert_array_equal(dry, images)


@pytest.mark.parametrize("parameters", SEVERITIES["spatter"])
def test_no_spatter_leaves_the_range_of_its_liquid(parameters: tuple[Any, ...]) -> None:
    """Rounding must not make levels below black on the way, whatever the drops look like."""
    images, draws = _grey(40.0, 1500)
    made = weather.spatter(images, draws, *parameters)
    assert np.isfinite(made).all()
    lowest, highest = (40, 40 + 0.5 * 238) if parameters[-1] == "water" else (20, 63)
    assert lowest <= made.min() < made.max() <= highest + 1e-9


def test_draws_depend_on_image_and_purpose() -> None:
    images = pictures(2)
    images[1, 0, 0, 0] += 1
    one, other = Draws(images, "a"), Draws(images, "b")
    first, second = one.normal((4,)), other.normal((4,))
    assert len({*first[0], *first[1], *second[0], *second[1]}) == 16
    np.testing.assert_array_equal(Draws(images[1:], "a").normal((4,)), first[1:])
    whole = one.integers(-1, 0, (1000,))
    assert sorted(set(whole[0])) == [-1, 0]
