import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from timm_lp.layers import LpConv2d, embed_kernel, lp_mask, to_large_conv2d

from ..covering import covering
from .comparison import assert_matches_reference, image, output_and_gradients, randomize, relative_error, sides

# torch tells that it copies the input for "same" with an even kernel; that is what the caller asked for.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

CONVS = {
    "1x1": {"kernel_size": 1},
    "1x1_stride": {"kernel_size": 1, "stride": 2, "bias": False},
    "3x3": {"kernel_size": 3, "padding": 1},
    "7x7_stem": {"kernel_size": 7, "stride": 2, "padding": 3},
    "4x4_patchify": {"kernel_size": 4, "stride": 4},
    "2x2_downsample": {"kernel_size": 2, "stride": 2},
    "1x7": {"kernel_size": (1, 7), "padding": (0, 3)},
    "5x2": {"kernel_size": (5, 2), "stride": (2, 1), "padding": (1, 0)},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "dilated_unevenly": {"kernel_size": (3, 2), "padding": (0, 1), "dilation": (1, 3)},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 5, "padding": 2, "groups": 4},
    "same_odd": {"kernel_size": 3, "padding": "same"},
    "same_even": {"kernel_size": 4, "padding": "same"},
    "same_dilated": {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 2)},
    "valid": {"kernel_size": 3, "padding": "valid", "stride": 2},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "replicate": {"kernel_size": 4, "padding": (2, 1), "padding_mode": "replicate", "stride": 2},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "reflect_same": {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"},
    "circular_same_even": {"kernel_size": 2, "padding": "same", "padding_mode": "circular"},
}
each_conv = pytest.mark.parametrize("arguments", CONVS.values(), ids=CONVS)


@covering(
    2,
    kernel_size=[3, (2, 3), (1, 4)],
    padding=[0, 1, (2, 1), "same", "valid"],
    stride_dilation=[(1, 1), (2, 1), ((1, 3), 2), (1, (2, 1)), (2, (1, 2))],
)
def test_matches_the_reference(
    kernel_size: int | tuple[int, int], padding: str | int | tuple[int, int], stride_dilation: tuple[Any, Any]
) -> None:
    stride, dilation = stride_dilation
    stride = 1 if padding == "same" else stride
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "dtype": torch.float64}
    layer = randomize(LpConv2d(2, 2, kernel_size, **arguments))
    assert_matches_reference(layer, image(2, (5, 7), torch.float64))


@covering(1, channels=[(4, 2, 2), (2, 6, 2), (3, 3, 3), (3, 2, 1)], bias=[True, False])
def test_groups_match_the_reference(channels: tuple[int, int, int], bias: bool) -> None:
    in_channels, out_channels, groups = channels
    layer = randomize(LpConv2d(in_channels, out_channels, (3, 2), 2, 1, 1, groups, bias, dtype=torch.float64))
    assert_matches_reference(layer, image(in_channels, (5, 4), torch.float64))


@pytest.mark.parametrize("p", [1, 16])
def test_float32_matches_the_reference(p: float) -> None:
    layer = LpConv2d(2, 3, 5, padding=2, p_init=p)
    x = image(2, (4, 5))
    exact = copy.deepcopy(layer).double()
    values = output_and_gradients(layer, x, *layer.parameters())
    expected = output_and_gradients(exact, x.double(), *exact.parameters())
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), reference, rtol=2e-5, atol=2e-5)
    assert_matches_reference(exact, x.double())


@covering(2, mode=["reflect", "replicate", "circular"], padding=[1, (2, 3), "same"], kernel_size=[3, (4, 3)])
def test_padding_modes(mode: str, padding: Any, kernel_size: Any) -> None:
    layer = randomize(LpConv2d(2, 3, kernel_size, padding=padding, padding_mode=mode, dtype=torch.float64))
    (top, bottom), (left, right) = sides(layer)

    def padded(x: Tensor) -> Tensor:
        x = F.pad(x, (left, right, top, bottom), mode=mode)
        return F.conv2d(x, layer.weight * lp_mask(layer.C, layer.log2p, layer.kernel_size), layer.bias)

    x = image(2, dtype=torch.float64)
    parameters = [*layer.parameters()]
    expected = output_and_gradients(padded, x, *parameters)
    for value, reference in zip(output_and_gradients(layer, x, *parameters), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)


def test_takes_what_conv2d_takes_and_keeps_its_names() -> None:
    arguments = (4, 6, (3, 5), (2, 1), (1, 2), (2, 1), 2, False, "circular")
    conv, layer = nn.Conv2d(*arguments), LpConv2d(*arguments)
    assert isinstance(layer, nn.Conv2d)
    assert {name: v.shape for name, v in layer.state_dict().items()} == {
        "weight": conv.weight.shape,
        "log2p": (6,),
        "C": (6, 2, 2),
    }
    assert layer.extra_repr().startswith(conv.extra_repr())
    assert layer(image()).shape == conv(image()).shape
    assert layer.load_state_dict(conv.state_dict(), strict=False).missing_keys == ["log2p", "C"]
    assert list(LpConv2d(1, 1, 3).state_dict()) == ["weight", "bias", "log2p", "C"]


def test_draws_the_kernel_that_conv2d_draws() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 5)
    torch.manual_seed(0)
    layer = LpConv2d(3, 4, 5)
    assert torch.equal(layer.weight, conv.weight)
    assert torch.equal(layer.bias, conv.bias)


@pytest.mark.parametrize(
    ("kernel_size", "sigma_init", "sigma"),
    [(6, None, (1.5, 1.5)), ((3, 14), None, (0.75, 3.5)), (3, 0.5, (0.5, 0.5)), (3, (2, 8), (2, 8))],
    ids=str,
)
def test_initial_mask(kernel_size: Any, sigma_init: Any, sigma: tuple[float, float]) -> None:
    layer = LpConv2d(1, 2, kernel_size, p_init=8, sigma_init=sigma_init)
    assert layer.sigma_init == sigma
    assert layer.log2p.tolist() == [3, 3]
    torch.testing.assert_close(layer.C.detach(), torch.diag(1 / torch.tensor(sigma)).repeat(2, 1, 1))
    torch.testing.assert_close(layer.sigma.detach(), torch.tensor([sigma, sigma], dtype=torch.float32))
    torch.testing.assert_close(layer.p.detach(), torch.tensor([8.0, 8.0]))
    assert layer.mask().shape == (2, 1, *_pair(kernel_size))
    assert torch.equal(layer.masked_weight(), layer.weight * layer.mask())


@pytest.mark.parametrize("p_init", [0.5, 0, -2, float("nan"), float("inf")])
def test_bad_p_init(p_init: float) -> None:
    with pytest.raises(ValueError, match=rf"`p_init` must be a finite number >= 1, got {p_init}\. Use 2"):
        LpConv2d(1, 1, 3, p_init=p_init)
    with pytest.raises(ValueError, match="`p_init` must be a finite number >= 1"):
        LpConv2d.from_conv2d(nn.Conv2d(1, 1, 3), p_init)


@pytest.mark.parametrize(
    "sigma_init", [0, -1.0, float("nan"), float("inf"), (1, 0), (float("nan"), 1), (1, 2, 3), (1,)], ids=str
)
def test_bad_sigma_init(sigma_init: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`sigma_init` must be a positive, finite number or a pair .+, got \(.+\)\. Half"
    ):
        LpConv2d(1, 1, 3, sigma_init=sigma_init)


@pytest.mark.parametrize(
    "layer", [LpConv2d(2, 2, 3), Conv2dSame(2, 2, 3), StdConv2d(2, 2, 3), nn.Linear(2, 2)], ids=repr
)
def test_only_plain_convolutions_are_taken(layer: nn.Module) -> None:
    for convert in (LpConv2d.from_conv2d, to_large_conv2d):
        with pytest.raises(TypeError, match=f"`conv` must be an nn.Conv2d without .+ got {type(layer).__name__}"):
            convert(layer)


def test_bad_kernel_scale() -> None:
    with pytest.raises(ValueError, match="`kernel_scale` must be 1 or 2, got 3"):
        LpConv2d.from_conv2d(nn.Conv2d(1, 1, 3), kernel_scale=3)


@covering(
    2,
    arguments=CONVS,
    kernel_scale=[1, 2],
    p=[1, 2, 4, 8, 16, 256],
    precision={"f32": (torch.float32, 1e-4), "f64": (torch.float64, 1e-10)},
)
def test_from_conv2d_preserves_the_function(
    arguments: dict[str, Any], kernel_scale: int, p: float, precision: tuple[torch.dtype, float]
) -> None:
    dtype, tolerance = precision
    conv, x = randomize(nn.Conv2d(4, 8, **arguments)).to(dtype), image(dtype=dtype)
    layer = LpConv2d.from_conv2d(conv, p, kernel_scale=kernel_scale)
    assert type(layer) is LpConv2d
    assert relative_error(layer(x), conv(x)) < tolerance
    torch.testing.assert_close(layer.p, torch.full((8,), float(p), dtype=dtype))
    torch.testing.assert_close(layer.sigma, torch.tensor(conv.kernel_size, dtype=dtype).expand(8, 2) / 2)


@each_conv
def test_from_conv2d_without_preserving_damps_the_kernel(arguments: dict[str, Any]) -> None:
    conv = randomize(nn.Conv2d(4, 8, **arguments))
    layer = LpConv2d.from_conv2d(conv, 2, preserve=False)
    assert torch.equal(layer.weight, embed_kernel(conv.weight, layer.kernel_size))
    assert torch.equal(layer.masked_weight(), layer.weight * layer.mask())
    assert layer(image()).shape == conv(image()).shape


def test_damped_3x3_corner() -> None:
    conv = nn.Conv2d(1, 1, 3)
    layer = LpConv2d.from_conv2d(conv, 2, preserve=False)
    damping = torch.exp(torch.tensor([[-8 / 9, -4 / 9, -8 / 9], [-4 / 9, 0, -4 / 9], [-8 / 9, -4 / 9, -8 / 9]]))
    assert layer.kernel_size == (7, 7)
    torch.testing.assert_close(layer.masked_weight()[..., 2:5, 2:5], conv.weight * damping)
    assert layer.masked_weight().count_nonzero() == 9


def test_from_conv2d_takes_over_what_training_knows() -> None:
    conv = nn.Conv2d(2, 3, 3, dtype=torch.float64).eval()
    conv.weight.requires_grad_(False)
    layer = LpConv2d.from_conv2d(conv)
    assert {name: p.requires_grad for name, p in layer.named_parameters()} == {
        "weight": False,
        "bias": True,
        "log2p": True,
        "C": True,
    }
    assert not layer.training
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert not layer.to_conv2d().training
    assert not layer.to_conv2d().weight.requires_grad
    assert layer.to_conv2d().bias.requires_grad
    assert LpConv2d.from_conv2d(conv.train()).training


def test_frozen_masks() -> None:
    layer = LpConv2d.from_conv2d(nn.Conv2d(2, 3, 3), 256, trainable_mask=False)
    layer(image(2)).sum().backward()
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["weight", "bias"]
    assert layer.C.grad is layer.log2p.grad is None
    assert layer.weight.grad is not None


@each_conv
def test_from_and_to_conv2d_draw_nothing_and_change_nothing(arguments: dict[str, Any]) -> None:
    conv = nn.Conv2d(4, 8, **arguments)
    before = copy.deepcopy(conv)
    state = torch.get_rng_state()
    layer = LpConv2d.from_conv2d(conv)
    kept = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    folded = layer.to_conv2d()
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(conv) == repr(before)
    for old, new in [(before.state_dict(), conv.state_dict()), (kept, layer.state_dict())]:
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)
    pointers = {tensor.data_ptr() for module in (conv, layer, folded) for tensor in module.parameters()}
    assert len(pointers) == sum(len([*module.parameters()]) for module in (conv, layer, folded))


@each_conv
def test_to_conv2d_folds_the_mask(arguments: dict[str, Any]) -> None:
    layer = randomize(LpConv2d(4, 8, p_init=3, **arguments))
    conv = layer.to_conv2d()
    assert type(conv) is nn.Conv2d
    assert list(conv.state_dict()) == (["weight"] if layer.bias is None else ["weight", "bias"])
    assert torch.equal(conv.weight, layer.masked_weight())
    assert torch.equal(layer.fuse().weight, conv.weight)
    torch.testing.assert_close(conv(image()), layer(image()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"stride": 2, "bias": False}, {"groups": 2}, {"padding": 1}], ids=str)
def test_single_taps_in_channels_last_need_no_mask_in_evaluation(arguments: dict[str, Any]) -> None:
    layer = randomize(LpConv2d(4, 8, 1, **arguments))
    x = image().contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, layer.masked_weight(), layer.bias, layer.stride, layer.padding, groups=layer.groups)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    assert layer._mask_cache is None
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_masks_in_float32_and_convolves_in_its_dtype(dtype: torch.dtype) -> None:
    layer = randomize(LpConv2d(4, 8, 5, padding=2))
    expected = layer.mask()
    with torch.autocast("cpu", dtype=dtype):
        output = layer(image())
        mask = layer.mask()
        plain = F.conv2d(image(), layer.weight * expected, layer.bias, padding=2)
    assert torch.equal(mask, expected)
    assert output.dtype == dtype
    torch.testing.assert_close(output, plain, rtol=0.02, atol=0.03)  # some CPUs round less often
    output.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2), (torch.float64, 1e-5)], ids=str
)
def test_dtype_changes(dtype: torch.dtype, tolerance: float) -> None:
    layer = LpConv2d.from_conv2d(randomize(nn.Conv2d(4, 8, 3, padding=1)), 16)
    changed = copy.deepcopy(layer).to(dtype)
    output = changed(image(dtype=dtype))
    output.sum().backward()
    assert output.dtype == changed.masked_weight().dtype == changed.C.grad.dtype == dtype
    assert changed.mask().dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert relative_error(output.double(), layer(image()).double()) < tolerance
    assert all(p.grad.isfinite().all() for p in changed.parameters())
    assert changed.to_conv2d().weight.dtype == LpConv2d.from_conv2d(changed.to_conv2d()).C.dtype == dtype
    assert "p=16, sigma=(1.5, 1.5)" in repr(changed)


def test_meta_device() -> None:
    layers = [
        LpConv2d(4, 8, 7, p_init=4, sigma_init=1.5, device="meta"),
        LpConv2d.from_conv2d(nn.Conv2d(4, 8, 3, padding=2, device="meta"), 4),
        LpConv2d(4, 8, 7, p_init=4, sigma_init=1.5).to("meta"),
    ]
    for layer in layers:
        assert {p.device.type for p in layer.parameters()} == {"meta"}
        assert layer.to_conv2d().weight.is_meta
        assert layer(image().to("meta")).shape[:2] == (2, 8)
        assert repr(layer).endswith("p=4, sigma=(1.5, 1.5))")
        layer = layer.to_empty(device="cpu")
        layer.reset_parameters()
        torch.testing.assert_close(
            layer.mask(), lp_mask(torch.eye(2)[None] / 1.5, torch.tensor([2.0]), (7, 7))[[0] * 8]
        )


def through_pickle(layer: LpConv2d) -> LpConv2d:
    return pickle.loads(pickle.dumps(layer))


def through_state_dict(layer: LpConv2d) -> LpConv2d:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = LpConv2d(4, 8, 5, 2, 2, p_init=16)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_state_dict])
def test_copies_equal_the_original(copied: Callable[[LpConv2d], LpConv2d]) -> None:
    layer = randomize(LpConv2d(4, 8, 5, 2, 2, p_init=4))
    twin = copied(layer)
    assert torch.equal(twin(image()), layer(image()))
    assert repr(twin) == repr(layer)
    with torch.no_grad():
        layer.C.zero_()
    assert not torch.equal(twin(image()), layer(image()))


def test_reset_parameters() -> None:
    layer = LpConv2d(4, 8, 5, p_init=4, sigma_init=(1, 2))
    fresh = copy.deepcopy(layer)
    randomize(layer).reset_parameters()
    assert torch.equal(layer.C, fresh.C)
    assert torch.equal(layer.log2p, fresh.log2p)
    assert not torch.equal(layer.weight, fresh.weight)
    assert layer.weight.abs().max() <= 1 / (4 * 5 * 5) ** 0.5
    weight = layer.weight.clone()
    randomize(layer).weight.data.copy_(weight)
    layer.reset_mask()
    assert torch.equal(layer.C, fresh.C)
    assert torch.equal(layer.weight, weight)


def test_repr_shows_p_and_sigma_and_their_range_once_they_differ() -> None:
    layer = LpConv2d(4, 2, (6, 8), stride=2, p_init=4)
    assert repr(layer) == "LpConv2d(4, 2, kernel_size=(6, 8), stride=(2, 2), p=4, sigma=(1.5, 2))"
    with torch.no_grad():
        layer.log2p[1] = -3
        layer.C[1, 1, 1] = 0.25
        layer.C[0, 1, 0] = -0.5  # the column (1 / 1.5, -0.5) has norm 5 / 6
    assert repr(layer).endswith("p=4..8, sigma=(1.2..1.5, 2..4))")


def test_compile() -> None:
    layer = randomize(LpConv2d(2, 3, 3, padding=1, p_init=4))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    parameters = [*layer.parameters()]
    expected = output_and_gradients(layer, image(2), *parameters)
    for value, reference in zip(output_and_gradients(compiled, image(2), *parameters), expected, strict=True):
        torch.testing.assert_close(value, reference)


def test_export() -> None:
    layer = randomize(LpConv2d(2, 3, 3, padding=1, p_init=4))
    exported = torch.export.export(layer, (image(2),)).module()
    torch.testing.assert_close(exported(image(2)), layer(image(2)))


def test_onnx(tmp_path: Path) -> None:
    layer = randomize(LpConv2d(2, 3, 3, padding=1, p_init=4)).eval()
    path = tmp_path / "layer.onnx"
    torch.onnx.export(layer, (image(2),), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (output,) = session.run(None, {session.get_inputs()[0].name: image(2).numpy()})
    torch.testing.assert_close(torch.from_numpy(output), layer(image(2)).detach())
