import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from timm_lp import lp_convert
from timm_lp.bench.cases import SUITES, Layer, given_cases, registered
from timm_lp.layers import LpConv2d

from ..trials.records import TINY, save_trial

SMALL = registered("lp16_test_resnet", 32, 2)


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
    network = registered("lp2_test_resnet", 32, 2, perturbed=True)
    conv = next(m for m in network.forms()["lp"]().modules() if isinstance(m, LpConv2d))
    assert 0 < (conv.p - 2).abs().max() <= 0.2 + 1e-5
    assert str(network) == "lp2_test_resnet, masks moved 5 %, 32 px, batch 2"


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
    forms = registered("lp2_resnet18_small_stem", 32, 2).forms()
    for form, build in ((form, forms[form]) for form in ("base", "large", "lp")):
        stem = next(module for module in build().modules() if isinstance(module, nn.Conv2d))
        size, masked = (3 if form == "base" else 7), form == "lp"
        assert (stem.kernel_size, stem.stride, isinstance(stem, LpConv2d)) == ((size, size), (1, 1), masked)


def test_a_network_with_large_kernels_is_its_own_large_form() -> None:
    kernels = {
        form: max(m.kernel_size for m in build().modules() if isinstance(m, nn.Conv2d))
        for form, build in registered("lp2_replknet31", 32, 2).forms().items()
        if form in ("large", "base", "lp")  # of which the others are made
    }
    assert set(kernels.values()) == {(31, 31)}


def test_a_given_network_stands_beside_its_base_and_large_networks(tmp_path: Path) -> None:
    trials = [save_trial(tmp_path, seed=seed) for seed in (1, 2)]
    cases = given_cases([*map(str, trials)], 8)
    assert [str(case) for case in cases] == [f"lp2-seed{seed}, 224 px, batch 8" for seed in (1, 2)]
    case = cases[1]
    assert case.input().shape == (8, 3, 224, 224)
    case = replace(case, input_size=(3, 32, 24))
    assert str(case) == "lp2-seed2, 32x24 px, batch 8"
    models = {form: build() for form, build in case.forms().items()}
    assert list(models) == ["large", "base", "lp", "merged", "cropped"]
    assert {form: type(model.conv1) for form, model in models.items()} == {
        **dict.fromkeys(("large", "base", "merged", "cropped"), nn.Conv2d),
        "lp": LpConv2d,
    }
    assert {model(case.input()[:2]).shape for model in models.values()} == {(2, 3)}, "the same classes"
    assert [models[form].conv1.kernel_size for form in ("base", "large", "lp", "merged")] == [(7, 7), *[(15, 15)] * 3]
    saved = load_file(trials[1] / "model.safetensors")
    assert torch.equal(models["lp"].conv1.weight, saved["conv1.weight"])
    assert pickle.loads(pickle.dumps(case)).forms().keys() == models.keys()


def test_a_part_of_a_network_stands_beside_the_same_part_with_large_kernels(tmp_path: Path) -> None:
    network = timm.create_model("lp2_resnet18", lp_layers=["layer2"], num_classes=3, **TINY)
    timm.models.save_for_hf(network, str(tmp_path))
    (case,) = given_cases([str(tmp_path)], 8)
    assert case.subject.variant == "lp2@layer2"
    models = {form: build() for form, build in case.forms().items()}
    for layer, sizes in (("conv1", [7, 7, 7, 7]), ("layer2.0.conv1", [3, 7, 7, 7])):
        kernels = [models[form].get_submodule(layer) for form in ("base", "large", "lp", "merged")]
        assert [kernel.kernel_size[0] for kernel in kernels] == sizes


def test_a_hand_converted_network_stands_beside_the_same_layers_with_large_kernels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3, **TINY)
    chosen = lp_convert(network, filter_fn=lambda _, fqn: fqn.startswith("layer2"), kernel_scale=1)
    timm.models.save_for_hf(chosen, str(tmp_path))
    (case,) = given_cases([str(tmp_path)], 8)
    models = {form: build() for form, build in case.forms().items()}
    assert not any(isinstance(module, LpConv2d) for module in models["large"].modules())
    kernels = [
        [module.kernel_size for module in models[form].modules() if isinstance(module, nn.Conv2d)]
        for form in ("base", "large", "lp")
    ]
    assert kernels[0] == kernels[1] == kernels[2], "with a scale of 1 they keep their size"


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("test_resnet", ["large", "base", "lp"]),
        ("lp4_test_resnet", ["large", "base", "lp", "merged", "cropped"]),
    ],
)
def test_a_registered_name_needs_no_weights(name: str, forms: list[str], no_network: str) -> None:
    (case,) = given_cases([name], 8)
    assert [*case.forms()] == forms
    lp, large = (case.forms()[form]() for form in ("lp", "large"))
    convs = [
        [(fqn, module.kernel_size) for fqn, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        for model in (lp, large)
    ]
    assert (convs[0] == convs[1]) == name.startswith("lp")
    assert all(
        (module.weight.abs().amax(dim=(0, 1)) > 0).all() for module in lp.modules() if isinstance(module, nn.Conv2d)
    )


@pytest.mark.parametrize("suite", SUITES)
def test_names_are_unique(suite: str) -> None:
    names = [str(case) for case in SUITES[suite]]
    assert len(set(names)) == len(names)
