"""Cropping: a convolution without the outer taps that are 0 in every kernel."""

from torch import nn

from ..ops.window import Window, support
from .large_kernel import build_like, check_conv2d, copy_weights


def crop_conv2d(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the smallest convolution that computes what `conv` computes.

    It leaves out the outer rings of taps that are 0 for all channels, and shrinks the padding with the kernel. A
    convolution without padding keeps its kernel, because the kernel's size sets the size of the output.

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
