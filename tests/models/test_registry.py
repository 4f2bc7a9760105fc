from functools import cache
from inspect import signature
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, model_entrypoint
from torch import nn

from timm_lp import LpConv2d
from timm_lp.models.complexity import count_macs

from ..covering import covering
from .networks import create, seed

P_INIT = {"lp": 2.0, "lp2": 2.0, "lp4": 4.0, "lp8": 8.0, "lp16": 16.0, "lp256f": 256.0, "large": None}
SMALL_STEMS = (
    "alexnet_small_stem",
    "resnet18_small_stem",
    "resnet34_small_stem",
    "resnet50_small_stem",
    "resnext50_32x4d_small_stem",
    "densenet121_small_stem",
)
KERNEL_SCALE_2 = (
    "alexnet",
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "convnext_tiny",
    "convnextv2_tiny",
    *SMALL_STEMS,
)
KERNEL_SCALE_1 = ("replknet31", "replknet31_base", "replknet31_large", "replknet_xl")
ARCHITECTURES = KERNEL_SCALE_2 + KERNEL_SCALE_1
REGISTERED = timm.list_models(module="lp_models")

LARGE_KERNEL = {1: 3, 2: 4, 3: 7, 4: 8, 5: 11, 7: 15, 11: 23}  # l = 2 * ceil(k / 2) + k
CONVERTED = {"alexnet": 5, "vgg16": 13, "resnet18": 20, "convnext_tiny": 22}
PARAMETERS = {
    "lp2_alexnet": 68_589_704,
    "lp2_vgg16": 200_480_904,
    "lp2_resnet18": 61_537_480,
    "lp2_resnet34": 116_556_360,
    "lp2_resnet50": 171_409_352,
    "lp2_resnext50_32x4d": 201_782_344,
    "lp2_densenet121": 54_528_072,
    "lp2_convnext_tiny": 33_838_760,
    "lp2_convnextv2_tiny": 33_885_128,
    "lp2_replknet31": 11_791_624,
    "replknet31": 11_648_904,
}
MACS = {
    "lp2_alexnet": "3.41",
    "lp2_vgg16": "83.7",
    "lp2_resnet18": "9.84",
    "lp2_resnet34": "19.9",
    "lp2_convnext_tiny": "5.40",
    "lp2_replknet31": "2.5",
}
STEMS = ("", "_small_stem")
# Deep networks of which a few layers of each kind are enough where only the variant differs.
SHALLOW: dict[str, dict[str, Any]] = {
    **{f"densenet121{stem}": {"block_config": (2, 2, 2, 2)} for stem in STEMS},
    **{
        f"{arch}{stem}": {"layers": (1, 1, 1, 1)}
        for arch in ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")
        for stem in STEMS
    },
    **{arch: {"depths": (1, 1, 1, 1)} for arch in ("convnext_tiny", "convnextv2_tiny", *KERNEL_SCALE_1)},
}


@cache
def on_meta(name: str, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=200, **kwargs)


def convs(model: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def expected_conv(base: nn.Conv2d, arch: str) -> tuple[object, ...]:
    """Return what identifies the convolution that replaces `base`."""
    sizes = [LARGE_KERNEL[k] if arch in KERNEL_SCALE_2 else k for k in base.kernel_size]
    padding = [p + (large - k) // 2 for p, large, k in zip(base.padding, sizes, base.kernel_size, strict=True)]
    return (base.in_channels, base.out_channels, base.groups, base.stride, tuple(sizes), tuple(padding))


def actual_conv(conv: nn.Conv2d) -> tuple[object, ...]:
    return (conv.in_channels, conv.out_channels, conv.groups, conv.stride, conv.kernel_size, conv.padding)


def test_every_architecture_in_every_variant() -> None:
    assert sorted(REGISTERED) == sorted(f"{prefix}_{arch}" for prefix in P_INIT for arch in ARCHITECTURES)
    assert set(REGISTERED) <= set(timm.list_models("l*"))
    assert {"alexnet"} == set(timm.list_models(module="alexnet"))
    assert (
        set(SMALL_STEMS)
        == set(timm.list_models(module="small_stem"))
        == set(timm.list_models("*_small_stem")) - {*REGISTERED}
    )
    assert set(KERNEL_SCALE_1) == set(timm.list_models(module="replknet"))


def test_entry_points_look_like_timms() -> None:
    for name in REGISTERED:
        entry = model_entrypoint(name)
        assert entry.__name__ == name
        assert entry.__doc__.startswith(f"{name.split('_', 1)[1]} with ")
        assert list(signature(entry).parameters) == ["pretrained", "kwargs"]


@covering(1, arch=ARCHITECTURES, prefix=[*P_INIT])
def test_convolutions(arch: str, prefix: str) -> None:
    name = f"{prefix}_{arch}"
    depth = {} if name in PARAMETERS else SHALLOW.get(arch, {})
    options = {} if prefix in ("lp2", "large") else {"preserve": False}  # spares the masks' values, which meta lacks
    model = on_meta(name, **depth, **options)
    base = on_meta(arch, **depth)
    kind = nn.Conv2d if prefix == "large" else LpConv2d
    before, after = convs(base), convs(model)
    assert before.keys() == after.keys()
    for fqn, conv in after.items():
        if fqn.startswith("pre_logits"):  # the classifiers of AlexNet and VGG stay
            assert type(conv) is nn.Conv2d
            assert actual_conv(conv) == actual_conv(before[fqn])
            continue
        assert type(conv) is kind, fqn
        assert actual_conv(conv) == expected_conv(before[fqn], arch), fqn
        if isinstance(conv, LpConv2d):
            assert conv.p_init == P_INIT[prefix]
            assert conv.sigma_init == tuple(k / 2 for k in before[fqn].kernel_size)
            assert conv.log2p.requires_grad == conv.C.requires_grad == (prefix != "lp256f")
    assert all(p.requires_grad for key, p in model.named_parameters() if not key.endswith((".C", ".log2p")))
    assert model.num_classes == 200
    assert model.pretrained_cfg["architecture"] == name


@pytest.mark.parametrize(("arch", "count"), CONVERTED.items())
def test_number_of_converted_convolutions(arch: str, count: int) -> None:
    assert sum(isinstance(conv, LpConv2d) for conv in convs(on_meta(f"lp2_{arch}")).values()) == count


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_number_of_parameters(name: str, count: int) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == count


@pytest.mark.parametrize(
    ("name", "millions"), [("replknet31_base", 79), ("replknet31_large", 172), ("replknet_xl", 335)]
)
def test_sizes_of_the_published_replknets(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) // 10**6 == millions


@pytest.mark.parametrize(("name", "giga"), MACS.items())
def test_multiply_accumulates(name: str, giga: str) -> None:
    digits = len(giga.partition(".")[2])
    assert f"{count_macs(on_meta(name), (3, 224, 224)) / 1e9:.{digits}f}" == giga


@pytest.mark.parametrize(
    ("name", "p"), [*((f"{prefix}_resnet18", p) for prefix, p in P_INIT.items() if p), ("lp2_replknet31", 2.0)]
)
def test_masks_start_at_the_variants_p(name: str, p: float) -> None:
    for conv in convs(create(name)).values():
        assert torch.allclose(conv.p, torch.tensor(p))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_tags_and_weights_are_those_of_the_base_network(arch: str) -> None:
    base_cfgs = get_arch_pretrained_cfgs(arch)
    for prefix in P_INIT:
        name = f"{prefix}_{arch}"
        cfgs = get_arch_pretrained_cfgs(name)
        assert [key.removeprefix(f"{prefix}_") for key in cfgs] == list(base_cfgs)
        for (key, cfg), base in zip(cfgs.items(), base_cfgs.values(), strict=True):
            assert cfg.architecture == name
            assert cfg.tag == base.tag
            for what in ("hf_hub_id", "url", "license", "num_classes", "input_size", "first_conv", "classifier"):
                assert getattr(cfg, what) == getattr(base, what), (key, what)
        assert get_pretrained_cfg(name).tag == get_pretrained_cfg(arch).tag
        pretrained = [key.removeprefix(f"{prefix}_") for key in timm.list_pretrained(name)]
        assert pretrained == timm.list_pretrained(arch)
        assert timm.is_model_pretrained(name) == timm.is_model_pretrained(arch)


def test_pretrained_sources() -> None:
    cfg = get_pretrained_cfg("lp2_resnet18.a1_in1k")
    assert cfg.hf_hub_id == "timm/resnet18.a1_in1k"
    assert "lp2_resnet18.a1_in1k" in timm.list_pretrained("lp*")
    assert get_pretrained_cfg("lp16_convnextv2_tiny.fcmae_ft_in1k").license == "cc-by-nc-4.0"
    assert "alexnet.tv_in1k" in timm.list_pretrained()
    assert not timm.list_pretrained("*replknet*")


def test_unknown_tag_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Invalid pretrained tag \(nonsense\) for lp2_resnet18"):
        timm.create_model("lp2_resnet18.nonsense")


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",
        "resnet18.fb_swsl_ig1b_ft_in1k",
        "convnext_tiny.in12k_ft_in1k_384",
        "convnextv2_tiny",
        "alexnet.tv_in1k",
        "replknet31_large",
    ],
)
def test_data_config_is_that_of_the_base_network(name: str) -> None:
    depth = SHALLOW.get(name.split(".")[0], {})
    model, base = on_meta(f"lp16_{name}", **depth), on_meta(name, **depth)
    for use_test_size in (False, True):
        config, expected = (resolve_model_data_config(net, use_test_size=use_test_size) for net in (model, base))
        assert config == expected


@pytest.mark.parametrize(
    ("name", "option", "allowed"),
    [
        ("lp2_resnet18", "p_init", "lp_layers, preserve, trainable_mask"),
        ("lp256f_resnet18", "p_init", "lp_layers, preserve"),
        ("lp256f_resnet18", "trainable_mask", "lp_layers, preserve"),
        ("large_resnet18", "p_init", "lp_layers"),
        ("large_resnet18", "trainable_mask", "lp_layers"),
        ("large_resnet18", "preserve", "lp_layers"),
    ],
)
def test_option_that_the_variant_fixes_is_refused(name: str, option: str, allowed: str) -> None:
    message = rf"`{option}` must not be given to {name}, got 1.*options: {allowed}\); lp_resnet18 takes all of them"
    with pytest.raises(TypeError, match=message):
        timm.create_model(name, **{option: 1})


def test_options_reach_the_conversion() -> None:
    model = create("lp_resnet18", p_init=3.0, trainable_mask=False)
    for conv in convs(model).values():
        assert torch.allclose(conv.p, torch.tensor(3.0))
        assert not conv.C.requires_grad
        assert not conv.log2p.requires_grad
    with seed():
        base = create("resnet18")
    with seed():
        damped = create("lp_resnet18", preserve=False)
    with seed():
        preserved = create("lp4_resnet18", trainable_mask=False)
    centre = (slice(None), slice(None), slice(4, 11), slice(4, 11))
    assert torch.equal(damped.conv1.weight[centre], base.conv1.weight)
    assert torch.allclose(preserved.conv1.masked_weight()[centre], base.conv1.weight)
    assert not preserved.conv1.C.requires_grad
    with pytest.raises(ValueError, match=r"`p_init` must be a finite number >= 1, got 0\.5"):
        create("lp_resnet18", p_init=0.5)
