"""The paper's large kernels (Table 1, Figure 3): sizes, padding, the embedding of a small kernel, and cropping."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.reach import support
from ..ops.window import Window

ConvT = TypeVar("ConvT", bound=nn.Conv2d)


def large_kernel_size(kernel_size: tuple[int, ...], kernel_scale: int = 2) -> tuple[int, ...]:
    """Return the size of the kernel that replaces a kernel of size `k` (Table 1).

    Args:
        kernel_size: `(Kh, Kw)` of the original kernel, pixels.
        kernel_scale: 2 for the paper's `l = 2 * ceil(k / 2) + k`, 1 to keep the size.

    Returns:
        `(Kh, Kw)` of the large kernel, pixels.

    Raises:
        ValueError: If `kernel_scale` is neither 1 nor 2.
    """
    if kernel_scale not in (1, 2):
        raise ValueError(
            f"`kernel_scale` must be 1 or 2, got {kernel_scale!r}. Use 2 for the paper's kernels, 1 to keep their size."
        )
    if kernel_scale == 1:
        return kernel_size
    height, width = kernel_size
    return 2 * ((height + 1) // 2) + height, 2 * ((width + 1) // 2) + width


def large_padding(conv: nn.Conv2d, kernel_size: tuple[int, ...]) -> str | tuple[int, ...]:
    """Return the padding with which a larger kernel keeps a convolution's output size.

    Args:
        conv: The original convolution; its dilation counts.
        kernel_size: `(Kh, Kw)` of the larger kernel, each an even number of pixels larger than the original.

    Returns:
        `"same"` if the original has it, else `(height, width)`, pixels. With the padding modes "reflect" and
        "circular", torch refuses maps that are not larger than the padding.
    """
    if conv.padding == "same" or kernel_size == conv.kernel_size:
        return conv.padding
    padding = (0, 0) if isinstance(conv.padding, str) else conv.padding
    ring = [(large - small) // 2 for large, small in zip(kernel_size, conv.kernel_size, strict=True)]
    return (padding[0] + ring[0] * conv.dilation[0], padding[1] + ring[1] * conv.dilation[1])


def embed_kernel(weight: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    """Return a kernel placed in the centre of a larger one that is zero elsewhere (Figure 3).

    Args:
        weight: Kernel, shape `(O, I, Kh, Kw)`.
        kernel_size: Size of the larger kernel, pixels.

    Returns:
        Kernel, shape `(O, I, *kernel_size)`.

    Raises:
        ValueError: If the larger kernel is smaller, or larger by an odd number of pixels.
    """
    growth = [large - small for large, small in zip(kernel_size, weight.shape[-2:], strict=True)]
    if any(g < 0 or g % 2 for g in growth):
        raise ValueError(
            f"`kernel_size` must exceed the kernel's {tuple(weight.shape[-2:])} by an even number of pixels, "
            f"got {kernel_size}. Use `large_kernel_size`."
        )
    top, left = growth[0] // 2, growth[1] // 2
    return F.pad(weight, (left, left, top, top))


def to_large_conv2d(conv: nn.Conv2d, kernel_scale: int = 2) -> nn.Conv2d:
    """Return the paper's "Large" layer: the same convolution in a larger kernel, without a mask (Table 1).

    Args:
        conv: The original convolution; it is not changed.
        kernel_scale: See `large_kernel_size`.

    Returns:
        A new convolution that computes what `conv` computes, with `conv`'s dtype, device and `requires_grad`.

    Raises:
        TypeError: If `conv` does not compute as a plain `nn.Conv2d` does.
    """
    check_conv2d(conv)
    kernel_size = large_kernel_size(conv.kernel_size, kernel_scale)
    large = build_like(nn.Conv2d, conv, kernel_size, large_padding(conv, kernel_size))
    copy_weights(conv, large, embed_kernel(conv.weight.detach(), kernel_size))
    return large


def crop_conv2d(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the smallest convolution that computes what `conv` computes.

    It removes outer rings of taps that are 0 in every channel, and shrinks the padding with the kernel. A convolution
    without padding keeps its kernel, because the kernel's size sets the size of the output.

    Args:
        conv: A convolution; it is not changed.

    Returns:
        A new convolution, or `conv` itself if there is nothing to crop.

    Raises:
        TypeError: If `conv` does not compute as a plain `nn.Conv2d` does.
    """
    check_conv2d(conv)
    height, width = conv.kernel_size
    window = support(conv.weight)
    rings = [min(window.top, height - window.bottom), min(window.left, width - window.right)]
    if conv.padding == "valid":
        return conv
    padding = conv.padding
    if not isinstance(padding, str):
        rings = [min(ring, p // d) for ring, p, d in zip(rings, padding, conv.dilation, strict=True)]
        padding = tuple(p - d * ring for p, d, ring in zip(padding, conv.dilation, rings, strict=True))
    return _without_rings(conv, rings, padding) if any(rings) else conv


def crop_conv2d_to(conv: nn.Conv2d, kernel_size: tuple[int, ...]) -> nn.Conv2d:
    """Return a convolution with a smaller kernel, the centre of that of `conv`, and as much less padding.

    Args:
        conv: A convolution; it is not changed.
        kernel_size: `(Kh, Kw)`, each an even number of pixels smaller than that of `conv`, or equal.

    Raises:
        ValueError: If `conv` cannot have such a kernel.
    """
    growth = [large - small for large, small in zip(conv.kernel_size, kernel_size, strict=True)]
    if any(pixels < 0 or pixels % 2 for pixels in growth) or min(kernel_size) < 1:
        raise ValueError(
            f"`kernel_size` must be smaller than {conv.kernel_size} by an even number of pixels, got {kernel_size}."
        )
    rings = [pixels // 2 for pixels in growth]
    padding = conv.padding
    if not isinstance(padding, str):
        padding = tuple(p - d * ring for p, d, ring in zip(padding, conv.dilation, rings, strict=True))
    return _without_rings(conv, rings, padding)


def _without_rings(conv: nn.Conv2d, rings: list[int], padding: str | tuple[int, ...]) -> nn.Conv2d:
    height, width = conv.kernel_size
    window = Window(rings[0], height - rings[0], rings[1], width - rings[1])
    kernel = window.crop(conv.weight.detach())
    cropped = build_like(nn.Conv2d, conv, tuple(kernel.shape[2:]), padding)
    copy_weights(conv, cropped, kernel)
    return cropped


def computes_as_conv2d(conv: nn.Module) -> bool:
    """Tell whether a layer's forward is that of `nn.Conv2d`."""
    return isinstance(conv, nn.Conv2d) and all(
        name not in vars(conv) and getattr(type(conv), name) is getattr(nn.Conv2d, name)
        for name in ("forward", "_conv_forward")
    )


def check_conv2d(conv: nn.Module) -> None:
    """Refuse a layer that does not compute as a plain `nn.Conv2d` does.

    Raises:
        TypeError: If it does not.
    """
    if not computes_as_conv2d(conv):
        raise TypeError(
            f"`conv` must be an nn.Conv2d without a forward of its own, got {type(conv).__name__}. "
            "Build the plain convolution first."
        )


def build_like(
    cls: type[ConvT],
    conv: nn.Conv2d,
    kernel_size: tuple[int, ...],
    padding: str | tuple[int, ...],
    **kwargs: object,
) -> ConvT:
    """Return an uninitialised layer of type `cls` with `conv`'s arguments but another kernel; it draws no numbers."""
    arguments = {
        "stride": conv.stride,
        "padding": padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
        "bias": conv.bias is not None,
        "padding_mode": conv.padding_mode,
        "device": conv.weight.device,
        "dtype": conv.weight.dtype,
        **kwargs,
    }
    return nn.utils.skip_init(cls, conv.in_channels, conv.out_channels, kernel_size, **arguments)


@torch.no_grad()
def copy_weights(source: nn.Conv2d, target: nn.Conv2d, weight: Tensor) -> None:
    """Copy `weight` to `target`, and from `source` the bias, `requires_grad` and the training mode."""
    target.weight.copy_(weight)
    target.weight.requires_grad_(source.weight.requires_grad)
    if source.bias is not None and target.bias is not None:
        target.bias.copy_(source.bias)
        target.bias.requires_grad_(source.bias.requires_grad)
    target.train(source.training)
