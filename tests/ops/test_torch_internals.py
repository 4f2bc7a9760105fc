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


def test_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = torch_internals.computes_in_bfloat16.__wrapped__
    assert isinstance(tell(), bool)
    for machine, units, expected in [
        ("x86_64", "", False),
        ("AMD64", "amx_tile", True),
        ("x86_64", "avx512_bf16", True),
    ]:
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        for name in ("amx_tile", "avx512_bf16"):
            monkeypatch.setattr(f"torch.cpu._is_{name}_supported", lambda has=name == units: has)
        assert tell() == expected
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert tell()


def test_has_bfloat16_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = torch_internals.has_bfloat16_tiles.__wrapped__
    assert isinstance(tell(), bool)
    for has in (True, False):
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda has=has: has)
        assert tell() is has


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


def test_version_of() -> None:
    x = torch.zeros(2)
    version = torch_internals.version_of(x)
    with torch.no_grad():
        x.add_(1)
    assert torch_internals.version_of(x) == version + 1
    x.data.add_(1)
    assert torch_internals.version_of(x) == version + 1


def test_pair() -> None:
    assert (torch_internals.pair(3), torch_internals.pair((3, 5))) == ((3, 3), (3, 5))
