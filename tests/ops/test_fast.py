import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timm_lp.layers import LpConv2d
from timm_lp.ops import MaskCache, lp_mask, masked_conv2d, plain_conv2d

from ..covering import covering
from ..layers.comparison import assert_matches_reference, assert_values, image, output_and_gradients, reference_values
from .shapes import FORMATS, LAST, SHAPES, WAYS, assert_matches_plain, build, each_shape, geometry_of, is_fast, plain


# The reference's mask of a single tap has no graph.
@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape[2] != 1])
def test_matches_the_reference(name: str) -> None:
    layer, x = build(name)
    expected = reference_values(layer, x)
    for way in WAYS.values():
        with way():
            assert is_fast(layer, x)
            assert_values(layer, x, expected)


@covering(2, name=[*SHAPES], in_channels_last=["neither", "input", "weight", "both"], way=[*WAYS])
def test_matches_the_plain_formula_in_each_memory_format(name: str, in_channels_last: str, way: str) -> None:
    layer, x = build(name)
    if in_channels_last in ("weight", "both"):
        layer = layer.to(memory_format=LAST)
    with WAYS[way]():
        assert_matches_plain(layer, x.to(memory_format=LAST) if in_channels_last in ("input", "both") else x)


@covering(
    2,
    shape=[
        (9, {"padding": 4}, (7, 6)),
        (9, {"padding": 4, "groups": 4}, (12, 11)),
        (9, {"padding": 4, "stride": 2}, (7, 8)),
        (9, {"padding": 5, "dilation": 2}, (11, 9)),
        (8, {"padding": 4}, (3, 2)),
        ((9, 5), {"padding": (0, 2)}, (10, 4)),
        (17, {"padding": 8, "groups": 4}, (9, 12)),
        (3, {"padding": 2}, (8, 8)),
    ],
    p=[1, 2, 16, 256],
    way=[*WAYS],
)
def test_masks_that_are_0_around_their_centre(
    shape: tuple[Any, dict[str, Any], tuple[int, int]], p: float, way: str
) -> None:
    kernel_size, arguments, size = shape
    layer = LpConv2d(4, 4, kernel_size, **arguments, p_init=p, sigma_init=0.6, dtype=torch.float64)
    if p >= 16:
        assert (layer.mask() == 0).any()
    with WAYS[way]():
        for x in (image(4, size, torch.float64), image(4, size, torch.float64).to(memory_format=LAST)):
            assert_matches_plain(layer, x)


@covering(2, groups=[1, 2], p=[1.5, 16], way=["whole", "blocks"])
def test_rotated_masks(groups: int, p: float, way: str) -> None:
    layer = LpConv2d(2, 2, (5, 4), padding=2, groups=groups, p_init=p, dtype=torch.float64)
    with torch.no_grad():
        layer.C.copy_(torch.tensor([[[0.7, 0.7], [-0.4, 0.4]], [[0.9, -0.9], [0.5, 0.5]]]))
    with WAYS[way]():
        assert_matches_reference(layer, image(2, (3, 5), torch.float64))


@pytest.mark.parametrize(("kernel_size", "sigma", "value"), [(3, 5.0, 1), (4, 0.1, 0)])
def test_masks_that_are_the_same_all_over(kernel_size: int, sigma: float, value: int) -> None:
    layer = LpConv2d(3, 5, kernel_size, padding=1, p_init=256, sigma_init=sigma, dtype=torch.float64)
    assert (layer.mask() == value).all()
    assert_matches_plain(layer, image(3, (4, 5), torch.float64))


@covering(2, name=[*SHAPES], way=[*WAYS])
def test_float32_matches_float64(name: str, way: str) -> None:
    layer, x = build(name, torch.float32)
    exact = copy.deepcopy(layer).double()
    with WAYS[way]():
        values = output_and_gradients(layer, x, *layer.parameters())
    expected = output_and_gradients(plain(exact), x.double(), *exact.parameters())
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), reference, rtol=1e-4, atol=1e-4)


@covering(1, needed=range(32), name=["map_smaller_than_kernel", "depthwise", "1x1"])
def test_any_subset_of_gradients(needed: int, name: str) -> None:
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
    assert [gradient is not None for gradient in given] == [False, True, True, False, True]


@covering(2, name=["3x3", "depthwise_15x15", "patchify", "1x1_large"], input_format=FORMATS, weight_format=FORMATS)
def test_gradients_have_their_parameters_strides(
    name: str, input_format: torch.memory_format, weight_format: torch.memory_format
) -> None:
    layer, x = build(name, torch.float32)
    layer = layer.to(memory_format=weight_format)
    gradients = torch.autograd.grad(layer(x.to(memory_format=input_format)).sum(), [*layer.parameters()])
    for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
        assert gradient.stride() == parameter.stride()


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


@covering(
    2,
    name=["3x3", "map_smaller_than_kernel", "depthwise_15x15", "1x1_large"],
    change=NOT_CONTIGUOUS,
    way=["whole", "blocks"],
)
def test_inputs_that_are_not_contiguous(name: str, change: Callable[[Tensor], Tensor], way: str) -> None:
    layer, x = build(name)
    parameters = [*layer.parameters()]

    def gradients(convolve: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return output_and_gradients(lambda x: convolve(change(x)), x, *parameters)

    with WAYS[way]():
        values = gradients(layer)
    for value, reference in zip(values, gradients(plain(layer)), strict=True):
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


@covering(2, name=[*SHAPES], input_format=FORMATS, weight_format=FORMATS)
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
            for memory_format in FORMATS.values():
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


@covering(1, name=["3x3", "map_smaller_than_kernel", "depthwise_15x15", "1x1_large"], way=["whole", "blocks"])
def test_training_after_inference_mode(name: str, way: str) -> None:
    layer, x = build(name)
    with WAYS[way]():
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

    values = torch.autograd.grad(loss(masked_conv2d, MaskCache()), leaves)
    for value, reference in zip(values, torch.autograd.grad(loss(plain_conv2d), leaves), strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


def test_plain_conv2d_is_the_formula() -> None:
    layer, x = build("groups")
    masked = layer.weight * lp_mask(layer.C, layer.log2p, layer.kernel_size)
    expected = nn.functional.conv2d(x, masked, layer.bias, padding=1, groups=2)
    assert torch.equal(plain(layer)(x), expected)


@covering(1, name=[*SHAPES], way=["whole", "blocks"])
def test_another_default_device(name: str, way: str) -> None:
    layer, x = build(name)
    with WAYS[way]():
        with torch.device("meta"):
            assert layer(x).is_cpu
            with torch.no_grad():
                assert layer(x).is_cpu
        assert_matches_plain(layer, x)
