from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.networks import check_checkpoint, check_variant, create_network, smallest_map
from timm_lp.start import pretrained_start

from ..networks import TINY, config


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
    model = create_network(config(checkpoint=base[1]), "resnet18", variant, num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    difference = (model.forward_features(images) - base[0].forward_features(images)).abs().max()
    assert (difference < 1e-4) == same
    assert model.num_classes == 10
    assert torch.equal(model.state_dict()["layer2.0.bn1.weight"], base[0].state_dict()["layer2.0.bn1.weight"])


def test_reinitialized_kernels_have_weights_everywhere(base: tuple[nn.Module, str]) -> None:
    embedded, random = (
        create_network(config(checkpoint=base[1]), "resnet18", variant, 10) for variant in ("large", "large-reinit")
    )
    assert embedded.layer1[0].conv1.weight[:, :, 0].abs().max() == 0
    assert random.layer1[0].conv1.weight[:, :, 0].abs().min() > 0


def test_kernels_that_are_not_enlarged_are_not_reinitialized() -> None:
    with pytest.raises(ValueError, match="must not name large-reinit for RepLKNet, got it"):
        check_variant(FinetuneConfig(), "replknet31", "large-reinit")
    check_variant(FinetuneConfig(), "resnet18", "large-reinit")
    with pytest.raises(ValueError, match="got 'lp2-reinit' of"):
        check_variant(FinetuneConfig(), "resnet18", "lp2-reinit")


def test_settings_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must fit lp2_densenet121, got .*drop_path_rate"):
        create_network(FinetuneConfig(pretrained=False, drop_path_rate=0.1), "densenet121", "lp2", 10)


@pytest.mark.parametrize(
    ("settings", "num_images", "message"),
    [
        ({"model_kwargs": {"layers": 3}}, 2, r"`model_kwargs`.* must fit resnet18, got TypeError: 'int' object"),
        ({"model_kwargs": {"act_layer": "sofa"}}, 2, r"`model_kwargs`.* must fit resnet18, got KeyError: 'sofa'"),
        ({"model_kwargs": {"layers": [1]}}, 2, r"`model_kwargs`.* must fit resnet18, got ZeroDivisionError"),
        ({"model_kwargs": {"sofa": 3}}, 2, "must fit resnet18, got TypeError: .*unexpected keyword argument 'sofa'"),
        ({"model_kwargs": {"channels": [8]}}, 2, r"`model_kwargs` must fit base of resnet18, got 32x32 pixels: Attri"),
        ({"model": "resnet18.sofa"}, 2, r"must fit resnet18\.sofa, got RuntimeError: Invalid pretrained tag \(sofa\)"),
        ({"model": "alexnet", "model_kwargs": {}, "img_size": 30}, 2, "must fit base of alexnet, got 30x30 pixels: Ru"),
        ({}, 1, "`batch_size` .*must fit base of resnet18, got 32x32 pixels: ValueError: Expected more than 1 value"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_without_weights(
    settings: dict[str, Any], num_images: int, message: str
) -> None:
    check_variant(config(checkpoint="nowhere", pretrained=True), "resnet18", "base")
    with pytest.raises(ValueError, match=message):
        check_variant(config(**settings), settings.get("model", "resnet18"), "base", num_images)


@pytest.mark.parametrize("name", ["resnet18_small_stem", "replknet31"])
def test_weights_that_are_not_there_are_refused(name: str) -> None:
    for variant in ("base", "lp2"):
        with pytest.raises(ValueError, match=rf"`pretrained` must be off for (lp2_)?{name}, got it on. No weights"):
            check_variant(FinetuneConfig(), name, variant)
    check_variant(FinetuneConfig(checkpoint="file"), "resnet18_small_stem", "lp2")
    check_variant(FinetuneConfig(pretrained=False), "resnet18_small_stem", "lp2")
    check_variant(FinetuneConfig(), "resnet18.a1_in1k", "lp2")
    check_variant(FinetuneConfig(), "alexnet", "base")


@pytest.mark.parametrize(
    ("model", "settings", "size"),
    [
        ("resnet18", {}, (1, 1)),
        ("resnet18", {"img_size": 33}, (2, 2)),
        ("resnet18_small_stem", {}, (2, 2)),
        ("vgg16", {"model_kwargs": {}}, (2, 2)),
        ("convnext_tiny", {"model_kwargs": {}}, (1, 1)),
        ("efficientnet_b0", {"model_kwargs": {}, "img_size": 64}, (2, 2)),  # but not its squeeze-and-excite gates
    ],
)
def test_the_smallest_map(model: str, settings: dict[str, Any], size: tuple[int, int] | None) -> None:
    assert smallest_map(config(**settings), model) == size


def test_classes_of_the_users() -> None:
    settings = config(model_kwargs={"width": 4}, img_size=16)
    for variant in ("base", "large-reinit@stem", "lp2@depthwise"):
        check_variant(settings, "tests.user_networks:Tiny", variant)
    for model, message in (
        ("tests.user_networks:Pair", r"`model` must return a number for each class, .* got tuple from lp2 of tests"),
        ("tests.user_networks:Absent", "`model` must be a class or function that can be imported, got tests.user_"),
    ):
        with pytest.raises(ValueError, match=message):
            check_variant(settings, model, "lp2")
    with pytest.raises(ValueError, match=r"`pretrained` must be off for tests_user_networks_Tiny, got it on\."):
        check_variant(config(pretrained=True, model_kwargs={}, img_size=16), "tests.user_networks:Tiny", "base")


def test_a_large_batch_is_no_case_of_its_own() -> None:
    check_variant(config(), "resnet18", "lp2", 10**30)


def test_a_checkpoint_that_fits_passes(base: tuple[nn.Module, str], tmp_path: Path) -> None:
    check_checkpoint(config(), "resnet18", 10)
    check_checkpoint(config(checkpoint=base[1], variants=["base", "lp2-paper", "large-reinit"]), "resnet18", 10)
    torch.save({"state_dict": base[0].state_dict(), "epoch": 3}, tmp_path / "base.pth")
    check_checkpoint(config(checkpoint=str(tmp_path / "base.pth"), variants=["base", "lp2"]), "resnet18", 10)


_DAMAGED = "It is damaged, or holds other things"
_WEIGHTS = {"w": torch.ones(2)}


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("empty.pth", None, _DAMAGED),
        ("empty.safetensors", None, _DAMAGED),
        ("text.pth", b"weights", _DAMAGED),
        ("half.pth", b"PK\x03\x04", _DAMAGED),
        ("junk.safetensors", bytes(range(256)), _DAMAGED),
        ("module.pth", nn.Linear(2, 2), _DAMAGED),
        ("list.pth", [1, 2], "It holds a list"),
        ("nothing.pth", {}, "It holds a dict"),
        ("numbers.pth", {"conv1.weight": 3}, r"It holds conv1\.weight, and weights under none of them"),
        ("deep.pth", {"epoch": 1, "run": {"net": _WEIGHTS}}, "It holds epoch, run, and weights under none of them"),
        (
            "two.pth",
            {"student": _WEIGHTS, "teacher": _WEIGHTS, "lr": 1},
            "weights under each of student, teacher: save",
        ),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, name: str, content: object, fault: str) -> None:
    path = tmp_path / name
    if content is None or isinstance(content, bytes):
        path.write_bytes(content or b"")
    else:
        torch.save(content, path)
    for variant in ("base", "lp2"):
        with pytest.raises(ValueError, match=rf"^Weights must be a network's, .*, got '.*{name}'\. .*{fault}"):
            check_checkpoint(config(checkpoint=str(path), variants=[variant]), "resnet18", 10)


def _prefixed(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


_WRAPPED: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, Any]]] = {
    **{key: lambda own, key=key: {"epoch": 3, key: own} for key in ("net", "model_state_dict", "params", "anything")},
    "timm": lambda own: {"args": Namespace(lr=0.1), "state_dict": own, "optimizer": {"state": {}, "param_groups": []}},
    "averaged first": lambda own: {"state_dict": {"x": torch.ones(1)}, "state_dict_ema": own},
    **{
        prefix: lambda own, prefix=prefix: _prefixed(own, prefix) for prefix in ("module.", "_orig_mod.module.", "a.b.")
    },
    "lightning": lambda own: {
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": {"lr": 0.1},
        "state_dict": {**_prefixed(own, "model."), "criterion.weight": torch.ones(10)},
    },
    "lightning compiled": lambda own: {"state_dict": _prefixed(own, "model._orig_mod.")},
    "averaged": lambda own: {"n_averaged": torch.tensor(3), **_prefixed(own, "module.")},
}


@pytest.mark.parametrize("kind", _WRAPPED)
@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_what_training_programs_wrap_weights_in_is_taken_off(
    base: tuple[nn.Module, str], tmp_path: Path, kind: str, variant: str
) -> None:
    path = tmp_path / "wrapped.ckpt"
    torch.save(_WRAPPED[kind](base[0].state_dict()), path)
    made, expected = (create_network(config(checkpoint=own), "resnet18", variant, 10) for own in (str(path), base[1]))
    for name, weight in expected.state_dict().items():
        if not name.startswith("fc."):  # of 10 classes, at random
            torch.testing.assert_close(made.state_dict()[name], weight, rtol=0, atol=0)
    start = pretrained_start(made.pretrained_cfg)
    assert start is not None
    assert (start.kind, start.file) == ("checkpoint", "wrapped.ckpt")


def test_what_lies_beside_the_weights_is_named(
    base: tuple[nn.Module, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "wrapped.ckpt")
    weights = base[0].state_dict()
    torch.save({**_prefixed(weights, "model."), "loss.weight": torch.ones(3)}, path)
    create_network(config(checkpoint=path), "resnet18", "lp2", 10)
    assert "wrapped.ckpt: what lies beside the network's weights is left out: loss.weight." in caplog.text
    torch.save({**_prefixed(weights, "student."), **_prefixed(weights, "teacher.")}, path)
    with pytest.raises(ValueError, match=r"It holds weights under each of student\., teacher\.: save one of them\."):
        create_network(config(checkpoint=path), "resnet18", "lp2", 10)


def test_a_checkpoint_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(ValueError, match=f"`checkpoint` must be a file, got '{path}'"):
            check_checkpoint(config(checkpoint=str(path)), "resnet18", 10)


@pytest.mark.parametrize("variant", ["base", "lp2"])
@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [("convnext_atto", {}, "missing keys: conv1.weight"), ("resnet18", {"channels": [4] * 4}, "shapes that differ")],
    ids=["architecture", "size"],
)
def test_a_checkpoint_of_another_network_is_refused(
    tmp_path: Path, variant: str, model: str, arguments: dict[str, object], message: str
) -> None:
    save_file(
        timm.create_model(model, **{**TINY, **arguments} if arguments else {}).state_dict(),
        tmp_path / "other.safetensors",
    )
    with pytest.raises(ValueError, match=f"must fit .*resnet18, got RuntimeError: .*{message}"):
        check_checkpoint(config(checkpoint=str(tmp_path / "other.safetensors"), variants=[variant]), "resnet18", 10)


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_a_checkpoint_that_does_not_fit_is_refused(base: tuple[nn.Module, str], tmp_path: Path, variant: str) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: value for key, value in base[0].state_dict().items() if not key.startswith("layer1")}, path)
    with pytest.raises(ValueError, match=r"must fit .*resnet18, got .*missing keys: layer1\.0\.conv1\.weight"):
        create_network(config(checkpoint=str(path)), "resnet18", variant, num_classes=10)
