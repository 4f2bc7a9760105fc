import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import nn
from torch.nn.utils import prune

from hub_export import VerificationError, stage, verify
from timm_lp import lp_convert, lp_merge

from ..models.networks import NUM_CLASSES, assert_same, create, create_trained, images, randomize
from .conftest import LABELS
from .test_verification import make_hostile

pytestmark = pytest.mark.usefixtures("no_pictures")  # `staged` has one all the same


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model.eval()(images())


def load(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def test_a_staged_network_is_the_network(network: nn.Module, staged: Path) -> None:
    verify(staged)
    loaded = load(staged)
    assert torch.equal(logits(loaded), logits(network))
    assert sorted(path.name for path in staged.iterdir()) == [
        "README.md",
        "config.json",
        "manifest.json",
        "masks.png",
        "model.safetensors",
    ]
    assert len({path.stat().st_mode for path in staged.iterdir()}) == 1
    assert list(loaded.pretrained_cfg["label_names"]) == LABELS


def test_a_trial_that_is_copied_over_another_is_refused(trial: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(trial, trial.parent / "lp2-seed3"))
    with pytest.raises(
        ValueError, match=r"A trial must lie in the folder of its record, got .*lp2-seed3 with the record"
    ):
        stage(str(copied), tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_the_configuration_suits_timm_and_transformers(staged: Path) -> None:
    config = json.loads((staged / "config.json").read_text())
    assert config["architecture"] == "lp2_resnet18"
    assert config["num_classes"] == NUM_CLASSES
    assert config["label_names"] == LABELS
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "in_chans": 3, "global_pool": "avg"}
    assert config["model_args"] == arguments
    assert config["pretrained_cfg"]["input_size"] == [3, 64, 64]


@pytest.mark.parametrize("name", ["lp2_resnet18", "lp16_convnext_tiny", "lp2_replknet31"])
def test_a_merged_network_is_a_plain_one_that_computes_the_same(name: str, tmp_path: Path) -> None:
    model = create_trained(name)
    folder = stage(model, tmp_path / "merged", merged=True)
    verify(folder)
    loaded = load(folder)
    assert loaded.pretrained_cfg["architecture"] == name.replace(name.split("_")[0], "large", 1)
    assert not any(type(module).__module__.startswith("timm_lp.layers") for module in loaded.modules())
    assert_same(logits(loaded), logits(model))
    assert not any(key.endswith((".C", ".log2p")) for key in load_file(folder / "model.safetensors"))


def depthwise(module: nn.Module, fqn: str) -> bool:
    return "conv_dw" in fqn


def converted(**arguments: Any) -> nn.Module:
    network = timm.create_model("mobilenetv3_small_050", num_classes=NUM_CLASSES)
    return randomize(lp_convert(network, filter_fn=depthwise, **arguments)).eval()


@pytest.mark.parametrize(
    ("build", "arguments", "sentence"),
    [
        (lambda: converted(p_init=4.0), {}, "each kernel of 11 of its convolutions is made about twice as large and"),
        (lambda: converted(p_init=16.0), {"merged": True}, "Here the masks are folded into plain convolutions"),
        (lambda: lp_merge(converted(p_init=16.0), crop=True), {}, "Here the masks are folded into plain convolutions"),
        (lambda: converted(masked=False), {}, "`mobilenetv3_small_050` of timm with the large kernels of"),
        (lambda: converted(trainable_mask=False, kernel_scale=1), {}, "multiplied by a smooth mask, .* p are fixed"),
        (lambda: timm.create_model("lp2_test_resnet").eval(), {}, "each kernel of its feature extractor"),
        (lambda: timm.create_model("test_resnet").eval(), {}, "`test_resnet` of timm as it is"),
    ],
)
@torch.no_grad()
def test_any_network_of_timm(
    build: Callable[[], nn.Module], arguments: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    model = build()
    folder = stage(model, tmp_path / "any", **arguments)
    verify(folder)
    some = torch.randn(2, 3, 64, 64)
    assert_same(load(folder).eval()(some), model.eval()(some))
    card = (folder / "README.md").read_text().replace("\n", " ")
    assert re.search(sentence, card)
    assert "Base network:" not in card


def test_variants_keep_their_options(tmp_path: Path) -> None:
    model = create("lp_resnet18", p_init=3.0, trainable_mask=False, in_chans=1)
    loaded = load(stage(model, tmp_path / "lp"))
    assert not any(parameter.requires_grad for name, parameter in loaded.named_parameters() if name.endswith(".C"))
    merged = load(stage(model, tmp_path / "merged", merged=True))
    assert merged.conv1.in_channels == 1


def test_the_model_stays_as_it_is(network: nn.Module, tmp_path: Path) -> None:
    model = create_trained("lp2_resnet18").train().to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    verify(stage(model, tmp_path / "network"))
    assert model.training
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_trial_is_staged_with_its_results_and_labels(
    network: nn.Module, trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stage(trial, tmp_path / "network")
    results = json.loads((folder / "results.json").read_text())
    assert [entry["metrics"]["top1"] for entry in results["results"]] == [{"1": 90.0, "2": 91.0}, {"1": 80.0}]
    assert json.loads((folder / "config.json").read_text())["label_names"] == LABELS
    assert torch.equal(logits(load(folder)), logits(network))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert contents(stage("~/run/dtd/resnet18/lp2-seed1", tmp_path / "of_home")) == contents(folder)
    for text in ("{", "{}", '{"results": [{"model": "alexnet"}]}', "[" * 100_000):
        (trial / "results.json").write_text(text)  # which is written, and never read
    assert contents(stage(trial, tmp_path / "with_results")) == contents(folder)


def test_results_and_times_of_a_network(network: nn.Module, trial: Path, tmp_path: Path) -> None:
    case = {"name": f"{network.pretrained_cfg['architecture']}, 64 px", "mode": "NCHW float32"}
    result = {**case, "training": {}, "evaluation": {"lp": {"median_ms": 1.5}}}
    times = {"machine": {"device": "a CPU", "torch": "2.9"}, "runs": 5, "results": [result]}
    (tmp_path / "speed.json").write_text(json.dumps(times))
    folder = stage(network, tmp_path / "network", results=trial / "trial.json", speed=tmp_path / "speed.json")
    results = json.loads((folder / "results.json").read_text())
    assert (results["recipe"]["variant"], results["recipe"]["seed"], results["speed"]["runs"]) == ("lp2", 1, 5)
    run = json.loads((stage(network, tmp_path / "of_run", results=trial.parents[2]) / "results.json").read_text())
    assert run["results"] == results["results"]
    assert not {"variant", "seed", "speed"} & {*run, *run["recipe"]}


def alone(trial: Path) -> Path:
    """Return the run's folder, in which only the trial is left."""
    for other in ("lp2-seed2", "base-seed1"):
        shutil.rmtree(trial.parent / other)
    return trial.parents[2]


FORMS: dict[str, Callable[[Path], object]] = {
    "folder": lambda trial: (trial / "trial.json").unlink() or trial,
    "local-dir": lambda trial: f"local-dir:{trial}",
    "run": alone,
    "file": lambda trial: str(trial / "model.safetensors"),
    "other file": lambda trial: trial / "ema.pth",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_network(form: str, network: nn.Module, trial: Path, tmp_path: Path) -> None:
    of_lightning = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": of_lightning}, trial / "ema.pth")
    folder = stage(FORMS[form](trial), tmp_path / "network")  # type: ignore[arg-type]
    verify(folder)
    assert torch.equal(logits(load(folder)), logits(network))
    assert (folder / "results.json").exists() == (form in ("local-dir", "run", "file"))


def test_what_is_not_one_network(trial: Path, tmp_path: Path) -> None:
    for other in ("lp2-seed2", "base-seed1"):
        for name in ("config.json", "model.safetensors"):
            shutil.copy(trial / name, trial.parent / other / name)
    torch.save({"fc.bias": torch.zeros(7)}, trial / "part.pth")
    for network, message in (
        (trial.parents[2], r"`model` must be one network, got '.*run', the folder of \S+base-seed1, .*\. Name one of"),
        ("no_such_network", "`NETWORK` must be a registered name, .*, got 'no_such_network', which is neither a name"),
    ):
        with pytest.raises(ValueError, match=message):
            stage(network, tmp_path / "new")
    with pytest.raises(VerificationError, match=r"part\.pth must hold the weights of lp2_resnet18, but conv1\.weight"):
        stage(trial / "part.pth", tmp_path / "new")
    make_hostile(trial, lambda config: config["model_args"].update(channels=[2**20] * 4))
    torch.save(load_file(trial / "model.safetensors"), trial / "whole.pth")
    for file in ("whole.pth", "model.safetensors"):
        with pytest.raises(VerificationError, match=rf"{file} must hold the weights of .* instead of \(1048576,"):
            stage(trial / file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_base_network_is_staged(tmp_path: Path) -> None:
    verify(stage(create("resnet18"), tmp_path / "base"))


def test_without_matplotlib_there_is_no_picture(
    network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        folder = stage(network, tmp_path / "network")
    assert not (folder / "masks.png").exists()
    assert "no picture of the masks" in caplog.text
    verify(folder)


def with_weights(name: str, value: float) -> nn.Module:
    model = create_trained("lp2_resnet18")
    model.state_dict()[name].fill_(value)
    return model


def unknown() -> nn.Module:
    return timm.create_model("test_resnet", pretrained_cfg_overlay={"architecture": "sofa"})


def pruned(model: nn.Module) -> nn.Module:
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    return model


def sharing() -> nn.Module:
    model = create("resnet18", layers=(1, 2, 1, 1))
    model.layer2[1].conv1 = model.layer2[1].conv2
    return lp_convert(model)


def with_stride(model: nn.Module) -> nn.Module:
    model.conv1.stride = (1, 1)
    return model


def changed_by_hand() -> nn.Module:
    model = create("lp2_resnet18")
    model.fc = nn.Sequential(nn.Linear(32, 4), nn.Linear(4, NUM_CLASSES))
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: nn.Conv2d(3, 3, 3), {}, "must be built by timm.create_model, got Conv2d without"),
        (
            lambda: create("lp2_resnet18", num_classes=None, features_only=True),
            {},
            "must be built by timm.create_model, got FeatureListNet without",
        ),
        (lambda: create("lp2_resnet18").half(), {}, r"must have float32 weights, got torch\.float16 in conv1\.weight"),
        (lambda: create("lp2_resnet18", device="meta"), {}, r"must have float32 weights, got no data in conv1\.weight"),
        (lambda: create("resnet18"), {"merged": True}, "`merged` must be False for a network without masks"),
        (lambda: create("lp2_resnet18"), {"label_names": ["a"]}, "`label_names` must be 7 names, .*, got 1"),
        (
            lambda: create("lp2_resnet18"),
            {"label_names": "abcdefg"},
            "must be 7 names, .*, got 'abcdefg'",
        ),
        (
            lambda: create("lp2_resnet18"),
            {"results": {"top1": 1}},
            r"`results` must be a trial's folder, the folder of a run or a trial\.json, got {'top1': 1}\. Give",
        ),
        (lambda: with_weights("fc.weight", 3e38), {}, "must compute finite numbers, got lp2_resnet18"),
        (lambda: with_weights("fc.bias", math.nan), {}, r"must have finite weights, got nan or inf in fc\.bias"),
        (  # with which a network computes numbers all the same
            lambda: with_weights("bn1.running_var", math.inf),
            {},
            r"must have finite weights, got nan or inf in bn1\.running_var",
        ),
        (sharing, {}, r"timm can save, got lp_resnet18 with RuntimeError: Some tensors share memory, .{,300}$"),
        (unknown, {}, "must be a network that timm.create_model builds, got 'sofa', which timm does not know"),
        (lambda: pruned(create("lp2_resnet18")), {}, r"can be copied, got ResNet .+ call torch\.nn\.utils\.prune"),
        (lambda: with_stride(lp_convert(create("resnet18"))), {}, r"builds with its .+ it has another conv1$"),
        (changed_by_hand, {}, r"must be what timm\.create_model\('lp2_resnet18'\) builds .* fc\.weight is missing"),
    ],
)
def test_what_cannot_be_staged(model: Any, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        stage(model(), tmp_path / "network", **arguments)
    assert not list(tmp_path.iterdir())


def test_pickles_are_not_read(network: nn.Module, tmp_path: Path) -> None:
    save_for_hf(network, str(tmp_path / "trial"), safe_serialization=False)
    with pytest.raises(VerificationError, match=r"trial: there is no model\.safetensors"):
        stage(tmp_path / "trial", tmp_path / "network")
    assert not (tmp_path / "network").exists()


def test_the_current_folder(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    stage(network, ".")
    verify(tmp_path / "here")


def test_nothing_is_overwritten(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    stage(network, tmp_path / "network")
    with pytest.raises(FileExistsError, match="`folder` must be new or empty"):
        stage(network, tmp_path / "network")
    shutil.rmtree(tmp_path / "network")
    (tmp_path / "network").write_text("a file")
    with pytest.raises(FileExistsError, match="`folder` must be new or empty"):
        stage(network, tmp_path / "network")
    assert (tmp_path / "network").read_text() == "a file"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_staged_folder_has_the_rights_of_new_files(umask: int, mode: int, network: nn.Module, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        folder = stage(network, tmp_path / "network")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {mode}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pretrained_cfg": {"first_conv": 5}}, VerificationError, "can load and run, but that gives "),
        (
            {"pretrained_cfg": {"mean": "gelu"}},
            ValueError,
            "a configuration that timm can save, got lp2_resnet18 with ",
        ),
        ({"model_args": {"global_pool": ""}}, ValueError, "run on an image of the size in its configuration, got lp2_"),
        ({"pretrained_cfg": {"license": ["mit"]}}, None, ""),
    ],
)
def test_a_foreign_configuration_is_one_sentence(
    change: dict[str, Any], error: type[Exception] | None, message: str, network: nn.Module, tmp_path: Path
) -> None:
    save_for_hf(network, str(tmp_path / "trial"), safe_serialization=True)
    config = json.loads((tmp_path / "trial" / "config.json").read_text())
    for part, values in change.items():
        config[part].update(values)
    (tmp_path / "trial" / "config.json").write_text(json.dumps(config))
    with nullcontext() if error is None else pytest.raises(error, match=message):
        stage(tmp_path / "trial", tmp_path / "network")
    assert (tmp_path / "network").exists() == (error is None)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, ValueError, "an empty folder"),
        ({"model_index.json": '{"_class_name": "StableDiffusionPipeline"}'}, ValueError, r"holds model_index\.json"),
        ({"config.json": '{"_class_name": "UNet2DModel"}'}, ValueError, "must have a config.json that names its arch"),
        ({"config.json": '{"model_type": "resnet"}'}, ValueError, r"names its architecture, got .*'architecture'"),
        ({"open_clip_config.json": "{}"}, ValueError, r"config\.json that holds open_clip_config\.json"),
        ({"config.json": "{"}, ValueError, "names its architecture, got .*JSONDecodeError"),
        ({"config.json": "[1]"}, ValueError, "names its architecture, got .*TypeError"),
        ({"config.json": '{"architecture": "lp3_resnet18"}'}, ValueError, "of the unknown architecture 'lp3_resnet18'"),
        ({"config.json": '{"architecture": "lp2_resnet18"}'}, VerificationError, "got one without `pretrained_cfg`"),
        (
            {"config.json": '{"architecture": "lp2_resnet18.nope", "pretrained_cfg": {}}'},
            VerificationError,
            r"of the unknown architecture 'lp2_resnet18\.nope'",
        ),
    ],
)
def test_a_folder_from_another_library(
    files: dict[str, str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for name, content in files.items():
        (tmp_path / "other" / name).write_text(content)
    with pytest.raises(error, match=message):
        stage(tmp_path / "other", tmp_path / "network")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


NOTE = {"layers": ["conv1"], "masked": True, "kernel_scale": 2, "p_init": 2, "trainable_mask": True, "preserve": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conversion": {**NOTE, "version": 2}}, r"got one with other \['version'\]\. If a newer version"),
        ({"conversion": {**NOTE, "p_init": 10**400}}, r"`p_init` must be a finite number >= 1, got 10000"),
        ({"conversion": {**NOTE, "layers": ["stem"]}}, "must name convolutions of ResNet, got 'stem': it is none"),
        ({"conversion": {**NOTE, "layers": 5}}, "must name the converted layers, got 5"),
        ({"conversion": NOTE, "merged": 1}, "`merged` must be true or false, got 1"),
        ({"conversion": NOTE, "merged": True, "cropped": {"conv1": [10**9] * 2}}, "must be smaller than"),
        ({"conversion": NOTE}, "is not of this network|instead of"),
    ],
)
def test_a_note_that_somebody_changed(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_for_hf(lp_convert(create("resnet18")), str(tmp_path / "folder"), safe_serialization=True)
    make_hostile(tmp_path / "folder", lambda config: config["model_args"].update(arguments))
    with pytest.raises(VerificationError, match=message):
        stage(tmp_path / "folder", tmp_path / "network")
    assert not (tmp_path / "network").exists()
