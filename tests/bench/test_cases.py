import pytest
import torch
from torch import nn

from timm_lp.bench.cases import SUITES, Layer, Network
from timm_lp.layers import LpConv2d

SMALL = Network("lp16", "resnet18", 32, 2)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    """Return the forms of the small network, with the same classifier."""
    forms = {}
    for form, build in SMALL.forms().items():
        torch.manual_seed(0)
        forms[form] = build().eval()
    return forms


def test_forms_of_a_network(models: dict[str, nn.Module]) -> None:
    assert list(models) == ["large", "base", "lp", "merged", "cropped"]
    masked = [form for form, model in models.items() if any(isinstance(m, LpConv2d) for m in model.modules())]
    assert masked == ["lp"]
    kernels = {
        form: [m.kernel_size[0] for m in model.modules() if isinstance(m, nn.Conv2d)] for form, model in models.items()
    }
    assert kernels["large"] == kernels["lp"] == kernels["merged"]
    assert sum(kernels["base"]) <= sum(kernels["cropped"]) < sum(kernels["merged"])
    assert SMALL.input().shape == (2, 3, 32, 32)


@torch.no_grad()
def test_merged_and_cropped_compute_what_the_lp_network_computes(models: dict[str, nn.Module]) -> None:
    outputs = {form: model(SMALL.input()) for form, model in models.items()}
    for form in ("merged", "cropped"):
        torch.testing.assert_close(outputs[form], outputs["lp"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(outputs["large"], outputs["lp"], rtol=1e-2)


def test_perturbed_masks_are_off_their_start() -> None:
    network = Network("lp2", "resnet18", 32, 2, perturbed=True)
    conv = next(m for m in network.forms()["lp"]().modules() if isinstance(m, LpConv2d))
    assert 0 < (conv.p - 2).abs().max() <= 0.2 + 1e-5
    assert str(network) == "lp2_resnet18, masks moved 5 %, 32 px, batch 2"


def test_every_tap_of_a_filled_network_counts(models: dict[str, nn.Module]) -> None:
    for form in ("large", "lp"):
        convs = [module for module in models[form].modules() if isinstance(module, nn.Conv2d)]
        assert all((conv.weight.abs().amax(dim=(0, 1)) > 0).all() for conv in convs)


@pytest.mark.parametrize(("groups", "kind"), [(1, "dense"), (2, "2 groups"), (4, "depthwise")])
def test_forms_of_a_layer(groups: int, kind: str) -> None:
    layer = Layer(7, 4, 5, groups, 2)
    assert str(layer) == f"7x7 {kind}, 4 channels, 5x5, batch 2"
    for build in layer.forms().values():
        assert build()(layer.input()).shape == layer.input().shape


def test_a_small_stem_is_converted() -> None:
    forms = Network("lp2", "resnet18", 32, 2, small_stem=True).forms()
    for form, build in ((form, forms[form]) for form in ("base", "large", "lp")):
        stem = next(module for module in build().modules() if isinstance(module, nn.Conv2d))
        size, masked = (3 if form == "base" else 7), form == "lp"
        assert (stem.kernel_size, stem.stride, isinstance(stem, LpConv2d)) == ((size, size), (1, 1), masked)


def test_a_network_with_large_kernels_is_its_own_large_form() -> None:
    kernels = {
        form: max(m.kernel_size for m in build().modules() if isinstance(m, nn.Conv2d))
        for form, build in Network("lp2", "replknet31", 32, 2).forms().items()
    }
    assert set(kernels.values()) == {(31, 31)}


@pytest.mark.parametrize("suite", SUITES)
def test_names_are_unique(suite: str) -> None:
    names = [str(case) for case in SUITES[suite]]
    assert len(set(names)) == len(names)
