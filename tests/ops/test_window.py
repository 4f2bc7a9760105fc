from itertools import product, starmap

import pytest
import torch
import torch.nn.functional as F

from timm_lp.ops.reach import support
from timm_lp.ops.window import Geometry, Window, cropped_geometry, needed_window, output_size

from ..layers.comparison import seeded

DIMENSIONS = list(product((1, 2, 3, 5, 8), (1, 2, 3, 4, 7), (1, 2, 3), (0, 1, 2, 3, 7), (1, 2, 3)))
# The other axis, which a window must not confuse with the first: size, taps, stride, padding, dilation, support.
OTHER = (6, 3, 2, 1, 1, (0, 3))
CONVOLUTIONS = [
    (size, kernel_size, geometry)
    for size, kernel_size, geometry in product(
        [(9, 9), (2, 3), (3, 1)],
        [(5, 5), (4, 3), (7, 6)],
        starmap(Geometry, product([(1, 1), (2, 1), (2, 3)], [(3, 2), (2, 0), (4, 6)], [(1, 1), (2, 1)], [1])),
    )
    if min(output_size(size, kernel_size, geometry)) > 0
]
Axis = tuple[int, int, int, int, int, tuple[int, int]]


def arguments(*axes: Axis) -> tuple[tuple[int, ...], Window, tuple[int, ...], Geometry]:
    size, taps, stride, padding, dilation, within = zip(*axes, strict=True)
    return size, Window(*within[0], *within[1]), taps, Geometry(stride, padding, dilation, 1)


def extents(taps: int) -> list[tuple[int, int]]:
    """Return supports: all of a small kernel, and of a large one some at its ends and in its middle."""
    every = [(start, stop) for start in range(taps) for stop in range(start + 1, taps + 1)]
    return every if taps <= 4 else [e for e in every if e in ((0, taps), (0, 1), (taps - 1, taps), (1, 4), (3, 4))]


def meets_a_pixel(tap: int, size: int, stride: int, padding: int, dilation: int, outputs: int) -> bool:
    return any(0 <= tap * dilation - padding + stride * i < size for i in range(outputs))


@pytest.mark.parametrize("first", [True, False], ids=["rows", "columns"])
def test_no_tap_that_meets_a_pixel_is_left_out(first: bool) -> None:
    seen = 0
    for size, taps, stride, padding, dilation in DIMENSIONS:
        for within in extents(taps):
            axis = (size, taps, stride, padding, dilation, within)
            sizes, whole, kernel_size, geometry = arguments(*((axis, OTHER) if first else (OTHER, axis)))
            outputs = output_size(sizes, kernel_size, geometry)
            if min(outputs) < 1:
                continue
            window = needed_window(sizes, whole, kernel_size, geometry)
            cropped = cropped_geometry(window, geometry)
            rows, columns = (window.top, window.bottom), (window.left, window.right)
            (start, stop), (other_start, other_stop) = (rows, columns) if first else (columns, rows)
            assert 0 <= start < stop <= taps, axis
            assert (other_start, other_stop) == (0, 3)
            assert min(cropped.padding) >= 0, axis
            assert cropped._replace(padding=geometry.padding) == geometry
            needed_size = (window.bottom - window.top, window.right - window.left)
            assert output_size(sizes, needed_size, cropped) == outputs, axis
            for tap in {*range(*within)} - {*range(start, stop)}:
                assert not meets_a_pixel(tap, size, stride, padding, dilation, outputs[0 if first else 1]), axis
            seen += 1
    assert seen > 3000


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ((2, 7, 1, 3, 1, (0, 7)), (2, 5)),
        ((7, 15, 1, 7, 1, (0, 15)), (1, 14)),
        ((1, 7, 1, 3, 1, (0, 7)), (3, 4)),
        ((1, 6, 1, 3, 1, (0, 6)), (2, 4)),  # two outputs, of which each meets the pixel with one tap
        ((20, 7, 1, 3, 1, (0, 7)), (0, 7)),
        ((20, 7, 1, 3, 1, (2, 5)), (2, 5)),
        ((20, 7, 1, 3, 1, (3, 4)), (3, 4)),
        ((20, 7, 1, 0, 1, (3, 4)), (0, 7)),  # without padding, nothing can be taken off on both sides
        ((20, 7, 1, 0, 1, (0, 4)), (0, 7)),
        ((3, 5, 1, 4, 2, (0, 5)), (1, 4)),
    ],
    ids=str,
)
def test_hand_computed(axis: Axis, expected: tuple[int, int]) -> None:
    window = needed_window(*arguments(axis, OTHER))
    assert window == Window(*expected, 0, 3)
    assert needed_window(*arguments(OTHER, axis)) == Window(0, 3, *expected)


def test_the_cropped_kernel_convolves_to_the_same() -> None:
    for size, kernel_size, geometry in CONVOLUTIONS:
        x, kernel = (torch.randn(2, 2, *s, generator=seeded(), dtype=torch.float64) for s in (size, kernel_size))
        alive = torch.zeros(kernel_size, dtype=torch.float64)
        alive[1 : kernel_size[0] - 1, 1 : kernel_size[1] - 1] = 1
        for masked in (kernel, kernel * alive):
            window = needed_window(size, support(masked), kernel_size, geometry)
            output = F.conv2d(x, window.crop(masked), None, *cropped_geometry(window, geometry))
            expected = F.conv2d(x, masked, None, *geometry)
            torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12, msg=f"{size} {kernel_size} {geometry}")


def test_crop_is_a_view() -> None:
    kernel = torch.randn(2, 3, 5, 6, generator=seeded())
    assert torch.equal(Window(1, 4, 2, 6).crop(kernel), kernel[:, :, 1:4, 2:6])
    assert Window(1, 4, 2, 6).crop(kernel).untyped_storage().data_ptr() == kernel.data_ptr()
    assert Window(0, 5, 0, 6).crop(kernel) is kernel
