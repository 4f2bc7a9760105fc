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
    if not any(rings):
        return conv
    window = Window(rings[0], height - rings[0], rings[1], width - rings[1])
    kernel = window.crop(conv.weight.detach())
    cropped = build_like(nn.Conv2d, conv, tuple(kernel.shape[2:]), padding)
    copy_weights(conv, cropped, kernel)
    return cropped
