import pytest
import torch

from timm_lp.ops import masked_kernel
from timm_lp.ops.masked_kernel import MaskedKernel, channel_ranges
from timm_lp.ops.window import Window

from ..layers.comparison import seeded

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
FORMATS = [CONTIGUOUS, LAST]
SHAPES = [(5, 3, 4, 6), (5, 1, 4, 6), (1, 3, 4, 6), (4, 2, 1, 1)]


def windows(shape: tuple[int, ...]) -> list[Window]:
    height, width = shape[2:]
    return [Window(0, height, 0, width)] + ([Window(1, 3, 0, 5), Window(2, 4, 2, 3)] if height > 1 else [])


@pytest.mark.parametrize("weight_format", FORMATS, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chunk_bytes", [1, 2**19])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_products_and_their_gradients(
    step: int,
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
    ranges = [*channel_ranges(shape[0], step)]
    for window in windows(shape):
        kernel = MaskedKernel(weight, mask, window, False, memory_format, weight.dtype)
        product = window.crop(weight * mask)
        assert kernel.shape == product.shape
        seen = 0
        for channels, block in kernel.blocks(ranges):
            assert torch.equal(block, product[channels])
            assert block.is_contiguous(memory_format=memory_format)
            seen += len(block)
        assert seen == len(weight)

        inside = torch.zeros_like(weight)
        window.crop(inside).fill_(1)
        for needs_weight in (False, True):
            for needs_mask in (False, True):
                grads = (window.crop(grad)[channels].clone(memory_format=memory_format) for channels in ranges)
                grad_weight, grad_mask = kernel.gradients(grads, needs_weight, needs_mask)
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
        for channels, block in kernel.blocks([slice(0, 3), slice(3, 4)]):
            assert torch.equal(block, window.crop(weight)[channels])
            assert block.untyped_storage().data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(
    ("length", "step", "expected"),
    [(5, 2, [(0, 2), (2, 4), (4, 5)]), (4, 2, [(0, 2), (2, 4)]), (3, 7, [(0, 3)]), (0, 2, [])],
)
def test_channel_ranges(length: int, step: int, expected: list[tuple[int, int]]) -> None:
    assert [(part.start, part.stop) for part in channel_ranges(length, step)] == expected
