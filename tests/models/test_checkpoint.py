from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import load_pretrained
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vgg import VGG, make_layers

from timm_lp import LpConv2d, lp_convert
from timm_lp.models import ARCHITECTURES
from timm_lp.models.checkpoint import checkpoint_filter_fn

from ..covering import covering
from .networks import (
    NUM_CLASSES,
    SMALL,
    assert_same,
    create,
    create_base,
    create_from,
    create_trained,
    images,
    randomize,
    stir,
)

StateDict = dict[str, Tensor]


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x)


def features(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().forward_features(x)


def create_with(name: str, weights: StateDict, cfg_classes: int = NUM_CLASSES, **kwargs: Any) -> nn.Module:
    overlay = {"state_dict": weights, "num_classes": cfg_classes}
    return create(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)


def centre(conv: nn.Conv2d, base: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return the centre of a large kernel, and the large kernel with that centre zeroed."""
    rest = conv.weight.detach().clone()
    (height, width), (kh, kw) = conv.kernel_size, base.kernel_size
    rows, columns = (slice((large - k) // 2, (large + k) // 2) for large, k in ((height, kh), (width, kw)))
    inner = rest[..., rows, columns].clone()
    rest[..., rows, columns] = 0
    return inner, rest


@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d", "densenet121", "convnextv2_tiny", "replknet31"])
def test_base_weights_keep_their_logits_at_every_p(arch: str) -> None:
    base = create_base(arch)
    x = images()
    expected = logits(base, x)
    for p in (1.0, 2.0, 4.0, 8.0, 16.0, 256.0):
        model = create_from(base, f"lp_{arch}", p_init=p)
        assert all(torch.allclose(m.p, torch.tensor(p)) for m in model.modules() if isinstance(m, LpConv2d))
        assert_same(logits(model, x), expected)


@pytest.mark.parametrize(
    ("name", "options"), [("lp2_resnet18", {"preserve": False}), ("large_resnet18", {})], ids=["lp2", "large"]
)
def test_base_weights_are_embedded_as_they_are(name: str, options: dict[str, Any]) -> None:
    base = create_base("resnet18")
    model = create_from(base, name, **options)
    for fqn, module in base.named_modules():
        if isinstance(module, nn.Conv2d):
            inner, rest = centre(model.get_submodule(fqn), module)
            assert torch.equal(inner, module.weight), fqn
            assert not rest.any(), fqn
        elif not list(module.children()):
            for key, value in module.state_dict().items():
                assert torch.equal(model.state_dict()[f"{fqn}.{key}"], value), fqn
    if name.startswith("large"):
        assert_same(logits(model, images()), logits(base, images()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_base_weights_from_a_file(suffix: str, tmp_path: Path) -> None:
    base = create_base("convnext_tiny")
    path = tmp_path / f"weights{suffix}"
    save(base.state_dict(), path)
    overlay = {"file": str(path), "num_classes": NUM_CLASSES}
    model = create("lp8_convnext_tiny", pretrained=True, pretrained_cfg_overlay=overlay)
    assert_same(logits(model, images()), logits(base, images()))


def save(weights: StateDict, path: Path) -> None:
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)


@pytest.mark.parametrize("name", ["lp2_resnet18", "lp256f_convnext_tiny", "lp2_replknet31", "large_densenet121"])
def test_own_weights_are_loaded_as_they_are(name: str, tmp_path: Path) -> None:
    saved = create_trained(name)
    expected = saved.state_dict()
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        save(expected, path)
        overlay = {"file": str(path), "num_classes": NUM_CLASSES}
        for loaded in (
            create(name, pretrained=True, pretrained_cfg_overlay=overlay),
            create(name, checkpoint_path=str(path)),
        ):
            actual = loaded.state_dict()
            assert actual.keys() == expected.keys()
            assert all(torch.equal(actual[key], value) for key, value in expected.items())


def test_own_masks_win_over_those_of_the_variant() -> None:
    saved = create_trained("lp2_resnet18")
    loaded = create_with("lp16_resnet18", saved.state_dict())
    assert torch.equal(loaded.conv1.log2p, saved.conv1.log2p)


@covering(1, arch=["resnet18", "convnext_tiny", "densenet121", "replknet31"], source=["base", "own"], in_chans=[1, 4])
def test_other_classes_and_channels(arch: str, source: str, in_chans: int) -> None:
    weights = create_base(arch).state_dict()
    expected = create_with(arch, weights, num_classes=3, in_chans=in_chans)  # timm adapts its own
    if source == "own":
        weights = create_with(f"lp16_{arch}", weights).state_dict()
    model = create_with(f"lp16_{arch}", weights, num_classes=3, in_chans=in_chans)
    x = images(in_chans=in_chans)
    assert_same(features(model, x), features(expected, x))
    assert logits(model, x).shape == (2, 3)


@covering(
    2,
    arch=["resnet18", "convnext_tiny", "densenet121"],
    dropped={"no_classifier": (), "no_head": ("head.", "classifier.")},
    options=[{"num_classes": 5}, {"num_classes": 0}, {"num_classes": 0, "features_only": True}],
)
def test_headless_weights(arch: str, dropped: tuple[str, ...], options: dict[str, Any]) -> None:
    base = create_base(arch, num_classes=0)
    weights = {key: value for key, value in base.state_dict().items() if not key.startswith(dropped or "none.")}
    model = create_with(f"lp4_{arch}", weights, cfg_classes=0, **options)
    x = images()
    actual = logits(model, x)[-1] if "features_only" in options else features(model, x)
    assert_same(actual, features(base, x))


def test_headless_weights_must_be_whole_otherwise() -> None:
    weights = create_base("convnext_tiny", num_classes=0).state_dict()
    del weights["stages.1.blocks.0.mlp.fc1.weight"]
    with pytest.raises(RuntimeError, match=r"missing keys: stages\.1\.blocks\.0\.mlp\.fc1\.weight\. "):
        create_with("lp2_convnext_tiny", weights, cfg_classes=0, num_classes=5)


def test_batch_counters_may_be_missing() -> None:
    base = create_base("resnet18")
    weights = {key: value for key, value in base.state_dict().items() if "num_batches" not in key}
    assert_same(logits(create_with("lp2_resnet18", weights), images()), logits(base, images()))


def without(weights: StateDict, *prefixes: str) -> StateDict:
    return {key: value for key, value in weights.items() if not key.startswith(prefixes)}


DAMAGES: dict[str, tuple[Callable[[StateDict], StateDict], str, str]] = {
    "layer": (
        lambda weights: without(weights, "layer2.0.bn1."),
        r"missing keys: layer2\.0\.bn1\.weight, layer2\.0\.bn1\.bias, layer2\.0\.bn1\.running_mean, layer2\.0\.bn1\.ru",
        "base own",
    ),
    "conv": (
        lambda weights: without(weights, "layer2.0.conv1."),
        r"missing keys: .*layer2\.0\.conv1\.weight",
        "base own",
    ),
    "C": (lambda weights: without(weights, "layer2.0.conv1.C"), r"missing keys: layer2\.0\.conv1\.C\. ", "own"),
    "log2p": (lambda weights: without(weights, "conv1.log2p"), r"missing keys: conv1\.log2p\. ", "own"),
    "extra": (
        lambda weights: {**weights, "layer9.weight": torch.ones(2), "old": torch.ones(1)},
        r"got unexpected keys: layer9\.weight, old\. ",
        "base own",
    ),
    "shape": (
        lambda weights: {**weights, "layer3.0.bn1.weight": torch.ones(5)},
        r"got shapes that differ: layer3\.0\.bn1\.weight \(5,\) instead of \(24,\)\. ",
        "base own",
    ),
    "kernel": (
        lambda weights: {**weights, "layer1.0.conv2.weight": torch.ones(8, 8, 5, 5)},
        r"shapes that differ: layer1\.0\.conv2\.weight \(8, 8, 5, 5\) instead of \(8, 8, 7, 7\)",
        "base own",
    ),
    "stem": (
        lambda weights: {**weights, "conv1.weight": torch.ones(32, 3, *weights["conv1.weight"].shape[-2:])},
        r"shapes that differ: conv1\.weight \(32, 3, \d+, \d+\) instead of \(64, 3, 15, 15\)",
        "base own",
    ),
    "all": (
        lambda weights: {"layer3.0.bn1.bias": torch.ones(5), "old": torch.ones(1)},
        r"missing keys: conv1\.weight, .* and \d+ more; unexpected keys: old; shapes that differ: layer3\.0\.bn1\.bias",
        "base",
    ),
}


@covering(
    1,
    keep=lambda source, damage, num_classes: source in DAMAGES[damage][2].split(),
    damage=DAMAGES,
    source=["base", "own"],
    num_classes={"same_classes": NUM_CLASSES, "other_classes": 3},
)
def test_half_matching_weights_are_refused_whole(
    source: str, damage: tuple[Callable[[StateDict], StateDict], str, str], num_classes: int
) -> None:
    make, message, _ = damage
    whole = (create_base("resnet18") if source == "base" else create_trained("lp2_resnet18")).state_dict()
    weights = make(whole)
    model = create("lp2_resnet18", num_classes=num_classes, pretrained_cfg_overlay={"num_classes": NUM_CLASSES})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cfg = {**model.pretrained_cfg, "state_dict": weights}
    with pytest.raises(RuntimeError, match=message):
        load_pretrained(model, cfg, num_classes=num_classes, filter_fn=checkpoint_filter_fn, strict=False)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    with pytest.raises(RuntimeError, match=r"`state_dict` must fit lp2_resnet18, got .*nothing was loaded"):
        create_with("lp2_resnet18", weights, num_classes=num_classes)
    load_pretrained(
        model, {**cfg, "state_dict": whole}, num_classes=num_classes, filter_fn=checkpoint_filter_fn, strict=False
    )


OTHER_MODELS = [
    ("large_resnet18", "lp2_resnet18", r"missing keys: conv1\.log2p, conv1\.C, "),
    ("lp2_resnet18", "large_resnet18", r"unexpected keys: conv1\.log2p, conv1\.C, "),
    ("resnet50", "lp2_resnet18", r"unexpected keys: layer1\.0\.conv3\.weight, .*shapes that differ: .*fc\.weight"),
    ("lp2_resnet50", "lp2_resnet18", r"unexpected keys: .*layer1\.0\.conv3\.weight"),
    ("convnextv2_tiny", "lp2_convnext_tiny", r"missing keys: .*gamma.*; unexpected keys: .*mlp\.grn\.weight"),
    ("resnet18", "large_densenet121", r"missing keys: features\.conv0\.weight, .* and \d+ more; unexpected keys: "),
    ("resnet18", "large_resnet18_small_stem", r"the kernel of another stem: conv1\.weight \(64, 3, 7, 7\)\. Load it"),
    ("resnet18", "lp2_resnet18_small_stem", r"the kernel of another stem: conv1\.weight \(64, 3, 7, 7\)\. Load it"),
    ("resnet18_small_stem", "large_resnet18", r"shapes that differ: conv1\.weight \(64, 3, 3, 3\) instead of"),
    ("resnet18", "lp2_replknet31", r"missing keys: stem\.0\.conv\.weight, .* and \d+ more; unexpected keys: conv1"),
]


@pytest.mark.parametrize(
    ("saved", "loading", "message"), OTHER_MODELS, ids=[f"{saved}-{loading}" for saved, loading, _ in OTHER_MODELS]
)
def test_weights_of_another_model_are_refused(saved: str, loading: str, message: str) -> None:
    weights = (create_base(saved) if saved in SMALL else create_trained(saved)).state_dict()
    with pytest.raises(RuntimeError, match=f"must fit {loading}, got .*{message}"):
        create_with(loading, weights)
    with pytest.raises(RuntimeError, match=f"must fit {loading}, got "):
        create_with(loading, weights, num_classes=3)


def test_weights_of_another_stem_are_refused_for_other_channels_too() -> None:
    with pytest.raises(RuntimeError, match="must fit large_resnet18_small_stem, got the kernel of another stem"):
        create_with("large_resnet18_small_stem", create_base("resnet18").state_dict(), in_chans=1)


def classic(build: Callable[[], nn.Module], *sizes: int) -> nn.Module:
    """Return torchvision's AlexNet or VGG with a classifier of linear layers of the given sizes."""
    with torch.device("meta"):
        model = build()
    linear = [index for index, layer in enumerate(model.classifier) if isinstance(layer, nn.Linear)]
    for index, fan_in, fan_out in zip(linear, sizes, sizes[1:], strict=False):
        model.classifier[index] = nn.Linear(fan_in, fan_out)
    return model.to_empty(device="cpu")


def small_convnext() -> nn.Module:
    widths = (8, 16, 24, 32, None)
    return ConvNeXt([CNBlockConfig(*pair, 1) for pair in pairwise(widths)], num_classes=NUM_CLASSES)


# Small forms of torchvision's networks, which are the authors' base networks, and how timm's are given the same form.
TORCHVISION: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "alexnet": (lambda: classic(torchvision.models.alexnet, 256 * 6 * 6, 64, 64, NUM_CLASSES), {}),
    "vgg16": (
        lambda: classic(lambda: VGG(make_layers(timm.models.vgg.cfgs["vgg16"])), 64 * 7 * 7, 40, 4096, NUM_CLASSES),
        {},
    ),
    "resnet18": (lambda: ResNet(BasicBlock, [1, 1, 1, 1], NUM_CLASSES), {"channels": (64, 128, 256, 512)}),
    "densenet121": (lambda: DenseNet(8, (2, 2, 2, 2), 16, num_classes=NUM_CLASSES), {}),
    "convnext_tiny": (small_convnext, {}),
}


@pytest.mark.usefixtures("narrow_classics")
@covering(1, arch=[*TORCHVISION], masked={"lp16": True, "large": False})
def test_authors_weights(arch: str, masked: bool, tmp_path: Path) -> None:
    build, options = TORCHVISION[arch]
    torch.manual_seed(2)
    authors = stir(lp_convert(randomize(build()), 4.0, masked=masked)).eval()
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": authors.state_dict(), "epoch": 299}, path)
    expected = logits(authors, images(arch))
    name = f"{'lp16' if masked else 'large'}_{arch}"
    overlay = {"file": str(path), "num_classes": NUM_CLASSES}
    model = create(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    assert_same(logits(model, images(arch)), expected)


@pytest.mark.parametrize("arch", ["alexnet", "vgg16", "resnext50_32x4d", "convnext_tiny"])
def test_names_and_shapes_of_the_authors_full_weights(arch: str) -> None:
    with torch.device("meta"):
        authors = lp_convert(getattr(torchvision.models, arch)(), preserve=False)
        model = timm.create_model(f"lp_{arch}", preserve=False)
    weights = checkpoint_filter_fn((renaming(arch) or dict)(authors.state_dict()), model)
    assert {key: value.shape for key, value in weights.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


def renaming(arch: str) -> Callable[[StateDict], StateDict] | None:
    return next(architecture.rename for architecture in ARCHITECTURES if architecture.name == arch)


@pytest.mark.usefixtures("narrow_classics")
@pytest.mark.parametrize("arch", ["alexnet", "vgg16", "convnext_tiny"])
def test_authors_weights_are_refused_under_the_names_that_they_get(arch: str) -> None:
    build, options = TORCHVISION[arch]
    weights = lp_convert(build(), preserve=False).state_dict()
    model = create(f"lp2_{arch}", **options)
    dropped = f"{model.pretrained_cfg['first_conv']}.C"
    renamed = next(key for key in weights if key.endswith(".C"))
    del weights[renamed]
    with pytest.raises(RuntimeError, match=f"missing keys: {dropped}\\. Load it into the architecture"):
        create_with(f"lp2_{arch}", weights, **options)
