import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_lp import LpConv2d, lp_convert, lp_merge


def trained(name: str, **kwargs: Any) -> nn.Module:
    """Return a small network none of whose taps is 0 by its start."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name, num_classes=3, **kwargs).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(std=module.weight[0].numel() ** -0.5, generator=generator)
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 40, 36, generator=torch.Generator().manual_seed(1))


def kernels(model: nn.Module) -> set[tuple[int, ...]]:
    return {module.kernel_size for module in model.modules() if isinstance(module, nn.Conv2d)}


NETWORKS = {
    "lp2_resnet18": {"channels": (16, 16, 16, 16)},
    "lp16_resnet18": {"channels": (16, 16, 16, 16)},
    "lp256f_convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
    "lp16_replknet31": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "kernel_sizes": (7, 7, 5, 5)},
}


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_merged_computes_the_same_and_leaves_the_model(name: str, crop: bool) -> None:
    model = trained(name, **NETWORKS[name])
    state = copy.deepcopy(model.state_dict())
    merged = lp_merge(model, crop=crop)
    assert not any(isinstance(module, LpConv2d) for module in merged.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(merged(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_merged_fits_the_large_network() -> None:
    merged = lp_merge(trained("lp16_resnet18", **NETWORKS["lp16_resnet18"]))
    large = timm.create_model("large_resnet18", num_classes=3, **NETWORKS["lp16_resnet18"])
    large.load_state_dict(merged.state_dict())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lp16_resnet18", {(9, 9), (3, 3), (1, 1)}), ("lp2_resnet18", {(15, 15), (7, 7), (3, 3)})],
    ids=["lp16", "lp2"],
)
def test_cropping_takes_what_the_masks_leave(name: str, expected: set[tuple[int, ...]]) -> None:
    assert kernels(lp_merge(trained(name, **NETWORKS[name]), crop=True)) == expected


def test_a_bare_convolution() -> None:
    layer = lp_convert(nn.Conv2d(2, 3, 3, padding=1), 256, preserve=False)
    merged = lp_merge(layer, crop=True)
    assert type(merged) is nn.Conv2d
    assert (merged.kernel_size, merged.padding) == ((3, 3), (1, 1))
    x = torch.randn(1, 2, 6, 5)
    torch.testing.assert_close(merged(x), layer(x))


def test_a_convolution_under_two_names_stays_one() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    merged = lp_merge(lp_convert(nn.Sequential(conv, nn.ReLU(), conv), 16), crop=True)
    assert merged[0] is merged[2]
    assert merged[0].kernel_size == (3, 3)


def test_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="`model` must have LpConv2d layers, got Sequential without"):
        lp_merge(nn.Sequential(nn.Conv2d(1, 1, 1)))
