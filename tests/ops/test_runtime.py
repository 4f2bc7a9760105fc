import threading

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from timm_lp.ops import runtime
from timm_lp.ops.runtime import memory_format_of, scratch

F32 = torch.float32
LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format


def test_the_second_request_gets_the_same_memory() -> None:
    first = scratch("test", (2, 3), F32)
    assert first.shape == (2, 3)
    assert first.is_contiguous()
    assert scratch("test", (2, 3), F32).data_ptr() == first.data_ptr()
    smaller = scratch("test", (5,), F32)
    assert smaller.shape == (5,)
    assert smaller.data_ptr() == first.data_ptr()


def test_a_larger_request_gets_other_memory_and_keeps_it() -> None:
    first = scratch("growing", (4,), F32).fill_(1)
    larger = scratch("growing", (64, 64), F32).fill_(2)
    assert torch.equal(first, torch.ones(4))
    assert scratch("growing", (4,), F32).data_ptr() == larger.data_ptr()


def test_names_and_dtypes_do_not_share_memory() -> None:
    requests = [("one", F32), ("two", F32), ("one", torch.float64), ("two", torch.float64), ("one", torch.int32)]
    results = [scratch(name, (4,), dtype).fill_(i) for i, (name, dtype) in enumerate(requests)]
    for i, (result, (_, dtype)) in enumerate(zip(results, requests, strict=True)):
        assert result.dtype == dtype
        assert torch.equal(result, torch.full((4,), i, dtype=dtype))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (1, 3, 1, 1), (0, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("largest", [0, 2**20])
def test_memory_formats(
    largest: int, memory_format: torch.memory_format, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_LARGEST_BYTES", largest)
    result = scratch("formats", shape, F32, memory_format)
    assert result.shape == shape
    assert result.is_contiguous(memory_format=memory_format)
    if memory_format is torch.channels_last and shape[0]:
        assert result.stride() == torch.empty(shape, memory_format=memory_format).stride()
    result.copy_(torch.arange(result.numel()).view(shape))
    assert torch.equal(result.flatten(), torch.arange(result.numel()).float())


def test_large_requests_get_memory_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_LARGEST_BYTES", 40)
    kept = scratch("limit", (10,), F32).fill_(1)
    assert scratch("limit", (10,), F32).data_ptr() == kept.data_ptr()
    first, second = (scratch("limit", (11,), F32) for _ in range(2))
    assert len({kept.data_ptr(), first.data_ptr(), second.data_ptr()}) == 3
    first.fill_(2)
    assert torch.equal(scratch("limit", (10,), F32), torch.ones(10))
    assert scratch("limit", (6,), torch.float64).data_ptr() != scratch("limit", (6,), torch.float64).data_ptr()


def test_each_thread_has_its_memory() -> None:
    mine = scratch("thread", (4,), F32).fill_(1)
    theirs: list[Tensor] = []

    def ask() -> None:
        theirs.append(scratch("thread", (4,), F32).fill_(2))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert theirs[0].data_ptr() != mine.data_ptr()
    assert torch.equal(mine, torch.ones(4))


def test_memory_from_inference_mode_can_be_used_outside() -> None:
    with torch.inference_mode():
        inside = scratch("inference", (4,), F32).fill_(1)
    outside = scratch("inference", (4,), F32)
    assert outside.data_ptr() == inside.data_ptr()
    assert not outside.is_inference()
    outside.fill_(2)
    torch.mul(torch.ones(4), 3, out=outside)
    with torch.inference_mode():
        scratch("inference", (4,), F32).fill_(4)
    assert torch.equal(outside, torch.full((4,), 4.0))


def test_memory_format_of() -> None:
    contiguous = torch.zeros(2, 3, 4, 5)
    last = contiguous.to(memory_format=LAST)
    assert memory_format_of(contiguous, contiguous) is CONTIGUOUS
    assert memory_format_of(contiguous, contiguous.transpose(2, 3)) is CONTIGUOUS
    assert memory_format_of(last, contiguous) is memory_format_of(contiguous, last) is LAST


# Each private part of torch tells what its plain name says; a failure here names the one that changed.
def test_in_dispatch_mode() -> None:
    assert not runtime.in_dispatch_mode()
    with FakeTensorMode():
        assert runtime.in_dispatch_mode()
    assert not runtime.in_dispatch_mode()


@pytest.mark.parametrize(
    ("machine", "units", "expected"),
    [
        ("x86_64", set(), False),
        ("AMD64", {"amx_tile", "avx512_bf16", "avx512_fp16"}, True),
        ("x86_64", {"avx512_bf16"}, True),
        ("x86_64", {"avx512_bf16", "avx512_fp16"}, False),
        ("aarch64", set(), True),
    ],
)
@pytest.mark.parametrize("tells_more", [True, False])
def test_computes_in_bfloat16(
    machine: str, units: set[str], expected: bool, tells_more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = runtime._computes_in_bfloat16.__wrapped__
    assert isinstance(tell(), bool)
    monkeypatch.setattr("platform.machine", lambda: machine)
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(f"torch.cpu._is_{name}_supported", lambda name=name: name in units)
    if tells_more:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: dict.fromkeys(units, True), raising=False)
    else:
        monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert tell() is (expected or (not tells_more and "avx512_bf16" in units))


def test_in_function_transform() -> None:
    seen: list[bool] = []

    def function(x: Tensor) -> Tensor:
        seen.append(runtime.in_function_transform())
        return x

    function(torch.ones(2))
    torch.func.vmap(function)(torch.ones(2))
    assert seen == [False, True]


def test_in_forward_mode() -> None:
    assert not runtime.in_forward_mode()
    with fwAD.dual_level():
        assert runtime.in_forward_mode()
    assert not runtime.in_forward_mode()


def test_is_batched_gradient() -> None:
    seen: list[bool] = []
    x = torch.ones(3, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda grad: seen.append(runtime.is_batched_gradient(grad)))
    torch.autograd.grad(y, x, torch.ones(3), retain_graph=True)
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    assert seen == [False, True]
