from typing import Any

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn

from timm_lp.layers import crop_conv2d


def ringed(rings: int | tuple[int, int], **arguments: Any) -> nn.Conv2d:
    """Return a convolution whose outer rings of taps are 0."""
    conv = nn.Conv2d(2, 4, dtype=torch.float64, **arguments)
    top, left = (rings, rings) if isinstance(rings, int) else rings
    height, width = conv.kernel_size
    keep = torch.zeros(height, width, dtype=torch.bool)
    keep[top : height - top, left : width - left] = True
    conv.weight.data *= keep
    return conv


@pytest.mark.parametrize(
    ("conv", "kernel_size", "padding"),
    [
        (ringed(2, kernel_size=7, padding=3), (3, 3), (1, 1)),
        (ringed((0, 1), kernel_size=(4, 5), padding=(1, 2), stride=2), (4, 3), (1, 1)),
        (ringed(2, kernel_size=7, padding=1), (5, 5), (0, 0)),
        (ringed(1, kernel_size=3, padding=3, dilation=2), (1, 1), (1, 1)),
        (ringed(2, kernel_size=6, padding="same", groups=2), (2, 2), "same"),
        (ringed(1, kernel_size=5, padding=2, padding_mode="reflect"), (3, 3), (1, 1)),
        (ringed(1, kernel_size=5, padding=2, padding_mode="circular", bias=False), (3, 3), (1, 1)),
    ],
    ids=["ring", "uneven", "little_padding", "dilated", "same", "reflect", "circular"],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_cropped_computes_the_same(conv: nn.Conv2d, kernel_size: tuple[int, int], padding: Any) -> None:
    before = conv.weight.clone()
    cropped = crop_conv2d(conv)
    x = torch.randn(2, 2, 8, 9, dtype=torch.float64)
    assert (cropped.kernel_size, cropped.padding) == (kernel_size, padding)
    torch.testing.assert_close(cropped(x), conv(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(conv.weight, before)


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(2, 4, 3, padding=1), ringed(1, kernel_size=3, padding="valid"), ringed(1, kernel_size=3)],
    ids=["full", "valid", "no_padding"],
)
def test_nothing_to_crop(conv: nn.Conv2d) -> None:
    assert crop_conv2d(conv) is conv


def test_a_tap_of_one_channel_keeps_its_ring() -> None:
    conv = ringed(1, kernel_size=5, padding=2)
    conv.weight.data[3, 1, 0, 2] = 1e-30
    assert crop_conv2d(conv).kernel_size == (5, 3)


def test_only_plain_convolutions_are_taken() -> None:
    with pytest.raises(TypeError, match=r"`conv` must be an nn.Conv2d without .+ got StdConv2d"):
        crop_conv2d(StdConv2d(2, 2, 3))
