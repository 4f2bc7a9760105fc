"""Functional synapses, against the definition of A.2 written out."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import StdConv2d
from torch import nn

from timm_lp.experiments.receptive_fields.synapses import (
    FirstConvolution,
    NetworkSource,
    first_convolution,
    functional_synapses,
    tap_offsets,
)
from timm_lp.layers import LpConv2d

SIZE = (3, 32, 32)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (3, 2)])
def test_the_counts_are_those_of_every_product(stride: tuple[int, int], dilation: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    image, kernel = torch.randn(2, 13, 15, generator=generator), torch.randn(4, 2, 3, 5, generator=generator)
    kernel[0, 0, 1, 2] = 0
    kernel[3] = 0
    counts = functional_synapses(FirstConvolution(kernel, stride, dilation), image)
    assert counts.shape == kernel.shape
    for neuron, weights in enumerate(kernel.double()):
        products = []
        for top in range(0, 13 - 2 * dilation[0], stride[0]):
            for left in range(0, 15 - 4 * dilation[1], stride[1]):
                rows = [top + dilation[0] * row for row in range(3)]
                columns = [left + dilation[1] * column for column in range(5)]
                products.append((image.double()[:, rows][:, :, columns] * weights).abs())
        z = torch.stack(products)
        expected = (z > z.std(correction=0)).sum(0)
        np.testing.assert_array_equal(counts[neuron], expected)
    assert counts[:3].sum() > 0
    assert counts[3].sum() == 0


def test_offsets_are_x_and_y_from_the_centre() -> None:
    offsets = tap_offsets(FirstConvolution(torch.zeros(1, 1, 3, 4), (1, 1), (2, 1)))
    np.testing.assert_array_equal(offsets[[0, 3, 4, 11]], [[-1.5, -2], [1.5, -2], [-1.5, 0], [1.5, 2]])


def test_the_fields_of_a_network_are_sums_over_neurons_or_images() -> None:
    source = NetworkSource(
        "net, images", "net", "images", FirstConvolution(torch.zeros(4, 3, 5, 5), (1, 1), (2, 1)), []
    )
    counts = np.random.default_rng(0).integers(1, 9, (2, 4, 3, 5, 5))
    counts[:, 3] = 0
    counts[:, 2] = 0
    counts[0, 2, 0, 1] = 5  # a row alone has no shape
    synapses = dict(zip(("one", "two"), counts, strict=True))
    by_image = source.fields(synapses, "image")
    assert [(field.group, field.unit) for field in by_image] == [("net, images", "one"), ("net, images", "two")]
    np.testing.assert_array_equal(by_image[1].counts, counts[1].sum((0, 1)).ravel())
    by_neuron = source.fields(synapses, "neuron")
    assert [field.unit for field in by_neuron] == ["neuron 1", "neuron 2"]
    np.testing.assert_array_equal(by_neuron[1].counts, counts[:, 1].sum((0, 1)).ravel())
    assert by_neuron[0].tap == (1, 2)


def test_a_mask_is_folded_into_the_kernel() -> None:
    network = timm.create_model("lp2_resnet18", channels=(8, 8, 8, 8))
    found = first_convolution(network, SIZE, "net")
    conv = network.conv1
    assert isinstance(conv, LpConv2d)
    assert torch.equal(found.kernel, conv.masked_weight())
    assert not torch.equal(found.kernel, conv.weight)
    assert (found.stride, found.dilation) == ((2, 2), (1, 1))
    assert not any(module._forward_pre_hooks for module in network.modules())


class _Stem(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.later = nn.Conv2d(3, 2, 5)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.later(self.layers(x))


def test_the_first_one_is_the_one_that_runs_first() -> None:
    first = nn.Conv2d(3, 3, 7)
    assert torch.equal(first_convolution(_Stem(first), SIZE, "net").kernel, first.weight)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Flatten(), "`NETWORK` must begin with a convolution of its input, got net, which does not. Name another"),
        (_Stem(nn.MaxPool2d(2)), "`NETWORK` must begin with a convolution of its input"),
        (
            _Stem(nn.Conv2d(3, 3, 1)),
            r"plain convolution of one group and at least 3 x 3 taps, got net, .* Conv2d\(3, 3",
        ),
        (_Stem(nn.Conv2d(3, 3, 3, groups=3)), "`NETWORK` must begin with a plain convolution of one group"),
        (_Stem(StdConv2d(3, 3, 3)), "`NETWORK` must begin with a plain convolution of one group .* StdConv2d"),
    ],
)
def test_networks_that_begin_otherwise_are_refused(network: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        first_convolution(network, SIZE, "net")


@pytest.mark.parametrize("name", ["convnext_atto", "tf_efficientnet_b0", "vit_tiny_patch16_224"])
def test_networks_of_timm_have_one(name: str) -> None:
    size = (3, 224, 224)
    assert first_convolution(timm.create_model(name), size, name).kernel.shape[1] == 3
