from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from timm_lp.ops import dense, depthwise, matmul, operators, pointwise, taps
from timm_lp.ops.masked_kernel import Range, block_ranges
from timm_lp.ops.operators import Operators, choose_operators, torch_is_fast
from timm_lp.ops.window import Geometry, output_size

from ..covering import covering
from ..layers.comparison import seeded

LAST = torch.channels_last
WHOLE = ((0, 0), (0, 0))
FAMILIES = {
    "dense": Operators(dense.convolve, dense.input_gradient, dense.kernel_gradient, *WHOLE),
    "dense_last": Operators(
        dense.convolve, dense.input_gradient, partial(dense.kernel_gradient, memory_format=LAST), *WHOLE, LAST
    ),
    "depthwise": Operators(depthwise.convolve, depthwise.input_gradient, depthwise.kernel_gradient, *WHOLE),
    "matmul": Operators(matmul.convolve, matmul.input_gradient, matmul.kernel_gradient, *WHOLE),
    "matmul_last": Operators(
        partial(matmul.convolve, memory_format=LAST),
        partial(matmul.input_gradient, memory_format=LAST),
        partial(matmul.kernel_gradient, memory_format=LAST),
        *WHOLE,
        LAST,
    ),
    "pointwise": Operators(pointwise.convolve, pointwise.input_gradient, pointwise.kernel_gradient, *WHOLE),
    "taps": Operators(taps.convolve, taps.input_gradient, taps.kernel_gradient, *WHOLE, LAST),
}
# Size of the input, of the kernel, stride, padding, dilation.
GEOMETRIES = {
    "3x3": ((5, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    "small_map": ((2, 3), (7, 7), (1, 1), (3, 3), (1, 1)),
    "one_pixel": ((1, 1), (5, 5), (1, 1), (2, 2), (1, 1)),
    "even": ((5, 6), (4, 2), (1, 1), (2, 1), (1, 1)),
    "15x15": ((9, 5), (15, 15), (1, 1), (7, 7), (1, 1)),
    "stride": ((7, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
    "stride_uneven": ((7, 8), (3, 2), (1, 2), (1, 0), (1, 1)),
    "rows_left_over": ((9, 10), (2, 2), (4, 4), (0, 0), (1, 1)),
    "dilation": ((6, 7), (3, 3), (1, 1), (2, 2), (2, 2)),
    "dilation_uneven_stride": ((8, 9), (3, 2), (2, 3), (3, 1), (3, 1)),
    "more_padding_than_kernel": ((3, 4), (3, 2), (1, 1), (4, 3), (1, 1)),
    "one_tap": ((4, 5), (1, 1), (1, 1), (0, 0), (1, 1)),
    "one_tap_padding": ((4, 5), (1, 1), (1, 1), (1, 0), (1, 1)),
    "one_tap_stride_padding": ((4, 5), (1, 1), (2, 1), (0, 1), (1, 1)),
}
# In and out channels, groups.
CHANNELS = {"dense": (3, 5, 1), "one_channel": (1, 1, 1), "one_to_five": (1, 5, 1), "five_to_one": (5, 1, 1)}
MEMORY_FORMATS = ["contiguous", "channels_last", "strided"]
GROUPED = {"depthwise": (4, 4, 4), "groups": (4, 6, 2), "multiplier": (2, 6, 2)}


def exists(family: str, geometry: str, channels: str, **rest: str) -> bool:
    """Tell whether a family convolves such channels in such a geometry."""
    if family == "pointwise" and geometry != "one_tap":
        return False
    if family == "depthwise":
        return channels in ("depthwise", "one_channel")
    return channels in CHANNELS or family.startswith("dense")


def in_format(tensor: Tensor, memory_format: str) -> Tensor:
    if memory_format == "channels_last":
        return tensor.contiguous(memory_format=LAST)
    if memory_format == "strided":
        return torch.stack([tensor, tensor], dim=-1)[..., 0]
    return tensor


@covering(
    2,
    keep=exists,
    family=[*FAMILIES],
    geometry=GEOMETRIES,
    channels=CHANNELS | GROUPED,
    memory_format=MEMORY_FORMATS,
)
def test_operators_match_torch(
    family: str, geometry: Any, channels: tuple[int, int, int], memory_format: str
) -> None:
    size, kernel_size, *rest = geometry
    in_channels, out_channels, groups = channels
    geometry, family_operators = Geometry(*rest, groups), FAMILIES[family]
    generator = seeded()

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    kernel = draw(out_channels, in_channels // groups, *kernel_size)
    shape = tuple(kernel.shape)
    for images, bias, step in [(1, None, out_channels), (3, draw(out_channels), out_channels), (3, None, 2)]:
        step = out_channels if groups > 1 else step
        block = (out_channels, step) if family == "taps" else (step, kernel_size[0])
        parts = block_ranges(out_channels, kernel_size[0], block)
        kernel_format = family_operators.memory_format or torch.contiguous_format
        blocks = [(part, part.of(kernel).contiguous(memory_format=kernel_format)) for part in parts]
        x = in_format(draw(images, in_channels, *size), memory_format)
        leaves = [x.clone().requires_grad_(), kernel.clone().requires_grad_()]
        expected = F.conv2d(*leaves, bias, *geometry)
        grad_output = in_format(draw(*expected.shape), memory_format)
        before = [tensor.clone() for tensor in (x, grad_output, *(block for _, block in blocks))]

        output = family_operators.convolve(x, iter(blocks), bias, shape, geometry)
        grad_x = family_operators.input_gradient(grad_output, iter(blocks), tuple(x.shape), shape, geometry)
        grads = family_operators.kernel_gradient(x, grad_output, shape, iter(parts), geometry)
        grad_kernel = torch.cat([grad.clone() for grad in grads], dim=2 if family == "taps" else 0)

        values = [output, grad_x, grad_kernel]
        references = [expected.detach(), *torch.autograd.grad(expected, leaves, grad_output)]
        for name, value, reference in zip(["output", "input", "kernel"], values, references, strict=True):
            torch.testing.assert_close(
                value, reference, rtol=1e-10, atol=1e-10, msg=lambda m, n=name, i=images: f"{n} of {i} images: {m}"
            )
        for tensor, old in zip((x, grad_output, *(block for _, block in blocks)), before, strict=True):
            assert torch.equal(tensor, old)


@pytest.mark.parametrize("family", ["dense", "depthwise", "matmul", "pointwise", "taps"])
def test_an_expanded_output_gradient(family: str) -> None:
    kernel = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    x = torch.arange(12, dtype=torch.float64).view(2, 1, 2, 3)
    grad_output = torch.ones((), dtype=torch.float64).expand(2, 1, 2, 3)
    geometry = Geometry((1, 1), (0, 0), (1, 1), 1)
    parts = block_ranges(1, 1, (1, 1))
    input_gradient = FAMILIES[family].input_gradient
    grad_x = input_gradient(grad_output, [(parts[0], kernel)], tuple(x.shape), (1, 1, 1, 1), geometry)
    (grad_kernel,) = FAMILIES[family].kernel_gradient(x, grad_output, (1, 1, 1, 1), parts, geometry)
    assert torch.equal(grad_x, torch.ones_like(x))
    assert grad_kernel.item() == 66


# Size of the input, shape of the kernel, padding, groups, stride, strided, channels_last, families of the output, the
# input's gradient and the kernel's gradient.
CHOICES = {
    "depthwise_large_padding": ((2, 32, 28, 28), (32, 1, 15, 15), 7, 32, 1, False, False, "depthwise"),
    "depthwise_last": ((2, 32, 28, 28), (32, 1, 15, 15), 7, 32, 1, False, True, "depthwise"),
    "depthwise_small": ((2, 32, 28, 28), (32, 1, 7, 7), 3, 32, 1, False, False, "depthwise"),
    "depthwise_6_pixels": ((2, 32, 28, 28), (32, 1, 13, 13), 6, 32, 1, True, False, "depthwise"),
    "depthwise_small_last": ((2, 32, 28, 28), (32, 1, 7, 7), 3, 32, 2, False, True, "depthwise"),
    "depthwise_3x3": ((2, 32, 28, 28), (32, 1, 3, 3), 1, 32, 1, False, False, "depthwise depthwise dense"),
    "one_channel": ((2, 1, 28, 28), (1, 1, 7, 7), 3, 1, 1, False, False, "depthwise"),
    "multiplier": ((2, 32, 28, 28), (64, 1, 15, 15), 7, 32, 1, False, False, "dense"),
    "grouped": ((2, 32, 7, 7), (512, 8, 7, 7), 3, 4, 1, True, False, "dense"),
    "many_positions": ((2, 64, 28, 28), (64, 64, 7, 7), 3, 1, 1, False, False, "dense"),
    "many_positions_cropped": ((2, 64, 28, 28), (64, 64, 7, 7), 3, 1, 1, True, True, "dense"),
    "few_positions": ((1, 512, 14, 14), (512, 512, 7, 7), 3, 1, 2, False, False, "dense dense matmul"),
    "few_positions_cropped": ((1, 512, 2, 2), (512, 512, 3, 3), 1, 1, 1, True, False, "matmul"),
    "few_positions_last": ((1, 512, 2, 2), (512, 512, 3, 3), 1, 1, 1, False, True, "matmul"),
    "few_positions_at_the_limit": ((1, 512, 16, 16), (512, 512, 3, 3), 1, 1, 1, True, True, "matmul"),
    "more_positions": ((1, 510, 16, 16), (510, 510, 3, 3), 1, 1, 1, True, True, "dense"),
    "few_positions_by_stride": ((1, 64, 8, 8), (512, 64, 3, 3), 1, 1, 2, False, False, "dense dense matmul"),
    "small_map": ((32, 128, 4, 4), (128, 128, 7, 7), 3, 1, 1, False, True, "taps"),
    "small_map_contiguous": ((32, 128, 4, 4), (128, 128, 7, 7), 3, 1, 1, False, False, "taps"),
    "small_map_few_images": ((15, 128, 4, 4), (128, 128, 7, 7), 3, 1, 1, False, True, "dense"),
    "small_map_few_channels": ((32, 127, 4, 4), (128, 127, 7, 7), 3, 1, 1, False, True, "dense"),
    "small_map_few_positions": ((16, 256, 2, 2), (256, 256, 3, 3), 1, 1, 1, False, True, "taps"),
    "strided_map": ((32, 128, 8, 8), (128, 128, 7, 7), 3, 1, 2, False, True, "taps"),
    "map_of_8": ((32, 128, 8, 8), (128, 128, 7, 7), 3, 1, 1, False, True, "dense"),
    "256_channels": ((4, 256, 7, 7), (256, 256, 7, 7), 3, 1, 1, False, True, "taps"),
    "256_channels_gradient": ((8, 256, 8, 8), (256, 256, 5, 5), 2, 1, 1, False, True, "dense dense taps"),
    "256_channels_9x9": ((4, 256, 14, 14), (256, 256, 9, 9), 4, 1, 1, False, True, "taps"),
    "256_channels_dense": ((4, 256, 14, 14), (256, 256, 7, 7), 3, 1, 1, False, True, "dense"),
    "512_channels": ((4, 512, 7, 7), (512, 512, 7, 7), 3, 1, 1, True, True, "taps"),
    "blocks_contiguous": ((4, 256, 7, 7), (256, 256, 11, 11), 5, 1, 1, False, False, "dense"),
    "512_channels_contiguous": ((8, 512, 7, 7), (512, 512, 7, 7), 3, 1, 1, True, False, "dense"),
    "512_channels_one_image": ((1, 512, 7, 7), (512, 512, 7, 7), 3, 1, 1, True, True, "taps"),
    "512_channels_gradient": ((8, 512, 7, 7), (512, 512, 3, 3), 1, 1, 1, False, True, "dense dense taps"),
    "large_kernel": ((4, 128, 28, 28), (128, 128, 15, 15), 7, 1, 1, False, False, "taps"),
    "large_kernel_gradient": ((4, 64, 24, 24), (64, 64, 15, 15), 7, 1, 1, False, False, "dense dense taps"),
    "large_kernel_of_a_stem": ((4, 3, 64, 64), (64, 3, 23, 23), 11, 1, 1, False, False, "dense"),
    "1x1": ((2, 32, 8, 8), (64, 32, 1, 1), 0, 1, 1, False, False, "pointwise"),
    "1x1_cropped": ((2, 32, 8, 8), (64, 32, 1, 1), 0, 1, 1, True, False, "pointwise"),
    "1x1_last": ((2, 32, 8, 8), (64, 32, 1, 1), 0, 1, 1, False, True, "dense"),
    "1x1_stride": ((2, 32, 16, 16), (64, 32, 1, 1), 0, 1, 2, False, False, "dense"),
    "1x1_padded": ((2, 32, 8, 8), (64, 32, 1, 1), 1, 1, 1, False, False, "dense"),
    "1x1_few_pixels": ((4, 32, 7, 7), (64, 32, 1, 1), 0, 1, 1, False, False, "dense"),
    "1x1_few_positions": ((1, 32, 2, 2), (64, 32, 1, 1), 0, 1, 1, False, False, "dense dense matmul"),
}


def family_of(operator: Any) -> str:
    return getattr(operator, "func", operator).__module__.rsplit(".", 1)[1]


@pytest.mark.parametrize(
    ("size", "shape", "padding", "groups", "stride", "strided", "channels_last", "families"),
    CHOICES.values(),
    ids=CHOICES,
)
def test_choice(
    size: tuple[int, ...],
    shape: tuple[int, ...],
    padding: int,
    groups: int,
    stride: int,
    strided: bool,
    channels_last: bool,
    families: str,
) -> None:
    geometry = Geometry((stride,) * 2, (padding,) * 2, (1, 1), groups)
    chosen = choose_operators(size, shape, geometry, torch.float32, strided=strided, channels_last=channels_last)
    expected = families.split() if " " in families else [families] * 3
    assert [family_of(operator) for operator in chosen[:3]] == expected
    contiguous = torch.contiguous_format
    formats = {"matmul": LAST if strided else contiguous, "taps": LAST}
    assert chosen.memory_format == formats.get(expected[0])
    for block, operator in [(chosen.block, expected[0]), (chosen.gradient_block, expected[2])]:
        assert block[1] == (1 if operator == "taps" and channels_last else shape[2])
        assert block[0] >= shape[0] or block[1] == shape[2]
    if groups > 1:
        assert chosen.block == chosen.gradient_block == (shape[0], shape[2])


@pytest.mark.parametrize(
    ("numbers", "out_channels", "expected"),
    [(1, 16, [16]), (1, 33, [16, 16, 1]), (32 * 18, 65, [32, 32, 1]), (40 * 18, 40, [40]), (39 * 18, 33, [33])],
    ids=str,
)
def test_blocks(numbers: int, out_channels: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_BLOCK_BYTES", 4 * numbers)
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    chosen = choose_operators(
        (9, 2, 9, 9), (out_channels, 2, 3, 3), geometry, torch.float32, strided=False, channels_last=False
    )
    blocks = block_ranges(out_channels, 3, chosen.block)
    assert [part.channels.stop - part.channels.start for part in blocks] == expected
    assert all(part.rows == slice(0, 3) for part in blocks)


@pytest.mark.parametrize(
    ("size", "taps", "groups", "dtype", "expected"),
    [
        ((4, 64, 28, 28), 15, 1, torch.float32, LAST),
        ((4, 64, 28, 28), 15, 4, torch.float32, LAST),
        ((4, 64, 28, 28), 14, 1, torch.float32, None),
        ((4, 63, 28, 28), 15, 1, torch.float32, None),
        ((4, 64, 28, 27), 15, 1, torch.float32, None),
        ((4, 64, 28, 28), 15, 1, torch.float64, None),
        ((4, 64, 28, 28), 15, 4, torch.bfloat16, None),
    ],
)
def test_large_kernels_are_convolved_in_channels_last(
    size: tuple[int, ...], taps: int, groups: int, dtype: torch.dtype, expected: torch.memory_format | None
) -> None:
    geometry = Geometry((1, 1), (taps // 2,) * 2, (1, 1), groups)
    shape = (64, size[1] // groups, taps, taps)
    chosen = choose_operators(size, shape, geometry, dtype, strided=False, channels_last=False)
    assert chosen.memory_format is expected
    if family_of(chosen.kernel_gradient) == "dense":
        assert getattr(chosen.kernel_gradient, "keywords", {}).get("memory_format") is expected


@pytest.mark.parametrize(("taps", "expected"), [(7, 64), (9, 128), (21, 128)])
def test_blocks_of_large_kernels_are_not_too_few_channels_for_onednn(taps: int, expected: int) -> None:
    geometry, shape = Geometry((1, 1), (taps // 2,) * 2, (1, 1), 1), (512, 1024, taps, taps)
    chosen = choose_operators((4, 1024, 99, 99), shape, geometry, torch.float32, strided=False, channels_last=False)
    assert chosen.block == (expected, taps)


@covering(2, kernel_size=[(13, 13), (3, 12), (11, 15), (15, 11), (13, 10)], dilation=[1, 2], stride=[1, 2])
def test_a_depthwise_kernel_with_added_columns_matches_torch(
    kernel_size: tuple[int, int], dilation: int, stride: int
) -> None:
    padding = tuple(dilation * (taps // 2) for taps in kernel_size)
    geometry = Geometry((stride, stride), padding, (dilation, dilation), 4)
    x, kernel, bias = (torch.randn(shape, generator=seeded()) for shape in [(2, 4, 9, 8), (4, 1, *kernel_size), (4,)])
    leaves = [tensor.double().requires_grad_() for tensor in (x, kernel)]
    expected = F.conv2d(*leaves, bias.double(), *geometry)
    grad_output = torch.randn(expected.shape, generator=seeded(1))
    (grad_x,) = torch.autograd.grad(expected, leaves[:1], grad_output.double())
    x, grad_output = in_format(x, "channels_last"), in_format(grad_output, "channels_last")

    shape = tuple(kernel.shape)
    chosen = choose_operators(tuple(x.shape), shape, geometry, torch.float32, strided=False, channels_last=True)
    block = (Range(slice(0, 4), slice(0, kernel_size[0])), kernel.clone())
    output = chosen.convolve(x, [block], bias, shape, geometry)
    of_x = chosen.input_gradient(grad_output, [block], tuple(x.shape), shape, geometry)
    torch.testing.assert_close(output.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(of_x.double(), grad_x, rtol=1e-5, atol=1e-5)
    assert torch.equal(block[1], kernel)


@pytest.mark.parametrize("geometry_arguments", GEOMETRIES.values(), ids=GEOMETRIES)
def test_the_share_of_taps_that_meet_a_pixel(geometry_arguments: tuple[Any, ...]) -> None:
    size, kernel_size, stride, padding, dilation = geometry_arguments
    geometry = Geometry(stride, padding, dilation, 1)
    met = F.conv2d(torch.ones(1, 1, *size), torch.ones(1, 1, *kernel_size), None, *geometry)
    share = taps.share_of_taps(size, kernel_size, geometry)
    assert share == pytest.approx(met.mean().item() / (kernel_size[0] * kernel_size[1]))


def test_single_taps_in_channels_last_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 3, 4, 4)
    last = in_format(x, "channels_last")
    assert torch_is_fast(last)
    assert not torch_is_fast(x)
    assert not torch_is_fast(last[0])
    for native in (True, False):
        monkeypatch.setattr(operators, "computes_in_bfloat16", lambda native=native: native)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch_is_fast(last) is native


@covering(
    2,
    name=["few_positions", "few_positions_cropped", "few_positions_last", "1x1"],
    strided=[False, True],
    channels_last=[False, True],
)
def test_choice_in_bfloat16(name: str, strided: bool, channels_last: bool) -> None:
    size, shape, padding, groups, stride, *_ = CHOICES[name]
    geometry = Geometry((stride,) * 2, (padding,) * 2, (1, 1), groups)
    chosen = choose_operators(size, shape, geometry, torch.bfloat16, strided=strided, channels_last=channels_last)
    gradient = "dense" if name == "1x1" else "matmul"
    assert [family_of(operator) for operator in chosen[:3]] == ["dense", "dense", gradient]
    assert chosen.memory_format is None


@covering(
    2, channels=CHANNELS | GROUPED, geometry=GEOMETRIES, strided=[False, True], channels_last=[False, True]
)
def test_what_is_chosen_matches_torch(
    channels: tuple[int, int, int],
    geometry: Any,
    strided: bool,
    channels_last: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_BLOCK_BYTES", "_MANY_TAPS_CHANNELS", "ONEDNN_CHANNELS", "_POINTWISE_PIXELS"):
        monkeypatch.setattr(operators, name, 1)
    for name in ("_TAP_NUMBERS", "_TAP_PRODUCTS"):
        monkeypatch.setattr(operators, name, 1)
    size, kernel_size, *rest = geometry
    in_channels, out_channels, groups = channels
    geometry = Geometry(*rest, groups)
    x, kernel = (
        torch.randn(shape, generator=seeded(), dtype=torch.float64, requires_grad=True)
        for shape in [(1, in_channels, *size), (out_channels, in_channels // groups, *kernel_size)]
    )
    expected = F.conv2d(x, kernel, None, *geometry)
    assert output_size(size, kernel_size, geometry) == expected.shape[2:]
    shape = tuple(kernel.shape)
    grad_output = torch.randn(expected.shape, generator=seeded(1), dtype=torch.float64)
    references = [expected.detach(), *torch.autograd.grad(expected, (x, kernel), grad_output)]
    with torch.no_grad():
        chosen = choose_operators(
            tuple(x.shape), tuple(kernel.shape), geometry, torch.float64, strided=strided, channels_last=channels_last
        )
        parts, gradient_parts = (
            block_ranges(out_channels, kernel_size[0], block) for block in (chosen.block, chosen.gradient_block)
        )
        last = LAST if channels_last else torch.contiguous_format
        blocks = [(part, part.of(kernel).contiguous(memory_format=chosen.memory_format or last)) for part in parts]
        x = x.contiguous(memory_format=last)
        output = chosen.convolve(x, iter(blocks), None, shape, geometry)
        grad_x = chosen.input_gradient(grad_output, iter(blocks), tuple(x.shape), shape, geometry)
        grads = chosen.kernel_gradient(x, grad_output, tuple(kernel.shape), iter(gradient_parts), geometry)
        grad_kernel = torch.empty_like(kernel)
        for part, grad in zip(gradient_parts, grads, strict=True):
            part.of(grad_kernel).copy_(grad)
        values = [output, grad_x, grad_kernel]
    for value, reference in zip(values, references, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)
