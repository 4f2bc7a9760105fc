from itertools import product, starmap

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from timm_lp.ops import window as window_module
from timm_lp.ops.plain import Geometry
from timm_lp.ops.window import Reach, Window, cropped_geometry, needed_window, output_size, reach_of, support

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


def zeros_but(*taps: tuple[int, ...], value: float = 1.0) -> Tensor:
    kernel = torch.zeros(2, 3, 5, 6)
    for tap in taps:
        kernel[tap] = value
    return kernel


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (zeros_but((0, 0, 2, 3)), (2, 3, 3, 4)),
        (zeros_but((0, 1, 1, 5), (1, 2, 3, 2)), (1, 4, 2, 6)),
        (zeros_but((1, 0, 0, 0), value=-1e-30), (0, 1, 0, 1)),
        (zeros_but((1, 0, 4, 1), value=float("nan")), (4, 5, 1, 2)),
        (zeros_but((0, 0, 3, 3), (1, 0, 4, 1), value=float("nan")), (3, 5, 1, 4)),
        (zeros_but((0, 2, 4, 1), value=float("inf")), (4, 5, 1, 2)),
        (zeros_but((0, 0, 1, 1), value=-0.0), (0, 5, 0, 6)),
        (zeros_but(), (0, 5, 0, 6)),
        (torch.ones(2, 3, 5, 6), (0, 5, 0, 6)),
    ],
    ids=["one", "two", "negative", "nan", "two_nans", "inf", "negative_zero", "zeros", "ones"],
)
def test_support(kernel: Tensor, expected: tuple[int, int, int, int]) -> None:
    assert support(kernel) == expected
    assert support(kernel.requires_grad_()) == expected


def test_crop_is_a_view() -> None:
    kernel = torch.randn(2, 3, 5, 6, generator=seeded())
    assert torch.equal(Window(1, 4, 2, 6).crop(kernel), kernel[:, :, 1:4, 2:6])
    assert Window(1, 4, 2, 6).crop(kernel).untyped_storage().data_ptr() == kernel.data_ptr()
    assert Window(0, 5, 0, 6).crop(kernel) is kernel


def boxes(height: int, width: int, *rings: tuple[int, int]) -> Tensor:
    """Return masks that are 0 in their first and last rows and columns, and some random numbers elsewhere."""
    masks = torch.rand(len(rings), 1, height, width, generator=seeded()) + 0.1
    for mask, (rows, columns) in zip(masks, rings, strict=True):
        inside = torch.zeros(height, width)
        inside[rows : height - rows, columns : width - columns] = 1
        mask *= inside
    return masks


def test_equal_masks_have_no_outlier_channels() -> None:
    found, outliers = reach_of(boxes(7, 9, (1, 2), (1, 2), (1, 2)))
    window = Window(1, 6, 2, 7)
    assert found == Reach(window, window, 0)
    assert outliers is None


def test_few_outlier_channels() -> None:
    rings = [(2, 3)] * 40
    rings[5], rings[17] = (0, 3), (2, 1)
    found, outliers = reach_of(boxes(7, 9, *rings))
    assert found == Reach(Window(0, 7, 1, 8), Window(2, 5, 3, 6), 2)
    assert outliers is not None
    assert outliers.tolist() == [5, 17]


def test_many_outlier_channels_are_not_convolved_twice() -> None:
    found, outliers = reach_of(boxes(7, 7, *[(0, 0)] * 30, *[(1, 1)] * 10))
    assert found == Reach(Window(0, 7, 0, 7), Window(0, 7, 0, 7), 0)
    assert outliers is None


@pytest.mark.parametrize(("height", "width"), [(7, 7), (6, 4), (1, 5), (5, 1)])
def test_the_least_taps(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force over all windows."""
    monkeypatch.setattr(window_module, "ONEDNN_CHANNELS", 4)
    generator = seeded(3)
    sizes = ((height + 1) // 2, (width + 1) // 2)
    for channels in (1, 5, 30):
        rings = [tuple(int(torch.randint(size, (), generator=generator)) for size in sizes) for _ in range(channels)]
        masks = boxes(height, width, *rings)  # type: ignore[arg-type]
        found, outliers = reach_of(masks)
        assert found.support == support(masks)
        outer = (height - 2 * found.support.top) * (width - 2 * found.support.left)

        costs = {}
        for top, left in product(*map(range, sizes)):
            outside = sum(rows < top or columns < left for rows, columns in rings)
            costs[top, left] = channels * (height - 2 * top) * (width - 2 * left) + -(-outside // 4) * 4 * outer
        top, left = found.inner.top, found.inner.left
        assert found.inner == Window(top, height - top, left, width - left)
        assert costs[top, left] == min(costs.values())
        expected = [i for i, (rows, columns) in enumerate(rings) if rows < top or columns < left]
        assert (outliers.tolist() if outliers is not None else []) == expected
        assert found.num_outliers == len(expected)


def test_nan_and_masks_of_nothing() -> None:
    masks = boxes(5, 5, (2, 2), (2, 2), (2, 2))
    masks[1] = 0
    assert reach_of(masks)[0].support == Window(2, 3, 2, 3)
    masks[0, 0, 0, 3] = float("nan")
    masks[0, 0, 4, 1] = float("nan")
    assert reach_of(masks)[0].support == Window(0, 5, 1, 4)
