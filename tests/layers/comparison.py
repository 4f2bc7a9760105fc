"""Layers with values of their own, compared with the reference in value and gradient."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from timm_lp.layers import LpConv2d

from ..ops.reference import lp_conv2d_reference


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomize(layer: nn.Module) -> nn.Module:
    """Fill a layer with values that come from no initialisation; its masks get different p, widths and rotations."""
    generator = seeded()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(parameter + 0.15 * noise if name == "C" else noise)
    return layer


def image(channels: int = 4, size: tuple[int, int] = (12, 13), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, channels, *size, generator=seeded(1), dtype=torch.float64).to(dtype)


def relative_error(value: Tensor, expected: Tensor) -> float:
    assert value.shape == expected.shape
    return ((value - expected).abs().max() / expected.abs().max()).item()


def output_and_gradients(layer: Callable[[Tensor], Tensor], x: Tensor, *parameters: Tensor) -> list[Tensor]:
    x = x.detach().clone().requires_grad_()
    output = layer(x)
    weights = torch.randn(output.shape, generator=seeded(2), dtype=torch.float64).to(output.dtype)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), [x, *parameters])]


def sides(layer: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding of a layer as `((top, bottom), (left, right))`; "same" puts the odd pixel last."""
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((pixels, pixels) for pixels in layer.padding)


def reference_values(layer: LpConv2d, x: Tensor) -> list[Tensor]:
    """Return the output and all gradients of the reference, which is slow."""

    def reference(x: Tensor) -> Tensor:
        return lp_conv2d_reference(
            x,
            layer.weight,
            layer.bias,
            layer.C,
            layer.log2p,
            stride=layer.stride,
            padding=sides(layer),
            dilation=layer.dilation,
            groups=layer.groups,
        )

    return output_and_gradients(reference, x, *layer.parameters())


def assert_values(layer: LpConv2d, x: Tensor, expected: list[Tensor]) -> None:
    names = ["output", "input", *(name for name, _ in layer.named_parameters())]
    values = output_and_gradients(layer, x, *layer.parameters())
    for name, value, reference in zip(names, values, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def assert_matches_reference(layer: LpConv2d, x: Tensor) -> None:
    assert_values(layer, x, reference_values(layer, x))
