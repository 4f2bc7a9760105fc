from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from timm_lp.fewshot.config import FewShotConfig
from timm_lp.fewshot.networks import NamedVariant, check_variant, create_network, parse_variant, variant_order

from .images import TINY, config


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("base", NamedVariant("resnet18.a1_in1k", {})),
        ("lp2", NamedVariant("lp2_resnet18.a1_in1k", {})),
        ("lp2-paper", NamedVariant("lp2_resnet18.a1_in1k", {"preserve": False})),
        ("large-reinit", NamedVariant("large_resnet18.a1_in1k", {}, reinit=True)),
    ],
)
def test_variant_names(variant: str, expected: NamedVariant) -> None:
    assert parse_variant("resnet18.a1_in1k", variant) == expected


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("resnet18", "lp3", "got 'lp3' of 'resnet18'. Variants of resnet18: base, large, lp2, lp4"),
        ("resnet18", "large-paper", "got 'large-paper' of"),
        ("resnet18", "lp2-reinit", "got 'lp2-reinit' of"),
        ("resnet18", "base-paper", "got 'base-paper' of"),
        ("mobilenetv3_small_100", "lp2", "Variants of mobilenetv3_small_100: base;"),
        ("resnet17", "base", "Variants of resnet17: none, it is unknown;"),
    ],
)
def test_unknown_variants_are_refused(model: str, variant: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_variant(model, variant)


def test_variants_stand_in_the_papers_order() -> None:
    names = ["lp16", "lp2-paper", "large-reinit", "lp2", "other", "base", "large", "lp16-paper"]
    expected = ["base", "large", "large-reinit", "lp2", "lp2-paper", "lp16", "lp16-paper", "other"]
    assert sorted(names, key=variant_order) == expected


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, str]:
    """Return a small network and its checkpoint."""
    model = timm.create_model("resnet18", num_classes=7, **TINY).eval()
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_file(model.state_dict(), path)
    return model, str(path)


@pytest.mark.parametrize(
    ("variant", "same"),
    [("base", True), ("large", True), ("lp2", True), ("lp2-paper", False), ("large-reinit", False)],
)
def test_a_checkpoint_of_the_base_network_starts_every_variant(
    base: tuple[nn.Module, str], variant: str, same: bool
) -> None:
    model = create_network(config(checkpoint=base[1]), variant, num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    difference = (model.forward_features(images) - base[0].forward_features(images)).abs().max()
    assert (difference < 1e-4) == same
    assert model.num_classes == 10
    assert torch.equal(model.state_dict()["layer2.0.bn1.weight"], base[0].state_dict()["layer2.0.bn1.weight"])


def test_reinitialized_kernels_have_weights_everywhere(base: tuple[nn.Module, str]) -> None:
    embedded, random = (
        create_network(config(checkpoint=base[1]), variant, 10) for variant in ("large", "large-reinit")
    )
    assert embedded.layer1[0].conv1.weight[:, :, 0].abs().max() == 0
    assert random.layer1[0].conv1.weight[:, :, 0].abs().min() > 0


def test_kernels_that_are_not_enlarged_are_not_reinitialized() -> None:
    with pytest.raises(ValueError, match="must not name large-reinit for RepLKNet, got it"):
        check_variant(FewShotConfig(model="replknet31"), "large-reinit")
    check_variant(FewShotConfig(model="resnet18"), "large-reinit")
    with pytest.raises(ValueError, match="got 'lp2-reinit' of"):
        check_variant(FewShotConfig(model="resnet18"), "lp2-reinit")


def test_settings_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must fit lp2_densenet121, got .*drop_path_rate"):
        create_network(FewShotConfig(model="densenet121", pretrained=False, drop_path_rate=0.1), "lp2", 10)


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_a_checkpoint_that_does_not_fit_is_refused(base: tuple[nn.Module, str], tmp_path: Path, variant: str) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: value for key, value in base[0].state_dict().items() if not key.startswith("layer1")}, path)
    with pytest.raises(ValueError, match=r"must fit .*resnet18, got .*missing keys: layer1\.0\.conv1\.weight"):
        create_network(config(checkpoint=str(path)), variant, num_classes=10)
