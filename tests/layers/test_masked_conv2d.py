import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor, nn

from timm_lp.layers import LpConv2d, lp_mask, masked_conv2d, masked_kernel, operators, plan, reach
from timm_lp.layers.kernel_cache import KernelCache
from timm_lp.layers.mask_cache import MaskCache
from timm_lp.layers.masked_conv2d import can_mask_fast, plain_conv2d
from timm_lp.layers.window import Geometry

from .test_lp_conv2d import assert_matches_reference, image, output_and_gradients, randomize, seeded, sides

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
# In and out channels, kernel, the other arguments of the layer, size of the map.
SHAPES: dict[str, tuple[int, int, Any, dict[str, Any], tuple[int, int]]] = {
    "3x3": (2, 3, 3, {"padding": 1}, (4, 5)),
    "map_smaller_than_kernel": (2, 3, 7, {"padding": 3}, (2, 3)),
    "one_pixel": (3, 2, 5, {"padding": 2}, (1, 1)),
    "one_pixel_even": (2, 2, 4, {"padding": 2}, (1, 1)),
    "even": (2, 3, (4, 2), {"padding": (2, 1)}, (5, 3)),
    "one_channel": (1, 1, 3, {"padding": 1}, (6, 4)),
    "one_channel_in": (1, 5, 3, {"padding": 1, "bias": False}, (3, 4)),
    "one_channel_out": (5, 1, 3, {"padding": 1}, (3, 4)),
    "stride": (2, 5, 3, {"padding": 1, "stride": 2}, (6, 5)),
    "stride_uneven": (2, 3, (3, 5), {"padding": (1, 2), "stride": (1, 2)}, (3, 6)),
    "patchify": (3, 5, 4, {"stride": 4}, (9, 4)),
    "dilation": (2, 3, 3, {"padding": 2, "dilation": 2}, (4, 3)),
    "dilation_uneven": (2, 3, (3, 2), {"padding": (3, 1), "dilation": (3, 2), "stride": (2, 1)}, (4, 5)),
    "depthwise": (3, 3, 5, {"padding": 2, "groups": 3}, (4, 6)),
    "depthwise_15x15": (2, 2, 15, {"padding": 7, "groups": 2}, (9, 5)),
    "depthwise_15x15_stride": (2, 2, 15, {"padding": 7, "groups": 2, "stride": 2}, (9, 5)),
    "multiplier": (2, 4, 3, {"padding": 1, "groups": 2}, (4, 3)),
    "groups": (4, 6, (2, 3), {"padding": 1, "groups": 2}, (3, 4)),
    "1x1": (3, 5, 1, {}, (4, 3)),
    "1x1_large": (2, 3, 1, {"bias": False}, (8, 8)),
    "1x1_stride": (3, 2, 1, {"stride": 2}, (4, 3)),
    "1x1_padding": (2, 3, 1, {"padding": 1}, (8, 8)),
    "more_padding_than_needed": (2, 3, 3, {"padding": 4}, (2, 3)),
    "valid": (2, 3, (3, 2), {"padding": "valid"}, (4, 5)),
    "same": (2, 3, (3, 5), {"padding": "same"}, (4, 5)),
}
each_shape = pytest.mark.parametrize("name", SHAPES)
# torch's own code for forward-mode differentiation uses what torch deprecates.
ignore_script = pytest.mark.filterwarnings("ignore:`torch.jit.script`")


@contextmanager
def small_blocks() -> Iterator[None]:
    """Make every block, and everything that is multiplied at a time, one or two channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "_BLOCK_NUMBERS", 1)
        patch.setattr(operators, "_BLOCK_CHANNELS", 2)
        patch.setattr(operators, "_POINTWISE_PIXELS", 1)
        patch.setattr(masked_kernel, "_CHUNK_BYTES", 1)
        patch.setattr(plan, "_WORTH_A_CONVOLUTION", -1)
        patch.setattr(reach, "_BLOCK_CHANNELS", 1)
        plan.make_plan.cache_clear()
        yield
    plan.make_plan.cache_clear()


@pytest.fixture(params=["whole", "blocks"])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "whole":
        yield
        return
    with small_blocks():
        yield


def build(name: str, dtype: torch.dtype = torch.float64, **more: Any) -> tuple[LpConv2d, Tensor]:
    in_channels, out_channels, kernel_size, arguments, size = SHAPES[name]
    layer = randomize(LpConv2d(in_channels, out_channels, kernel_size, **arguments, **more, dtype=dtype))
    assert isinstance(layer, LpConv2d)
    return layer, image(in_channels, size, dtype)


def geometry_of(layer: LpConv2d) -> Geometry:
    padding = tuple(before for before, _ in sides(layer))
    return Geometry(layer.stride, padding, layer.dilation, layer.groups)


def plain(layer: LpConv2d) -> Callable[[Tensor], Tensor]:
    """Return what a layer computes, in torch's own operators."""
    return lambda x: plain_conv2d(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry_of(layer))


def is_fast(layer: LpConv2d, x: Tensor) -> bool:
    return can_mask_fast(x, layer.weight, layer.bias, layer.C, layer.log2p, geometry_of(layer))


def assert_matches_plain(layer: LpConv2d, x: Tensor, tolerance: float = 1e-9) -> None:
    assert is_fast(layer, x)
    parameters = [*layer.parameters()]
    expected = output_and_gradients(plain(layer), x, *parameters)
    for value, reference in zip(output_and_gradients(layer, x, *parameters), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected[0], rtol=tolerance, atol=tolerance)


# The reference's mask of a single tap has no graph.
@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape[2] != 1])
@pytest.mark.usefixtures("blocks")
def test_matches_the_reference(name: str) -> None:
    layer, x = build(name)
    assert is_fast(layer, x)
    assert_matches_reference(layer, x)


@each_shape
@pytest.mark.parametrize("in_channels_last", ["neither", "input", "weight", "both"])
@pytest.mark.usefixtures("blocks")
def test_matches_the_plain_formula_in_each_memory_format(name: str, in_channels_last: str) -> None:
    layer, x = build(name)
    if in_channels_last in ("weight", "both"):
        layer = layer.to(memory_format=LAST)
    assert_matches_plain(layer, x.to(memory_format=LAST) if in_channels_last in ("input", "both") else x)


@pytest.mark.parametrize("p", [1, 2, 16, 256])
@pytest.mark.parametrize(
    ("kernel_size", "arguments", "size"),
    [
        (9, {"padding": 4}, (7, 6)),
        (9, {"padding": 4, "groups": 4}, (12, 11)),
        (9, {"padding": 4, "stride": 2}, (7, 8)),
        (9, {"padding": 5, "dilation": 2}, (11, 9)),
        (8, {"padding": 4}, (3, 2)),
        ((9, 5), {"padding": (0, 2)}, (10, 4)),
        (17, {"padding": 8, "groups": 4}, (9, 12)),
        (3, {"padding": 2}, (8, 8)),
    ],
    ids=str,
)
@pytest.mark.usefixtures("blocks")
def test_masks_that_are_0_around_their_centre(
    kernel_size: Any, arguments: dict[str, Any], size: tuple[int, int], p: float
) -> None:
    layer = LpConv2d(4, 4, kernel_size, **arguments, p_init=p, sigma_init=0.6, dtype=torch.float64)
    if p >= 16:
        assert (layer.mask() == 0).any()
    for x in (image(4, size, torch.float64), image(4, size, torch.float64).to(memory_format=LAST)):
        assert_matches_plain(layer, x)


@pytest.mark.parametrize("p", [1.5, 16])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.usefixtures("blocks")
def test_rotated_masks(groups: int, p: float) -> None:
    layer = LpConv2d(2, 2, (5, 4), padding=2, groups=groups, p_init=p, dtype=torch.float64)
    with torch.no_grad():
        layer.C.copy_(torch.tensor([[[0.7, 0.7], [-0.4, 0.4]], [[0.9, -0.9], [0.5, 0.5]]]))
    assert_matches_reference(layer, image(2, (3, 5), torch.float64))


def test_masks_that_are_1_all_over() -> None:
    layer = LpConv2d(3, 5, 3, padding=1, p_init=256, sigma_init=5, dtype=torch.float64)
    assert (layer.mask() == 1).all()
    assert_matches_plain(layer, image(3, (4, 5), torch.float64))


def test_masks_that_are_0_all_over() -> None:
    layer = LpConv2d(3, 5, 4, padding=1, p_init=256, sigma_init=0.1, dtype=torch.float64)
    assert (layer.mask() == 0).all()
    assert_matches_plain(layer, image(3, (4, 5), torch.float64))


@each_shape
@pytest.mark.usefixtures("blocks")
def test_float32_matches_float64(name: str) -> None:
    layer, x = build(name, torch.float32)
    exact = copy.deepcopy(layer).double()
    values = output_and_gradients(layer, x, *layer.parameters())
    expected = output_and_gradients(plain(exact), x.double(), *exact.parameters())
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("needed", range(32))
@pytest.mark.parametrize("name", ["map_smaller_than_kernel", "depthwise", "1x1"])
def test_any_subset_of_gradients(name: str, needed: int) -> None:
    layer, x = build(name)
    tensors: dict[str, Tensor] = {"input": x, **dict(layer.named_parameters())}
    wanted = {tensor_name: bool(needed >> i & 1) for i, tensor_name in enumerate(tensors)}
    for tensor_name, tensor in tensors.items():
        tensor.requires_grad_(wanted[tensor_name])
    output, expected = layer(x), plain(layer)(x)
    assert output.requires_grad == (needed > 0)
    if needed:
        output.square().sum().backward()
    for tensor_name, tensor in tensors.items():
        assert (tensor.grad is not None) == wanted[tensor_name]
    if needed:
        leaves = [tensor for tensor_name, tensor in tensors.items() if wanted[tensor_name]]
        for leaf, reference in zip(leaves, torch.autograd.grad(expected.square().sum(), leaves), strict=True):
            torch.testing.assert_close(leaf.grad, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["map_smaller_than_kernel", "depthwise", "1x1"])
def test_gradients_that_nobody_needs_are_none(name: str) -> None:
    layer, x = build(name)
    layer.C.requires_grad_(False)
    output = layer(x)
    assert output.grad_fn is not None
    given: list[Tensor | None] = []
    output.grad_fn.register_hook(lambda gradients, _: given.extend(gradients))
    output.sum().backward()
    assert [gradient is not None for gradient in given] == [False, True, True, False, True, False]


@pytest.mark.parametrize("name", ["3x3", "depthwise_15x15", "patchify", "1x1_large"])
@pytest.mark.parametrize("weight_format", [CONTIGUOUS, LAST], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("input_format", [CONTIGUOUS, LAST], ids=["contiguous", "channels_last"])
def test_gradients_have_their_parameters_strides(
    input_format: torch.memory_format, weight_format: torch.memory_format, name: str
) -> None:
    layer, x = build(name, torch.float32)
    layer = layer.to(memory_format=weight_format)
    gradients = torch.autograd.grad(layer(x.to(memory_format=input_format)).sum(), [*layer.parameters()])
    for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
        assert gradient.stride() == parameter.stride()


def test_backward_twice_and_through_two_layers() -> None:
    first, second = (randomize(LpConv2d(2, 2, 5, padding=2, dtype=torch.float64)) for _ in range(2))
    leaves = [*first.parameters(), *second.parameters()]
    x = image(2, (3, 4), torch.float64)
    loss = second(first(second(x)).relu()).square().sum()
    reference = plain(second)(plain(first)(plain(second)(x)).relu()).square().sum()
    expected = torch.autograd.grad(reference, leaves)
    for keep in (True, False):
        values = torch.autograd.grad(loss, leaves, retain_graph=keep)
        for value, gradient in zip(values, expected, strict=True):
            torch.testing.assert_close(value, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("in_channels", "arguments"),
    [(1, {"padding": 1}), (2, {"padding": (2, 1), "stride": (1, 2)}), (2, {"groups": 2, "padding": 1})],
    ids=str,
)
def test_gradgradcheck(in_channels: int, arguments: dict[str, Any]) -> None:
    layer = randomize(LpConv2d(in_channels, 2, (3, 2), p_init=3, **arguments, dtype=torch.float64))
    x = image(in_channels, (2, 3), torch.float64)[:1].requires_grad_()
    tensors = (x, layer.weight, layer.bias, layer.C, layer.log2p)

    def convolve(*tensors: Tensor) -> Tensor:
        return masked_conv2d.masked_conv2d(*tensors, geometry_of(layer), MaskCache(), KernelCache())

    assert torch.autograd.gradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(convolve, tensors)


@each_shape
def test_gradients_of_gradients_match_the_plain_formula(name: str) -> None:
    layer, x = build(name)
    leaves = [x.requires_grad_(), *layer.parameters()]

    def second(convolve: Callable[[Tensor], Tensor]) -> list[Tensor]:
        # The input and the loss depend on the leaves in other ways, too.
        gradients = torch.autograd.grad(convolve(x * x).square().sum(), leaves, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in gradients)
        return [*gradients, *torch.autograd.grad(penalty, leaves)]

    for value, reference in zip(second(layer), second(plain(layer)), strict=True):
        torch.testing.assert_close(value.detach(), reference.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_batched_gradients(name: str) -> None:
    layer, x = build(name)
    leaves = [x.requires_grad_(), *layer.parameters()]
    reference = plain(layer)(x)
    directions = torch.randn(4, *reference.shape, generator=seeded(), dtype=torch.float64)
    expected = torch.autograd.grad(reference, leaves, directions, is_grads_batched=True)
    values = torch.autograd.grad(layer(x), leaves, directions, is_grads_batched=True)
    for value, reference in zip(values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@ignore_script
@pytest.mark.parametrize("name", ["3x3", "depthwise", "1x1_large"])
def test_torch_func(name: str) -> None:
    layer, x = build(name)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    tangents = {key: torch.ones_like(value) for key, value in parameters.items()}

    def fast(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))

    def slow(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return plain_conv2d(x, p["weight"], p.get("bias"), p["C"], p["log2p"], geometry_of(layer))

    def results(convolve: Callable[[dict[str, Tensor], Tensor], Tensor]) -> list[Any]:
        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return convolve(parameters, x).square().sum()

        each = torch.func.vmap(torch.func.grad(loss), (None, 0))
        return [
            torch.func.grad(loss)(parameters, x),
            torch.func.vmap(convolve, (None, 0))(parameters, x[:, None]),
            each(parameters, x[:, None]),
            torch.func.jvp(convolve, (parameters, x), (tangents, torch.ones_like(x))),
            torch.func.grad(lambda *p: torch.func.jvp(loss, p, (tangents, torch.ones_like(x)))[1])(parameters, x),
        ]

    torch.testing.assert_close(results(fast), results(slow), rtol=1e-9, atol=1e-9)


@ignore_script
def test_forward_mode() -> None:
    layer, x = build("3x3")

    def tangent(convolve: Callable[[Tensor], Tensor]) -> Tensor:
        with fwAD.dual_level():
            return fwAD.unpack_dual(convolve(fwAD.make_dual(x, torch.ones_like(x)))).tangent

    torch.testing.assert_close(tangent(layer), tangent(plain(layer)))


def test_autocast_computes_what_the_plain_formula_computes() -> None:
    layer, x = build("3x3", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fast(layer, x)
        output = layer(x)
        assert output.dtype == torch.bfloat16
        assert torch.equal(output, plain(layer)(x))


NOT_CONTIGUOUS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.transpose(2, 3),
    "sliced_channels": lambda x: torch.cat([x, x], dim=1)[:, ::2],
    "sliced_pixels": lambda x: x[..., 1:, ::2],
    "expanded_batch": lambda x: x[:1].expand(3, -1, -1, -1),
    "expanded_channels": lambda x: x[:, :1].expand(-1, x.shape[1], -1, -1),
    "expanded_pixels": lambda x: x[..., :1].expand(-1, -1, -1, 6),
    "reversed_dimensions": lambda x: x.permute(3, 1, 2, 0),
    "part_of_channels_last": lambda x: torch.cat([x, x], dim=1).to(memory_format=LAST)[:, : x.shape[1]],
}


@pytest.mark.parametrize("name", ["3x3", "map_smaller_than_kernel", "depthwise_15x15", "1x1_large"])
@pytest.mark.parametrize("change", NOT_CONTIGUOUS)
@pytest.mark.usefixtures("blocks")
def test_inputs_that_are_not_contiguous(change: str, name: str) -> None:
    layer, x = build(name)
    parameters = [*layer.parameters()]

    def gradients(convolve: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return output_and_gradients(lambda x: convolve(NOT_CONTIGUOUS[change](x)), x, *parameters)

    for value, reference in zip(gradients(layer), gradients(plain(layer)), strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["3x3", "map_smaller_than_kernel", "depthwise_15x15", "1x1_large"])
def test_output_gradients_and_kernels_that_are_not_contiguous(name: str) -> None:
    layer, x = build(name)
    layer.weight = nn.Parameter(layer.weight.detach().transpose(2, 3).contiguous().transpose(2, 3))
    leaves = [x.requires_grad_(), *layer.parameters()]
    for reduce in (lambda y: y.sum(), lambda y: (y.transpose(2, 3) * y.transpose(2, 3)).sum(), lambda y: y[::2].sum()):
        values = torch.autograd.grad(reduce(layer(x)), leaves)
        for value, reference in zip(values, torch.autograd.grad(reduce(plain(layer)(x)), leaves), strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight_format", [CONTIGUOUS, LAST], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("input_format", [CONTIGUOUS, LAST], ids=["contiguous", "channels_last"])
@each_shape
def test_memory_format_is_that_of_conv2d(
    name: str, input_format: torch.memory_format, weight_format: torch.memory_format
) -> None:
    for dtype in (torch.float32, torch.float64):
        layer, x = build(name, dtype)
        layer, x = layer.to(memory_format=weight_format), x.to(memory_format=input_format)
        in_channels, out_channels, kernel_size, arguments, _ = SHAPES[name]
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, **arguments, dtype=dtype)
        expected = conv.to(memory_format=weight_format)(x)
        for output in (layer(x), layer(x.clone()).detach()):
            for memory_format in (LAST, CONTIGUOUS):
                is_in = [tensor.is_contiguous(memory_format=memory_format) for tensor in (output, expected)]
                assert is_in[0] == is_in[1], memory_format


def test_empty_batch() -> None:
    layer, x = build("map_smaller_than_kernel")
    x = x[:0].requires_grad_()
    output = layer(x)
    assert output.shape == (0, 3, 2, 3)
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


@each_shape
def test_unbatched(name: str) -> None:
    layer, x = build(name)
    expected = output_and_gradients(layer, x[:1], *layer.parameters())
    output, *gradients = output_and_gradients(layer, x[0], *layer.parameters())
    for value, reference in zip([output[None], gradients[0][None], *gradients[1:]], expected, strict=True):
        torch.testing.assert_close(value, reference)


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 9, 9), (2, 4, 2, 9), (2, 4, 9, 2), (4, 9), (1, 2, 4, 9, 9), (2, 4, 0, 9), (4, 2, 9), (0, 3, 9, 9)],
    ids=str,
)
def test_refuses_what_conv2d_refuses(shape: tuple[int, ...]) -> None:
    arguments: dict[str, Any] = {"kernel_size": 5, "padding": 1, "groups": 2}
    with pytest.raises(RuntimeError) as expected:
        nn.Conv2d(4, 2, **arguments)(torch.zeros(shape))
    layer = LpConv2d(4, 2, **arguments)
    for _ in range(2):  # with and without the mask's cache
        with pytest.raises(RuntimeError) as raised:
            layer(torch.zeros(shape))
        assert str(raised.value) == str(expected.value)
        layer(image(4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64], ids=str)
def test_refuses_the_dtypes_that_conv2d_refuses(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError) as expected:
        nn.Conv2d(4, 2, 3)(image().to(dtype))
    with pytest.raises(RuntimeError) as raised:
        LpConv2d(4, 2, 3)(image().to(dtype))
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("name", ["weight", "log2p", "C"])
def test_parameters_must_not_change_before_the_backward_pass(name: str) -> None:
    layer, x = build("map_smaller_than_kernel", torch.float32)
    loss = layer(x).sum()
    with torch.no_grad():
        getattr(layer, name).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [nn.Conv2d, LpConv2d])
def test_the_bias_may_change_before_the_backward_pass(kind: type[nn.Conv2d]) -> None:
    layer = kind(4, 2, 3)
    loss = layer(image()).sum()
    with torch.no_grad():
        layer.bias.add_(1)
    loss.backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 2.0 * 10 * 11))


@pytest.mark.parametrize("name", ["3x3", "map_smaller_than_kernel", "depthwise_15x15", "1x1_large"])
@pytest.mark.usefixtures("blocks")
def test_training_after_inference_mode(name: str) -> None:
    layer, x = build(name)
    with torch.inference_mode():
        output = layer(x)
    assert output.is_inference()
    assert_matches_plain(layer, x)
    with torch.inference_mode():
        assert torch.equal(layer(x), output)
    assert_matches_plain(layer, x)


def test_an_input_from_inference_mode_is_refused_only_where_it_has_to_be_kept() -> None:
    layer, x = build("3x3")
    with torch.inference_mode():
        x = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(layer)(x))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        layer(x)


@pytest.mark.parametrize("name", ["map_smaller_than_kernel", "depthwise_15x15", "patchify", "groups", "dilation"])
def test_no_masked_kernel_is_kept_for_the_backward_pass(name: str) -> None:
    layer, x = build(name, torch.float32)
    x.requires_grad_()
    known = {tensor.data_ptr() for tensor in (x, *layer.parameters())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)
    assert sum(kept.values()) == layer.mask().numel()
    output.sum().backward()


def test_checkpointing() -> None:
    layer, x = build("map_smaller_than_kernel")
    leaves = [*layer.parameters()]
    output = torch.utils.checkpoint.checkpoint(layer, x.requires_grad_(), use_reentrant=False)
    for value, reference in zip(
        torch.autograd.grad(output.square().sum(), leaves),
        torch.autograd.grad(plain(layer)(x).square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


def test_parameters_that_were_computed() -> None:
    layer, x = build("3x3")
    assert layer.bias is not None
    leaves = [parameter.detach().requires_grad_() for parameter in (layer.weight, layer.C)]

    def loss(convolve: Callable[..., Tensor], *more: Any) -> Tensor:
        weight, C = (leaf * leaf.detach().cos() for leaf in leaves)
        return convolve(x, weight, layer.bias, C, C[:, 0, 0].abs(), geometry_of(layer), *more).square().sum()

    values = torch.autograd.grad(loss(masked_conv2d.masked_conv2d, MaskCache(), KernelCache()), leaves)
    for value, reference in zip(values, torch.autograd.grad(loss(plain_conv2d), leaves), strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


def test_plain_conv2d_is_the_formula() -> None:
    layer, x = build("groups")
    masked = layer.weight * lp_mask(layer.C, layer.log2p, layer.kernel_size)
    expected = nn.functional.conv2d(x, masked, layer.bias, padding=1, groups=2)
    assert torch.equal(plain(layer)(x), expected)
