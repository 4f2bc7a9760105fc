"""timm's model interface, for a small form of every architecture; what a converted network computes is its base's."""

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models import group_parameters, save_for_hf
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from timm_lp import LpConv2d

from ..covering import covering
from .networks import (
    NUM_CLASSES,
    SMALL,
    assert_same,
    create,
    create_base,
    create_from,
    create_trained,
    every_architecture,
    images,
    seed,
)

pytestmark = pytest.mark.usefixtures("narrow_classics")

MASKS = (".C", ".log2p")
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "headless": {"num_classes": 0, "in_chans": 4},
    "unpooled": {"num_classes": 0, "global_pool": ""},
    "gray_max": {"in_chans": 1, "global_pool": "max"},
}
WITH_DROP_PATH = [arch for arch in SMALL if not arch.startswith(("alexnet", "vgg", "densenet"))]


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's output, with the same random numbers every time."""
    with seed():
        return model(x)


@covering(1, arch=[*SMALL], options=OPTIONS)
def test_computes_what_the_base_network_computes(arch: str, options: dict[str, Any]) -> None:
    base = create_base(arch, **options)
    model = create_from(base, f"lp16_{arch}", **options)
    x = images(arch, options.get("in_chans", 3))
    assert any(isinstance(module, LpConv2d) for module in model.modules())
    assert model.num_classes == base.num_classes
    assert model.num_features == base.num_features
    assert model.head_hidden_size == base.head_hidden_size
    assert_same(outputs(model, x), outputs(base, x))


@every_architecture
def test_channels_last_with_activations_in_place(arch: str) -> None:
    model, x = create_trained(f"lp2_{arch}"), images(arch)
    expected = outputs(model, x[:1])
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    with seed():
        output = model(x[:1])  # with a graph: torch checks what is changed in place
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    model.train()
    (output.sum() + model(x).sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_architecture
def test_dropout(arch: str) -> None:
    rates = {"drop_rate": 0.5, **({"drop_path_rate": 0.5} if arch in WITH_DROP_PATH else {})}
    base = create_base(arch, **rates)
    model = create_from(base, f"lp4_{arch}", **rates)
    drop_paths = [sum(isinstance(module, DropPath) for module in net.modules()) for net in (model, base)]
    assert drop_paths[0] == drop_paths[1]
    assert bool(drop_paths[0]) == (arch in WITH_DROP_PATH)
    x = images(arch)
    evaluated = outputs(model, x)
    trained = outputs(model.train(), x)
    assert not torch.allclose(trained, evaluated)
    assert_same(trained, outputs(base.train(), x))


@covering(1, arch=[*SMALL], indices={"default": None, "chosen": (1, -1)})
def test_features_only(arch: str, indices: tuple[int, ...] | None) -> None:
    options = {"features_only": True} if indices is None else {"features_only": True, "out_indices": indices}
    full = create_base(arch)
    base = create_from(full, arch, **options)
    model = create_from(full, f"lp8_{arch}", **options)
    assert model.feature_info.channels() == base.feature_info.channels()
    assert model.feature_info.reduction() == base.feature_info.reduction()
    x = images(arch)
    with torch.no_grad():
        features = model(x)
        for feature, expected, channels, reduction in zip(
            features, base(x), model.feature_info.channels(), model.feature_info.reduction(), strict=True
        ):
            assert_same(feature, expected)
            assert feature.shape[1] == channels
            if not arch.startswith("alexnet"):  # whose convolutions lose the border
                assert feature.shape[-1] == x.shape[-1] // reduction
    if indices is not None:
        assert len(features) == len(indices)


@covering(1, arch=["alexnet", "resnet18", "densenet121", "convnext_tiny", "replknet31"], feature_cls=["getter", "fx"])
def test_every_kind_of_feature_extractor(arch: str, feature_cls: str) -> None:
    base = create_base(arch)
    model = create_from(base, f"lp8_{arch}", features_only=True, feature_cls=feature_cls)
    with torch.no_grad():
        features = model(images(arch))
        expected = base.forward_intermediates(images(arch), intermediates_only=True)
    for feature, other in zip(features, expected, strict=True):
        assert_same(feature, other)


@every_architecture
def test_other_dtype(arch: str) -> None:
    model = create(f"lp2_{arch}", dtype=torch.float64).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert outputs(model, images(arch).double()).dtype == torch.float64


@every_architecture
def test_forward_intermediates(arch: str) -> None:
    base = create_base(arch)
    model = create_from(base, f"lp16_{arch}")
    x = images(arch)
    with torch.no_grad():
        final, features = model.forward_intermediates(x)
        assert_same(final, model.forward_features(x))
        expected = base.forward_intermediates(x, intermediates_only=True)
        for feature, other, info in zip(features, expected, model.feature_info, strict=True):
            assert_same(feature, other)
            assert feature.shape[1] == info["num_chs"]
        last_two = model.forward_intermediates(x, indices=2, intermediates_only=True)
        first = model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)
    for feature, other in zip([*first, *last_two], [features[0], *features[-2:]], strict=True):
        assert_same(feature, other)


@every_architecture
def test_classifier(arch: str) -> None:
    model = create_trained(f"lp2_{arch}")
    x = images(arch)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(model.forward_head(features), model(x))
        pre_logits = model.forward_head(features, pre_logits=True)
        assert pre_logits.shape == (2, model.head_hidden_size)
        assert torch.equal(model.get_classifier()(pre_logits), model(x))
        model.reset_classifier(5)
        assert model.get_classifier().out_features == model.num_classes == 5
        assert model(x).shape == (2, 5)
        model.reset_classifier(0)
        assert torch.equal(model(x), pre_logits)
        model.reset_classifier(0, "")
        assert model(x).ndim == 4


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with seed():
        model(x).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@every_architecture
def test_grad_checkpointing_keeps_the_gradients(arch: str) -> None:
    model = create_trained(f"lp2_{arch}").train()
    checkpointed = deepcopy(model)
    if arch == "vgg16":
        with pytest.raises(AssertionError, match="gradient checkpointing not supported"):
            checkpointed.set_grad_checkpointing()
        return
    checkpointed.set_grad_checkpointing()
    x = images(arch)
    expected = gradients(model, x)
    for name, grad in gradients(checkpointed, x).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-5 * float(expected[name].abs().max()))


def mask_decays(model: nn.Module) -> set[float]:
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1.0, weight_decay=0.05)
    masks = {id(p) for name, p in model.named_parameters() if name.endswith(MASKS)}
    return {group["weight_decay"] for group in optimizer.param_groups for p in group["params"] if id(p) in masks}


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "getter", "fx"])
def test_masks_do_not_decay_in_feature_extractors(feature_cls: str) -> None:
    model = create("lp2_resnet18", features_only=True, feature_cls=feature_cls, out_indices=(1, 2))
    assert mask_decays(model) == {0.0}


def test_masks_do_not_decay_in_compiled_models() -> None:
    assert mask_decays(torch.compile(create("lp2_resnet18"), backend="eager")) == {0.0}


@pytest.mark.parametrize("arch", ["alexnet", "replknet31"])
def test_dropout_is_that_of_the_argument(arch: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(arch, drop_rate=0.25)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25] * (
        1 + (arch == "alexnet")
    )


@pytest.mark.parametrize("coarse", [True, False], ids=["coarse", "fine"])
def test_replknet_layers_for_layer_decay(coarse: bool) -> None:
    with torch.device("meta"):
        model = timm.create_model("replknet31")
    layers = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    order = ["stem.0.conv.weight", "stages.0.blocks.0.pw1.conv.weight", "stages.0.blocks.3.pw1.conv.weight"]
    order += ["stages.1.downsample.0.conv.weight", "stages.3.blocks.3.pw2.conv.weight", "head.fc.weight"]
    depths = [layers[name] for name in order]
    assert depths == sorted(depths)
    assert (layers[order[1]] == layers[order[2]]) is coarse
    assert layers[order[3]] == layers["stages.1.blocks.0.pw1.conv.weight"]
    assert layers["norm.weight"] >= layers[order[4]]


@every_architecture
def test_optimizer_groups(arch: str) -> None:
    with torch.device("meta"):
        model = create(f"lp2_{arch}")
    names = {name for name, _ in model.named_parameters()}
    masks = {name for name in names if name.endswith(MASKS)}
    assert masks
    assert masks <= model.no_weight_decay() <= names | {"*.C", "*.log2p"}
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1.0, weight_decay=0.05, layer_decay=0.5)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    groups = {name: group_of[id(p)] for name, p in model.named_parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    for name in masks:
        assert groups[name]["weight_decay"] == 0
        assert groups[name]["lr_scale"] == groups[f"{name.rpartition('.')[0]}.weight"]["lr_scale"]
    first, classifier = model.pretrained_cfg["first_conv"], model.pretrained_cfg["classifier"]
    assert groups[f"{classifier}.weight"]["lr_scale"] == 1
    assert groups[f"{first}.weight"]["lr_scale"] == min(group["lr_scale"] for group in optimizer.param_groups) < 0.1
    assert groups[f"{first}.weight"]["weight_decay"] == 0.05


@pytest.mark.parametrize("arch", ["resnet18", "resnet18_small_stem", "convnext_tiny"])
def test_output_stride(arch: str) -> None:
    base = create_base(arch, output_stride=8)
    model = create_from(base, f"lp16_{arch}", output_stride=8)
    x = images(arch)
    with torch.no_grad():
        assert_same(model.forward_features(x), base.forward_features(x))
        assert model.forward_features(x).shape[-2:] == (x.shape[-2] // 8, x.shape[-1] // 8)
    assert any(conv.dilation != (1, 1) for conv in model.modules() if isinstance(conv, LpConv2d))


@every_architecture
def test_copies(arch: str) -> None:
    model = create_trained(f"lp2_{arch}")
    x = images(arch)
    expected = outputs(model, x)
    loaded = create(f"lp2_{arch}").eval()
    loaded.load_state_dict(model.state_dict(), strict=True)
    for copied in (loaded, deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(outputs(copied, x), expected)
        assert copied.no_weight_decay() == model.no_weight_decay()
        with torch.no_grad():
            copied.get_parameter(f"{model.pretrained_cfg['first_conv']}.C").zero_()
        assert not torch.equal(outputs(copied, x), expected)
    assert torch.equal(outputs(model, x), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(f"lp16_{arch.values[0]}", {}, marks=arch.marks) for arch in every_architecture.args[1]),
        ("large_resnet18", {}),
        ("lp256f_convnext_tiny", {}),
        ("lp_resnet18", {"p_init": 3.0, "trainable_mask": False}),
        ("lp4_resnet18", {"in_chans": 1, "global_pool": "max", "preserve": False}),
    ],
    ids=str,
)
def test_saved_model_is_loaded_by_its_folder(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = create_trained(name, **options)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = images(name, options.get("in_chans", 3))
    assert torch.equal(outputs(loaded, x), outputs(model, x))
    assert loaded.num_classes == NUM_CLASSES
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [m.p_init for m in loaded.modules() if isinstance(m, LpConv2d)] == [
        m.p_init for m in model.modules() if isinstance(m, LpConv2d)
    ]


@every_architecture
def test_training_moves_the_masks(arch: str) -> None:
    model = create_from(create_base(arch), f"lp2_{arch}").train()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name.endswith(MASKS)}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, target = images(arch), torch.tensor([1, 2])
    for _ in range(2):  # an embedded 1x1 kernel has no weight under the mask's slope before the first step
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
        optimizer.step()
    for name, value in before.items():
        conv = model.get_submodule(name.rpartition(".")[0])
        if conv.kernel_size != (1, 1):  # RepLKNet's stay 1x1, where any mask is 1
            assert not torch.equal(model.get_parameter(name), value), name


def test_frozen_masks_stay() -> None:
    model = create_from(create_base("resnet18"), "lp256f_resnet18").train()
    grads = gradients(model, images())
    assert not any(name.endswith(MASKS) for name in grads)
    assert all(p.grad is None for name, p in model.named_parameters() if name.endswith(MASKS))
