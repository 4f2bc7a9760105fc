"""Functional synapses of a network's first convolution (A.2), and its fields."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import Conv2dSame
from torch import Tensor, nn

from ...layers import LpConv2d
from ...layers.large_kernel import computes_as_conv2d
from .density import Array
from .fields import Field

Counts = NDArray[np.int64]

_SMALLEST_KERNEL = 3  # taps along an axis; less say nothing about a shape


@dataclass(frozen=True)
class FirstConvolution:
    """A network's first convolution, at the size of its inputs.

    Attributes:
        kernel: Its kernel with masks folded in, shape `(O, I, Kh, Kw)`.
        stride: `(height, width)`, pixels.
        dilation: `(height, width)`, pixels.
    """

    kernel: Tensor
    stride: tuple[int, int]
    dilation: tuple[int, int]


class _Reached(Exception):
    """The first convolution was called; the later layers are not needed."""


def first_convolution(network: nn.Module, input_size: tuple[int, int, int], name: str) -> FirstConvolution:
    """Return the first convolution that a network runs.

    Args:
        network: The network.
        input_size: Size of its inputs, `(channels, height, width)`.
        name: What to call it in a message.

    Raises:
        ValueError: If there is none, it does not see the input itself, or it is not a plain convolution of at least
            3 x 3 taps.
    """
    called: list[tuple[nn.Conv2d, torch.Size]] = []

    def reach(module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        called.append((module, inputs[0].shape))
        raise _Reached

    hooks = [m.register_forward_pre_hook(reach) for m in network.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *input_size))
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    if not called or called[0][1][1:] != input_size:
        raise ValueError(
            f"`NETWORK` must begin with a convolution of its input, got {name}, which does not. Name another network."
        )
    conv = called[0][0]
    is_plain = type(conv) in (LpConv2d, Conv2dSame) or computes_as_conv2d(conv)  # the padding does not count
    if not is_plain or conv.groups != 1 or min(conv.kernel_size) < _SMALLEST_KERNEL:
        raise ValueError(
            f"`NETWORK` must begin with a plain convolution of one group and at least {_SMALLEST_KERNEL} x "
            f"{_SMALLEST_KERNEL} taps, got {name}, which begins with {conv}. Name another network."
        )
    kernel = conv.masked_weight() if isinstance(conv, LpConv2d) else conv.weight
    return FirstConvolution(kernel.detach(), _pair(conv.stride), _pair(conv.dilation))


def functional_synapses(convolution: FirstConvolution, image: Tensor) -> Counts:
    """Count how often each weighted input of each neuron is a functional synapse for an image.

    Z are the products of a neuron's kernel with each patch of the image, not added up (A.2). A product counts where |Z|
    is above the standard deviation of that neuron's |Z|: the text's |Z|, where Eq. 6 prints Z. Patches lie within the
    image, at the layer's stride.

    Args:
        convolution: The layer.
        image: An input, shape `(I, H, W)`.

    Returns:
        Counts over the patches, shape `(O, I, Kh, Kw)`.
    """
    patches = _patches(convolution, image)
    kernel = convolution.kernel.detach().abs().double().cpu().flatten(1).numpy()  # (O, taps)
    # |Z| is |patch| times |kernel|, so that its moments are products, and counting needs each tap's inputs in order.
    mean = kernel @ patches.mean(0) / patches.shape[1]
    square = kernel**2 @ (patches**2).mean(0) / patches.shape[1]
    threshold = np.sqrt(np.maximum(square - mean**2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(kernel > 0, threshold[:, None] / kernel, np.inf)  # of the input, to exceed the threshold
    ordered = np.sort(patches, axis=0)
    columns = [np.searchsorted(*column, side="right") for column in zip(ordered.T, needed.T, strict=True)]
    return (len(patches) - np.stack(columns, axis=1)).reshape(convolution.kernel.shape).astype(np.int64)


def tap_offsets(convolution: FirstConvolution) -> Array:
    """Return the offsets of the kernel's taps from its centre, `(x, y)` with y down, shape `(Kh * Kw, 2)`, pixels."""
    y, x = (
        distance * (np.arange(size) - (size - 1) / 2)
        for distance, size in zip(convolution.dilation, convolution.kernel.shape[-2:], strict=True)
    )
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _patches(convolution: FirstConvolution, image: Tensor) -> Array:
    """Return the sizes of the inputs of each patch, shape `(patches, I * Kh * Kw)`."""
    columns = nn.functional.unfold(
        image.detach()[None].abs().double().cpu(),
        tuple(convolution.kernel.shape[-2:]),
        dilation=convolution.dilation,
        stride=convolution.stride,
    )
    return columns[0].T.numpy()


@dataclass(frozen=True)
class NetworkSource:
    """A network and its inputs.

    Attributes:
        group: Name of the group.
        network: Name of the network with its weights, for the picture of its kernels.
        shown: Name of the inputs.
        convolution: Its first convolution.
        inputs: The inputs, by name, each of shape `(I, H, W)`.
    """

    group: str
    network: str
    shown: str
    convolution: FirstConvolution
    inputs: list[tuple[str, Tensor]]

    def synapses(self) -> Iterator[tuple[str, Counts]]:
        """Yield the functional synapses of each input, shape `(O, I, Kh, Kw)`, with its name."""
        for name, image in self.inputs:
            yield name, functional_synapses(self.convolution, image)

    def fields(self, synapses: dict[str, Counts], unit: str) -> list[Field]:
        """Return the fields: of each image over all neurons (section 2), or of each neuron over all images.

        Those without synapses on at least two rows and two columns have no shape, and are left out.

        Args:
            synapses: The functional synapses by input.
            unit: `"image"` or `"neuron"`.
        """
        if unit == "image":
            maps = {name: counts.sum((0, 1)) for name, counts in synapses.items()}
        else:
            total = sum(counts.sum(1) for counts in synapses.values())
            maps = {f"neuron {number}": neuron for number, neuron in enumerate(np.asarray(total), start=1)}
        offsets = tap_offsets(self.convolution)
        height, width = self.convolution.dilation
        return [
            Field(self.group, name, offsets, counts.ravel().astype(np.float64), (float(width), float(height)))
            for name, counts in maps.items()
            if _has_shape(counts)
        ]


def _has_shape(counts: Array | Counts) -> bool:
    return all((counts.sum(axis) > 0).sum() > 1 for axis in (0, 1))
