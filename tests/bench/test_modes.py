import pytest
import torch
from torch import nn

from timm_lp.bench.modes import DTYPES, FORMATS, Mode

BF16, F32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    ("dtype", "weight", "images", "maps", "output"),
    [("float32", F32, F32, F32, F32), ("autocast", F32, F32, BF16, BF16), ("bfloat16", BF16, BF16, BF16, BF16)],
)
def test_dtypes_and_formats(
    memory_format: str,
    dtype: str,
    weight: torch.dtype,
    images: torch.dtype,
    maps: torch.dtype,
    output: torch.dtype,
) -> None:
    mode, x = Mode(memory_format, dtype), torch.randn(2, 3, 4, 5)
    conv = mode.place(nn.Conv2d(3, 4, 3))
    assert conv.weight.dtype == weight
    for tensor, expected in [(mode.images(x), images), (mode.maps(x), maps)]:
        assert tensor.dtype == expected
        with mode.autocast():
            assert conv(tensor).dtype == output
        for laid_out in (tensor, conv.weight, conv(tensor.to(weight))):
            assert laid_out.is_contiguous(memory_format=FORMATS[memory_format])
    assert mode.maps(x).requires_grad
    assert not mode.images(x).requires_grad


def test_names() -> None:
    assert str(Mode("NHWC", "autocast", True, 2)) == "NHWC bf16 autocast, AdamW, 2 threads"
    assert str(Mode(device="cuda")) == "NCHW float32"
    assert len({str(Mode(dtype=dtype)) for dtype in DTYPES}) == len(DTYPES)
