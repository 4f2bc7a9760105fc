import pytest
import torch

from timm_lp.ops import masked_kernel
from timm_lp.ops.masked_kernel import MaskedKernel, Range, block_ranges, channel_ranges
from timm_lp.ops.window import Window

from ..covering import covering
from ..layers.comparison import seeded
from .shapes import CONTIGUOUS, FORMATS


def windows(shape: tuple[int, ...]) -> list[Window]:
    height, width = shape[2:]
    return [Window(0, height, 0, width)] + ([Window(1, 3, 0, 5), Window(2, 4, 2, 3)] if height > 1 else [])


@covering(
    2,
    block_size=[(1, 9), (2, 9), (5, 9), (9, 1), (9, 2), (2, 2)],
    chunk_bytes=[1, 2**19],
    shape=[(5, 3, 4, 6), (5, 1, 4, 6), (1, 3, 4, 6), (4, 2, 1, 1)],
    memory_format=FORMATS,
    weight_format=FORMATS,
)
def test_products_and_their_gradients(
    block_size: tuple[int, int],
    chunk_bytes: int,
    shape: tuple[int, ...],
    memory_format: torch.memory_format,
    weight_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masked_kernel, "_CHUNK_BYTES", chunk_bytes)
    generator = seeded()
    weight, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = weight.contiguous(memory_format=weight_format)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=generator, dtype=torch.float64)
    for window in windows(shape):
        kernel = MaskedKernel(weight, mask, window, False, memory_format, weight.dtype)
        product = window.crop(weight * mask)
        assert kernel.shape == product.shape
        ranges = block_ranges(shape[0], window.size[0], block_size)
        seen = 0
        for part, block in kernel.blocks(ranges):
            assert torch.equal(block, product[part.channels, :, part.rows])
            assert block.is_contiguous(memory_format=memory_format)
            seen += block.numel()
        assert seen == product.numel()

        inside = torch.zeros_like(weight)
        window.crop(inside).fill_(1)
        for needs_weight in (False, True):
            for needs_mask in (False, True):
                grads = (part.of(window.crop(grad)).clone(memory_format=memory_format) for part in ranges)
                grad_weight, grad_mask = kernel.gradients(grads, ranges, needs_weight, needs_mask)
                assert (grad_weight is not None, grad_mask is not None) == (needs_weight, needs_mask)
                if grad_weight is not None:
                    torch.testing.assert_close(grad_weight, grad * mask * inside)
                    assert grad_weight.stride() == weight.stride()
                if grad_mask is not None:
                    torch.testing.assert_close(grad_mask, (grad * weight * inside).sum(dim=1, keepdim=True))


def test_a_mask_that_is_1_is_not_multiplied() -> None:
    weight, mask = torch.randn(4, 2, 5, 5, generator=seeded()), torch.ones(4, 1, 5, 5)
    for window in (Window(0, 5, 0, 5), Window(1, 4, 2, 3)):
        kernel = MaskedKernel(weight, mask, window, True, CONTIGUOUS, weight.dtype)
        for part, block in kernel.blocks(block_ranges(4, window.size[0], (3, 2))):
            assert torch.equal(block, window.crop(weight)[part.channels, :, part.rows])
            assert block.untyped_storage().data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(
    ("length", "step", "expected"),
    [(5, 2, [(0, 2), (2, 4), (4, 5)]), (4, 2, [(0, 2), (2, 4)]), (3, 7, [(0, 3)]), (0, 2, [])],
)
def test_channel_ranges(length: int, step: int, expected: list[tuple[int, int]]) -> None:
    assert [(part.start, part.stop) for part in channel_ranges(length, step)] == expected


def test_ranges_of_blocks() -> None:
    assert block_ranges(3, 5, (2, 3)) == (
        Range(slice(0, 2), slice(0, 3)),
        Range(slice(0, 2), slice(3, 5)),
        Range(slice(2, 3), slice(0, 3)),
        Range(slice(2, 3), slice(3, 5)),
    )
    assert block_ranges(3, 5, (4, 5)) == (Range(slice(0, 3), slice(0, 5)),)


def test_a_whole_range_is_the_kernel_itself() -> None:
    kernel = torch.zeros(3, 2, 5, 4)
    assert Range(slice(0, 3), slice(0, 5)).of(kernel) is kernel
    assert Range(slice(0, 2), slice(0, 5)).of(kernel).shape == (2, 2, 5, 4)
    assert Range(slice(0, 3), slice(1, 5)).of(kernel).shape == (3, 2, 4, 4)
