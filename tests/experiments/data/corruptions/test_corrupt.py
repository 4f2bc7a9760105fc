"""Corrupted images, pixel by pixel, against slow forms and values that were computed by hand."""

from typing import Any

import numpy as np
import pytest

from timm_lp.experiments.data.corruptions.blur import defocus_kernel
from timm_lp.experiments.data.corruptions.corrupt import FUNCTIONS, corrupt
from timm_lp.experiments.data.corruptions.draws import Draws
from timm_lp.experiments.data.corruptions.names import COMMON, COMPUTED, CORRUPTIONS, EXTRA, SEVERITIES

from .reference import (
    at_the_edge,
    box_line,
    convolve,
    gaussian,
    hsv,
    jpeg_block,
    mirrored,
    pictures,
    zoomed,
)

RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur"),
    *("snow", "fog", "spatter", "elastic_transform"),
}
STEPS = [1, 2, 3, 4, 5]


def _levels(name: str, severity: int, images: np.ndarray | None = None) -> np.ndarray:
    """Return the levels before they are rounded down, where rounding in floats would decide."""
    images = pictures() if images is None else images
    draws: Any = Draws(images, f"{name} {severity} ")
    return FUNCTIONS[name](images.astype(np.float64), draws, *SEVERITIES[name][severity - 1])


def test_the_corruptions_are_those_of_the_paper_but_frost() -> None:
    assert (len(COMMON), len(EXTRA), len(CORRUPTIONS)) == (15, 4, 19)
    assert set(CORRUPTIONS) - set(COMPUTED) == {"frost"}
    assert set(FUNCTIONS) == set(COMPUTED) == set(SEVERITIES)
    assert all(len(severities) == 5 for severities in SEVERITIES.values())


@pytest.mark.parametrize("severity", STEPS)
@pytest.mark.parametrize("name", COMPUTED)
def test_each_changes_images_and_depends_on_each_image_alone(name: str, severity: int) -> None:
    images = pictures(4)
    made = corrupt(images, name, severity)
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    assert (made != images).any()
    np.testing.assert_array_equal(corrupt(images[2:3], name, severity), made[2:3])
    np.testing.assert_array_equal(corrupt(images[::-1], name, severity), made[::-1])
    assert images[0, 0, 0, 0] == pictures()[0, 0, 0, 0], "the images themselves stay"


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_what_is_random_differs_between_images_and_severities(name: str) -> None:
    images = pictures(2)
    images[1] = images[0]
    images[1, 31, 31] ^= 1
    changed = (corrupt(images, name, 4).astype(int) - images)[:, :30, :30]
    assert (changed[0] != changed[1]).any()


@pytest.mark.parametrize("severity", STEPS)
def test_brightness_raises_the_value(severity: int) -> None:
    (amount,) = SEVERITIES["brightness"][severity - 1]
    expected = [hsv(image, lambda h, s, v: (h, s, min(v + amount, 1))) for image in pictures()]
    np.testing.assert_allclose(_levels("brightness", severity), expected, atol=1e-9)
    pixel = np.full((1, 32, 32, 3), (200, 100, 50), dtype=np.uint8)
    if severity == 1:  # 200 + 12.75, and the others by the same factor
        assert corrupt(pixel, "brightness", 1)[0, 0, 0].tolist() == [212, 106, 53]


@pytest.mark.parametrize("severity", STEPS)
def test_saturate_scales_the_saturation(severity: int) -> None:
    factor, amount = SEVERITIES["saturate"][severity - 1]
    expected = [hsv(image, lambda h, s, v: (h, min(max(s * factor + amount, 0), 1), v)) for image in pictures()]
    np.testing.assert_allclose(_levels("saturate", severity), expected, atol=1e-9)


@pytest.mark.parametrize("severity", STEPS)
def test_contrast_shrinks_the_distance_from_the_mean(severity: int) -> None:
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[:, :16] = (200, 100, 40)  # the means are 100, 50 and 20
    (factor,) = SEVERITIES["contrast"][severity - 1]
    made = _levels("contrast", severity, image)[0]
    np.testing.assert_allclose(made[0, 0], [100 + 100 * factor, 50 + 50 * factor, 20 + 20 * factor])
    np.testing.assert_allclose(made[31, 31], [100 - 100 * factor, 50 - 50 * factor, 20 - 20 * factor])


@pytest.mark.parametrize("severity", STEPS)
def test_gaussian_blur_averages_with_a_gaussian(severity: int) -> None:
    (sigma,) = SEVERITIES["gaussian_blur"][severity - 1]
    image = pictures(1)
    expected = convolve(image[0], gaussian(sigma), at_the_edge)
    np.testing.assert_allclose(_levels("gaussian_blur", severity, image)[0], expected, atol=1e-9)


def test_the_defocus_kernels() -> None:
    """A point softened by a 3x3 Gaussian, and the disks of radius 1 (5 pixels) and 1.5 (9 pixels)."""
    side = np.exp(-1 / (2 * 0.4**2))
    line = np.array([side, 1, side]) / (1 + 2 * side)
    np.testing.assert_allclose(defocus_kernel(0.3, 0.4), np.outer(line, line), atol=1e-15)
    np.testing.assert_allclose(np.rint(5 * defocus_kernel(1.0, 0.01)[1:-1, 1:-1]), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    np.testing.assert_allclose(defocus_kernel(1.5, 0.01)[1:-1, 1:-1], np.full((3, 3), 1 / 9))
    for parameters in SEVERITIES["defocus_blur"]:
        assert defocus_kernel(*parameters).sum() == pytest.approx(1)


@pytest.mark.parametrize("severity", [1, 4, 5])
def test_defocus_blur_averages_with_a_softened_disk(severity: int) -> None:
    image = pictures(1)
    expected = convolve(image[0], defocus_kernel(*SEVERITIES["defocus_blur"][severity - 1]), mirrored)
    np.testing.assert_allclose(_levels("defocus_blur", severity, image)[0], expected, atol=1e-9)


@pytest.mark.parametrize("severity", STEPS)
def test_zoom_blur_averages_the_enlarged_image(severity: int) -> None:
    steps = [7, 12, 16, 21, 26][severity - 1]
    for image, made in zip(pictures(), _levels("zoom_blur", severity), strict=True):
        expected = image.astype(np.float64)
        for step in range(steps):
            expected = expected + zoomed(image.astype(np.float64), 1 + step / 100)
        np.testing.assert_allclose(made, expected / (steps + 1), atol=1e-6)


@pytest.mark.parametrize(("severity", "size"), [(1, 30), (2, 28), (3, 27), (4, 24), (5, 20)])
def test_pixelate_shrinks_and_enlarges_with_a_box(severity: int, size: int) -> None:
    def both_ways(image: np.ndarray, to: int) -> np.ndarray:
        across = np.array([box_line(line, to) for line in image.tolist()])
        return np.array([box_line(line, to) for line in across.T.tolist()]).T

    image = pictures(1)
    made = corrupt(image, "pixelate", severity)[0]
    for channel in range(3):
        np.testing.assert_array_equal(made[..., channel], both_ways(both_ways(image[0, ..., channel], size), 32))


@pytest.mark.parametrize(("severity", "quality"), [(1, 80), (2, 65), (3, 58), (4, 50), (5, 40)])
def test_jpeg_compression_quantizes_cosines(severity: int, quality: int) -> None:
    grey = pictures(1)[0, ..., :1].repeat(3, axis=-1)
    made = corrupt(grey[None], "jpeg_compression", severity)[0].astype(int)
    compared = 0
    for row in range(0, 32, 8):
        for column in range(0, 32, 8):
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
            ValueError, match=r"`images` must be uint8 of shape \(N, 32, 32, 3\), got (uint8|float32) of"
        ):
            corrupt(images, "fog", 1)
