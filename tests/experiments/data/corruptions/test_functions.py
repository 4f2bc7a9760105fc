"""Corrupted images, against the published steps in a slow form and against what the published code made."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from timm_lp.experiments.data.corruptions.functions import (
    CORRUPTIONS,
    computable,
    corrupt,
    corruption,
    gaussian_blur,
    is_common,
)
from timm_lp.experiments.data.corruptions.resampling import disk
from timm_lp.experiments.data.corruptions.textures import Generators

from .reference import ORACLES, gaussian_average, jpeg_block, levels, pictures

RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur"),
    *("snow", "fog", "spatter", "elastic_transform"),
}
STEPS = [1, 2, 3, 4, 5]

# By how much rounding may move a level, where a level that is a whole number but for that may then be rounded down: not
# at all where each step is the same operation, a little where sums have another order or numbers have 32 bits.
ROUNDING = {
    **dict.fromkeys(("gaussian_blur", "glass_blur", "defocus_blur", "fog", "contrast"), 1e-9),
    **dict.fromkeys(("zoom_blur", "snow", "spatter", "elastic_transform"), 1e-4),
}

# Sums of all levels of two pictures, with the same random numbers, as the published code makes them (its
# make_cifar_c.py with scikit-image 0.26, SciPy 1.17, Pillow 13.0, OpenCV 4.5.5 and ImageMagick 6.9.9-50 with 16 bits).
PUBLISHED = {
    "gaussian_noise": (638068, 637667, 638894, 641326, 639305),
    "shot_noise": (636370, 636384, 634378, 630347, 632303),
    "impulse_noise": (640339, 646847, 645598, 646516, 653694),
    "defocus_blur": (639185, 639181, 639247, 639065, 639524),
    "glass_blur": (629287, 624022, 627883, 611884, 609293),
    "motion_blur": (646876, 653062, 659450, 660887, 663162),
    "zoom_blur": (627054, 630150, 629645, 631365, 631722),
    "snow": (708451, 779111, 791667, 900343, 1047857),
    "fog": (674888, 727213, 717681, 731326, 635266),
    "brightness": (686930, 731872, 773031, 811194, 877831),
    "contrast": (637299, 637614, 637851, 637610, 637699),
    "elastic_transform": (633484, 634345, 629552, 637055, 637495),
    "pixelate": (640818, 640958, 641019, 641238, 641548),
    "jpeg_compression": (641929, 640440, 641569, 641577, 641272),
    "speckle_noise": (636097, 634647, 632242, 630706, 627055),
    "gaussian_blur": (638725, 638887, 638589, 638722, 638405),
    "spatter": (644690, 660396, 688751, 624652, 623244),
    "saturate": (878901, 947432, 552439, 511366, 495241),
}


def test_the_corruptions_are_those_of_the_paper_but_frost() -> None:
    assert [sum(map(is_common, CORRUPTIONS)), len(CORRUPTIONS)] == [15, 19]
    assert set(CORRUPTIONS) - set(computable()) == {"frost"}
    assert list(PUBLISHED) == computable() == computable(224)
    assert all(len(CORRUPTIONS[name].imagenet) == 5 for name in CORRUPTIONS)
    assert ORACLES.keys() == PUBLISHED.keys()
    assert all(len(CORRUPTIONS[name].severities) == 5 for name in PUBLISHED)


@pytest.mark.parametrize("name", computable())
def test_each_is_made_in_the_published_steps(name: str) -> None:
    """Whatever other images are made beside an image; other libraries may round a value in a thousand otherwise."""
    images, sums = pictures(2), []
    rounding = ROUNDING.get(name, 0)
    for severity in STEPS:
        made = corrupt(images, name, severity)
        assert (made.dtype, made.shape) == (np.uint8, images.shape)
        assert (made != images).any()
        np.testing.assert_array_equal(corrupt(images[1:], name, severity), made[1:])
        expected = np.stack([levels(image, name, severity) for image in images])
        lowest, highest = (np.floor(np.clip(expected + off, 0, 255)) for off in (-rounding, rounding))
        assert ((lowest <= made) & (made <= highest)).all()
        sums.append(int(made.sum(dtype=np.int64)))
    np.testing.assert_array_equal(images, pictures(2), "the images themselves stay")
    np.testing.assert_allclose(sums, PUBLISHED[name], rtol=0, atol=0.05 * 6144 if name == "jpeg_compression" else 20)


def test_what_is_random_differs_between_images() -> None:
    images = pictures(2)
    images[1] = images[0]
    images[1, 31, 31] ^= 1
    for name in RANDOM:
        changed = (corrupt(images, name, 4).astype(int) - images)[:, :30, :30]
        assert (changed[0] != changed[1]).any(), name


def test_levels_are_rounded_down_as_floats_of_64_bits_have_them() -> None:
    """81 and a fifth of white are 132, but in fractions of white 131.99999999999997."""
    assert (81 / 255 + 0.2) * 255 < 132
    grey = np.full((1, 32, 32, 3), 81, dtype=np.uint8)
    assert corrupt(grey, "brightness", 4)[0, 0, 0].tolist() == [131, 131, 131]
    pixel = np.full((1, 32, 32, 3), (200, 100, 50), dtype=np.uint8)  # 200 + 12.75, and the others by the same factor
    assert corrupt(pixel, "brightness", 1)[0, 0, 0].tolist() == [212, 106, 53]


def test_contrast_shrinks_the_distance_from_the_mean() -> None:
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[:, :16] = (200, 100, 40)  # the means are 100, 50 and 20
    made = corrupt(image, "contrast", 5)[0]
    np.testing.assert_allclose(made[0, 0], [115, 57.5, 23], atol=1)
    np.testing.assert_allclose(made[31, 31], [85, 42.5, 17], atol=1)


def test_gaussian_blur_averages_with_a_gaussian() -> None:
    image = pictures(1)
    for arguments in CORRUPTIONS["gaussian_blur"].severities:
        made = gaussian_blur(image / 255, Generators(image, ""), **arguments)[0]
        np.testing.assert_allclose(made, gaussian_average(image[0] / 255, arguments["sigma"]), atol=1e-12)


def test_the_defocus_kernels() -> None:
    """A point softened by a 3x3 Gaussian, and the disks of radius 1 (5 pixels) and 1.5 (9 pixels)."""
    side = np.exp(-1 / (2 * 0.4**2))
    line = np.array([side, 1, side]) / (1 + 2 * side)
    np.testing.assert_allclose(disk(0.3, 0.4), np.outer(line, line), rtol=1e-6)
    np.testing.assert_allclose(np.rint(5 * disk(1.0, 0.01)[1:-1, 1:-1]), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    np.testing.assert_allclose(disk(1.5, 0.01)[1:-1, 1:-1], np.full((3, 3), 1 / 9), rtol=1e-6)
    for arguments in CORRUPTIONS["defocus_blur"].severities:
        assert disk(**arguments).sum() == pytest.approx(1)


def test_jpeg_compression_quantizes_cosines() -> None:
    grey = pictures(1)[0, ..., :1].repeat(3, axis=-1)
    for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
        made = corrupt(grey[None], "jpeg_compression", severity)[0].astype(int)
        compared = 0
        for row, column in product(range(0, 32, 8), repeat=2):
            block = np.s_[row : row + 8, column : column + 8, 0]
            expected = jpeg_block(grey[block].astype(float), quality)
            if expected is not None:
                assert np.abs(made[block] - expected).max() <= 1  # libjpeg computes in integers
                compared += 1
        assert compared > 2


def test_refuses_what_it_has_no_severities_for() -> None:
    with pytest.raises(ValueError, match=r"`corruption` must be one of gaussian_noise, .*, got 'frost'\."):
        corrupt(pictures(), "frost", 1)
    with pytest.raises(ValueError, match=r"`severity` must be from 1 to 5, got 0\."):
        corrupt(pictures(), "fog", 0)
    for images in (pictures().astype(np.float32), pictures()[:, :16], pictures()[0]):
        with pytest.raises(
            ValueError, match=r"`images` must be uint8 of shape \(N, 32, 32, 3\), or .* 64, got (uint8|float32) of"
        ):
            corrupt(images, "fog", 1)
    with pytest.raises(ValueError, match=r"`parameters` must have 5 values each, got 4\. Add the others\."):
        corruption("extra", level=(1, 2, 3, 4))


def test_what_command_lines_read_needs_no_slow_import() -> None:
    code = "import sys, timm_lp.experiments.data.corruptions; assert not {'numpy', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_frost_is_a_part_of_a_photograph() -> None:
    """At CIFAR's size one pixel of 5x5 is seen, the middle one."""
    photograph = np.zeros((600, 700, 3), dtype=np.uint8)
    photograph[2::5, 2::5] = np.random.default_rng(0).integers(0, 255, (120, 140, 3))
    images = pictures(2)
    made = corrupt(images, "frost", 3, [photograph])
    for image, frosted in zip(images, made, strict=True):
        (u, v) = Generators(image[None], "frost 3 ").uniform(0, 1, (3,))[0, 1:]
        top, left = int(u * (120 - 32)), int(v * (140 - 32))
        part = photograph[2::5, 2::5][top : top + 32, left : left + 32].astype(float)
        difference = frosted - np.floor(np.clip(0.9 * image + 0.4 * part, 0, 255))
        assert np.abs(difference).max() <= 1  # where a whole number is rounded down
    large = corrupt(np.zeros((1, 64, 64, 3), np.uint8), "frost", 1, [np.full((80, 90, 3), 100, np.uint8)])
    assert (large == 40).all()


@pytest.mark.parametrize("severity", STEPS)
def test_glass_of_a_large_image_takes_colours_one_after_the_other(severity: int) -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    sigma, reach, rounds = [(0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)][severity - 1]
    generators = Generators(image[None], f"glass_blur {severity} ")
    seen = np.floor(gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest", truncate=4) * 255)
    for _ in range(rounds):
        offsets = generators.integers(-reach, reach - 1, (64 - 2 * reach, 64 - 2 * reach, 2))[0]
        for row in range(64 - reach, reach, -1):
            for column in range(64 - reach, reach, -1):
                across, down = offsets[row - reach - 1, column - reach - 1]
                seen[row, column] = seen[row + down, column + across]
    expected = gaussian_filter(seen / 255, (sigma, sigma, 0), mode="nearest", truncate=4) * 255
    made = corrupt(image[None], "glass_blur", severity)[0]
    lowest, highest = (np.floor(np.clip(expected + off, 0, 255)) for off in (-1e-9, 1e-9))
    assert ((lowest <= made) & (made <= highest)).all()


@pytest.mark.parametrize(("radius", "size"), [(3, 17), (6, 17), (8, 17), (10, 21)])
def test_large_disks_are_as_published(radius: int, size: int) -> None:
    """Softened within the published array alone, whose edge mirrors."""
    index = np.arange(size) - size // 2
    inside = (index[:, None] ** 2 + index**2 <= radius**2).astype(float)
    reach = 1 if radius <= 8 else 2
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * 0.5**2))
    expected, padded = np.zeros((size, size)), np.pad(inside / inside.sum(), reach, mode="reflect")
    for down, across in product(range(2 * reach + 1), repeat=2):
        share = weights[down] * weights[across] / weights.sum() ** 2
        expected += share * padded[down : down + size, across : across + size]
    kernel = disk(radius, 0.5)
    margin = (size - len(kernel)) // 2
    np.testing.assert_allclose(np.pad(kernel, margin), expected, atol=1e-8)


def test_every_corruption_of_a_large_image_is_seeded_and_grows() -> None:
    """From severity to severity the images differ more, on average over 1 to 2 and 4 to 5."""
    images = np.stack([np.kron(image, np.ones((2, 2, 1), np.uint8)) for image in pictures(2)])
    for name in computable(64):
        distances = [np.abs(corrupt(images, name, severity).astype(float) - images).mean() for severity in (1, 2, 4, 5)]
        if name not in {"elastic_transform", "saturate", "fog"}:  # their severities are of several kinds
            assert sum(distances[:2]) < sum(distances[2:]), name
        made = corrupt(images, name, 1)
        assert made.shape == images.shape
        np.testing.assert_array_equal(corrupt(images[1:], name, 1), made[1:], err_msg=name)
