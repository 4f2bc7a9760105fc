"""Each private part of torch is there and tells what its plain name says; a failure here names the one that changed."""

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from timm_lp.ops import torch_internals


def test_in_dispatch_mode() -> None:
    assert not torch_internals.in_dispatch_mode()
    with FakeTensorMode():
        assert torch_internals.in_dispatch_mode()
    assert not torch_internals.in_dispatch_mode()


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
    tell = torch_internals.computes_in_bfloat16.__wrapped__
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
        seen.append(torch_internals.in_function_transform())
        return x

    function(torch.ones(2))
    torch.func.vmap(function)(torch.ones(2))
    assert seen == [False, True]


def test_in_forward_mode() -> None:
    assert not torch_internals.in_forward_mode()
    with fwAD.dual_level():
        assert torch_internals.in_forward_mode()
    assert not torch_internals.in_forward_mode()


def test_is_batched_gradient() -> None:
    seen: list[bool] = []
    x = torch.ones(3, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda grad: seen.append(torch_internals.is_batched_gradient(grad)))
    torch.autograd.grad(y, x, torch.ones(3), retain_graph=True)
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    assert seen == [False, True]


def test_pair() -> None:
    assert (torch_internals.pair(3), torch_internals.pair((3, 5))) == ((3, 3), (3, 5))
