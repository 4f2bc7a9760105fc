from itertools import product

import pytest
import torch
from torch import Tensor

from timm_lp.ops import reach
from timm_lp.ops.reach import Reach, reach_of, support
from timm_lp.ops.window import Window

from ..layers.comparison import seeded


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
    monkeypatch.setattr(reach, "ONEDNN_CHANNELS", 4)
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
