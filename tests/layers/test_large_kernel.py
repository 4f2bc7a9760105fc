import copy
from typing import Any

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn

from timm_lp.layers import crop_conv2d, embed_kernel, large_kernel_size, large_padding, to_large_conv2d


@pytest.mark.parametrize(
    ("kernel_size", "expected"),
    [
        ((1, 1), (3, 3)),
        ((2, 2), (4, 4)),
        ((3, 3), (7, 7)),
        ((4, 4), (8, 8)),
        ((5, 5), (11, 11)),
        ((7, 7), (15, 15)),
        ((11, 11), (23, 23)),
        ((1, 7), (3, 15)),
        ((4, 3), (8, 7)),
    ],
    ids=str,
)
def test_large_kernel_size(kernel_size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert large_kernel_size(kernel_size) == expected
    assert large_kernel_size(kernel_size, 1) == kernel_size


@pytest.mark.parametrize("kernel_scale", [0, -1, 3, 1.5, "2", None])
def test_bad_kernel_scale(kernel_scale: Any) -> None:
    message = rf"`kernel_scale` must be 1 or 2, got {kernel_scale!r}\. Use 2 for the paper's kernels"
    with pytest.raises(ValueError, match=message):
        large_kernel_size((3, 3), kernel_scale)
    with pytest.raises(ValueError, match=message):
        to_large_conv2d(nn.Conv2d(1, 1, 3), kernel_scale)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"kernel_size": 3, "padding": 1}, (3, 3)),
        ({"kernel_size": 1}, (1, 1)),
        ({"kernel_size": 7, "padding": 3, "stride": 2}, (7, 7)),
        ({"kernel_size": 4, "stride": 4}, (2, 2)),
        ({"kernel_size": (1, 7), "padding": (0, 3)}, (1, 7)),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, (6, 6)),
        ({"kernel_size": 3, "padding": (0, 1), "dilation": (3, 1)}, (6, 3)),
        ({"kernel_size": 3, "padding": "valid", "dilation": (1, 2)}, (2, 4)),
        ({"kernel_size": 3, "padding": "same", "dilation": 2}, "same"),
        ({"kernel_size": 4, "padding": "same"}, "same"),
    ],
    ids=str,
)
def test_large_padding(arguments: dict[str, Any], expected: str | tuple[int, int]) -> None:
    conv = nn.Conv2d(1, 1, **arguments)
    assert large_padding(conv, large_kernel_size(conv.kernel_size)) == expected
    assert large_padding(conv, conv.kernel_size) == conv.padding


def test_embed_kernel_puts_zeros_around() -> None:
    weight = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    expected = [[[[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]], [[[0, 0, 0, 0], [0, 3, 4, 0], [0, 0, 0, 0]]]]
    assert embed_kernel(weight, (3, 4)).tolist() == expected
    assert torch.equal(embed_kernel(weight, (1, 2)), weight)


@pytest.mark.parametrize("kernel_size", [(4, 5), (5, 6), (1, 3), (3, 1)], ids=str)
def test_embed_kernel_needs_an_even_border(kernel_size: tuple[int, int]) -> None:
    message = r"`kernel_size` must exceed the kernel's \(3, 3\) by an even number of pixels, got .+`large_kernel_size`"
    with pytest.raises(ValueError, match=message):
        embed_kernel(torch.zeros(2, 1, 3, 3), kernel_size)


# torch tells that it copies the input for "same" with an even kernel; that is what the caller asked for.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("kernel_scale", [1, 2])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 1, "stride": 2, "bias": False},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 4, "stride": 4},
        {"kernel_size": (1, 7), "padding": (0, 3)},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
        {"kernel_size": 3, "padding": "valid", "dilation": (1, 2)},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 2)},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 2, "padding": 1, "padding_mode": "replicate"},
        {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
    ],
    ids=str,
)
def test_to_large_conv2d_is_the_same_function(arguments: dict[str, Any], kernel_scale: int) -> None:
    conv = nn.Conv2d(4, 6, **arguments, dtype=torch.float64)
    before, state = copy.deepcopy(conv.state_dict()), torch.get_rng_state()
    large = to_large_conv2d(conv, kernel_scale)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in conv.state_dict().items())
    assert type(large) is nn.Conv2d
    assert large.kernel_size == large_kernel_size(conv.kernel_size, kernel_scale)
    x = torch.randn(2, 4, 10, 11, dtype=torch.float64)
    torch.testing.assert_close(large(x), conv(x), rtol=1e-12, atol=1e-12)


def test_to_large_conv2d_takes_over_what_training_knows() -> None:
    conv = nn.Conv2d(2, 3, 3, device="meta", dtype=torch.bfloat16).eval()
    conv.bias.requires_grad_(False)
    large = to_large_conv2d(conv)
    assert large.weight.is_meta
    assert large.weight.dtype == torch.bfloat16
    assert large.weight.requires_grad
    assert not large.bias.requires_grad
    assert not large.training
    assert to_large_conv2d(conv.train()).training


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


@pytest.mark.parametrize(
    ("tap", "kernel_size"), [((0, 2), (5, 3)), ((4, 2), (5, 3)), ((2, 0), (3, 5)), ((2, 4), (3, 5))], ids=str
)
def test_a_tap_of_one_channel_keeps_its_ring(tap: tuple[int, int], kernel_size: tuple[int, int]) -> None:
    conv = ringed(1, kernel_size=5, padding=2)
    conv.weight.data[3, 1, tap[0], tap[1]] = 1e-30
    assert crop_conv2d(conv).kernel_size == kernel_size


def test_only_plain_convolutions_are_cropped() -> None:
    with pytest.raises(TypeError, match=r"`conv` must be an nn.Conv2d without .+ got StdConv2d"):
        crop_conv2d(StdConv2d(2, 2, 3))
