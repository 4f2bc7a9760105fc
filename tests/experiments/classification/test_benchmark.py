"""Which trials a benchmark runs, and which it takes over; what it says of its data and its learning rates."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import nn

from timm_lp.experiments.classification import benchmark
from timm_lp.experiments.classification.benchmark import Benchmark
from timm_lp.experiments.classification.cli import create_accelerator
from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.report import to_markdown
from timm_lp.experiments.classification.training import Progress
from timm_lp.experiments.classification.trial import Outcome, Trial, run_trial
from timm_lp.files import TRIAL_FILE
from timm_lp.masks.history import read_masks
from timm_lp.masks.statistics import layer_masks
from timm_lp.trials.record import TrialRecord

from ..images import make_folder, make_parquet, make_split_file
from ..networks import config
from ..tracked import logged

SHORT: dict[str, Any] = {"variants": ["base"], "seeds": [1], "shots": 4, "epochs": 1, "batch_size": 4, "lr": 0.01}
Start = Callable[..., Benchmark]


@pytest.fixture
def start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Start:
    """Return what makes a benchmark of a tiny network, in one output folder, and logs as the command does."""
    caplog.set_level("INFO", "timm_lp.experiments")

    def create(**settings: object) -> Benchmark:
        chosen = config(**{**SHORT, "output_dir": str(tmp_path / "out"), **settings})
        return Benchmark(chosen, create_accelerator(chosen))

    return create


def test_every_seed_s_fold_has_batches_before_anything_is_trained(start: Start, tmp_path: Path) -> None:
    make_folder(tmp_path / "all", ".", ("ant",), 16)
    make_folder(tmp_path / "all", ".", ("bee",), 15, first=100)
    settings = {"dataset": [str(tmp_path / "all")], "shots": 0, "batch_size": 32, "mixup": 0.2}
    start(**settings, seeds=[1])
    with pytest.raises(ValueError, match="`mixup` and `cutmix` must have an even number of images to mix, got 25 of"):
        start(**settings, seeds=[1, 2])


def _bugs(root: Path, kind: str = "folder", first: int = 0, count: int = 4) -> str:
    """Write a data set of one of the kinds that lie on this machine, and return what `--dataset` calls it."""
    if kind == "split file":
        return str(make_split_file(root, {"train": count, "val": 2, "test": 2}, first=first))
    if kind == "parquet":
        make_parquet(root / "bugs", {"train": count, "test": 2}, first=first)
    else:
        make_folder(root / "bugs", "train", ("dark", "light"), count, first)
        make_folder(root / "bugs", "test", ("dark", "light"), 2, first + 50)
    return str(root / "bugs")


def _times(folder: Path) -> dict[str, int]:
    """Return when each trial below a folder was recorded."""
    return {path.parent.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob(TRIAL_FILE)}


@pytest.mark.parametrize("kind", ["folder", "parquet", "split file"])
def test_a_data_set_is_told_by_its_contents(start: Start, tmp_path: Path, kind: str) -> None:
    dataset = _bugs(tmp_path / "here", kind)
    start(dataset=[dataset]).run()
    before = _times(tmp_path / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    for file in (tmp_path / "there").rglob("*.p*"):
        os.utime(file)
        (file.parent / "notes.md").touch()
    moved = str(tmp_path / "there" / Path(dataset).name)
    (found,) = start(dataset=[moved]).run()
    assert (found.dataset_argument, _times(tmp_path / "out")) == (moved, before)
    for name, first, count in (("noise", 200, 4), ("more", 0, 5)):
        with pytest.raises(ValueError, match=r"settings, got \S+trial\.json: the contents of the data set differ\."):
            start(dataset=[_bugs(tmp_path / name, kind, first, count)])


def test_a_data_set_may_be_renamed(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Path(_bugs(tmp_path))
    start(dataset=[str(dataset)]).run()
    before = _times(tmp_path / "out")
    records = start(dataset=[str(dataset.rename(tmp_path / "insects"))], variants=["base", "lp2"]).run()
    assert [record.folder for record in records] == [f"bugs/resnet18/{name}-seed1" for name in ("base", "lp2")]
    assert _times(tmp_path / "out").items() >= before.items()
    assert "insects has the contents of bugs, and goes on as that." in caplog.text
    with pytest.raises(ValueError, match="the contents of the data set differ"):
        start(dataset=[_bugs(tmp_path / "other", first=200)])


def test_parts_of_a_network_side_by_side(start: Start, tmp_path: Path) -> None:
    """Runs with other layers, in one folder, before and after one without a word of layers."""
    images: dict[str, Any] = {"dataset": [_bugs(tmp_path)], "img_size": 16}
    start(variants=["base", "lp2"], **images).run()
    before = _times(tmp_path / "out")
    first = start(variants=["base", "lp2"], lp_layers=["layer1", "layer2.*.conv?"], **images).run()
    records = start(variants=["base", "lp2", "lp2@layer3,layer4", "large-reinit@layer4"], **images).run()
    assert [record.variant for record in first] == ["base", "lp2@layer1,layer2.*.conv?"]
    folder = "bugs/resnet18/lp2@layer1,layer2.%2A.conv%3F-seed1"
    assert first[1].folder == folder
    assert "--variants 'lp2@layer1,layer2.*.conv?' " in first[1].command
    assert _times(tmp_path / "out").items() >= before.items()
    assert len(_times(tmp_path / "out")) == 5
    parameters = {record.variant: record.parameters for record in (*first, *records)}
    assert len({*parameters.values()}) == len(parameters)
    assert "lp2@layer3,layer4 " in to_markdown(records)
    with pytest.raises(ValueError, match=r"^`lp_layers` must name .*got 'layer5', .*\. There are 13: conv1, layer1"):
        start(variants=["base", "lp2@layer5"], **images)


def test_two_data_sets_of_the_same_contents_stay_two(start: Start, tmp_path: Path) -> None:
    """A run of both that ended after the first goes on with the second."""
    dataset = _bugs(tmp_path)
    copy = shutil.copytree(dataset, tmp_path / "copy")
    start(dataset=[dataset]).run()
    start(dataset=[dataset, str(copy)]).run()
    assert _times(tmp_path / "out").keys() == {"bugs/resnet18/base-seed1", "copy/resnet18/base-seed1"}


def test_data_sets_must_have_folders_of_their_own(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`dataset` must not name two with the same folder, got bugs, bugs"):
        start(dataset=[_bugs(tmp_path / "a"), _bugs(tmp_path / "b")])


def test_a_last_map_of_one_pixel_is_said(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = _bugs(tmp_path)
    start(dataset=[dataset])
    assert caplog.text.count("resnet18: its last kernels see a map of a single pixel, around which they meet") == 1
    assert "Give a larger --img-size, or --small-stem." in caplog.text
    caplog.clear()
    start(dataset=[dataset], small_stem=True)
    start(dataset=["digits"])
    assert "a single pixel" not in caplog.text


def test_the_default_network_may_be_used_for_anything() -> None:
    (model,) = FinetuneConfig().model
    assert timm.get_pretrained_cfg(model).license == "apache-2.0"


def test_a_licence_that_forbids_commerce_is_said(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    stages = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    models = {"model": ["convnextv2_tiny", "convnext_tiny"], "model_kwargs": stages, "dataset": [_bugs(tmp_path)]}
    start(**models, pretrained=False)
    assert "commercial" not in caplog.text
    with pytest.raises(OSError, match="cannot be reached"):
        start(**models, pretrained=True)
    (message,) = [message for message in caplog.messages if "commercial" in message]
    assert message.startswith("convnextv2_tiny starts from weights under cc-by-nc-4.0, which forbids commercial use")


def test_models_that_were_trained_before_are_named(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = _bugs(tmp_path)
    start(dataset=[dataset]).run()
    assert "too: --model" not in caplog.text
    start(dataset=[dataset], model=["resnet34"])
    assert f"{tmp_path / 'out' / 'bugs'} holds trials of resnet18 too: --model goes on with them." in caplog.messages


def test_training_images_in_the_test_are_said(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Path(_bugs(tmp_path))
    shutil.copy(dataset / "train" / "dark" / "0.png", dataset / "test" / "light")
    start(dataset=[str(dataset)])
    assert caplog.text.count("bugs: 1 of 4 test images are among the training images too.") == 1


def test_small_classes_are_said_and_counted(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"variants": ["lp2"], "workers": 1, "channels_last": True, "batch_size": 6}
    (record,) = start(dataset=[_bugs(tmp_path, count=3)], **settings).run()
    assert "bugs: 2 of 2 classes have fewer than 4 training images and give all they have (dark 3, the" in caplog.text
    assert record.details["short_classes"] == {"dark": 3, "light": 3}
    saved = timm.create_model(f"local-dir:{tmp_path / 'out' / record.folder}", pretrained=True)
    assert (saved.num_classes, record.num_test, record.num_train) == (2, 4, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_sweep": [0.1]}, "`lr_sweep` must have images to choose with, got none of bugs beyond"),
        ({"grad_accum_steps": 5, "batch_size": 20}, "`batch_size` must be a multiple of .*, got 8 of 8 training"),
        ({"batch_size": 1}, r"`batch_size` .*must fit base of resnet18, got 32x32 pixels: ValueError"),
        ({"batch_size": 1, "variants": ["lp2"], "lr_sweep": [0.1]}, r"must fit .* of resnet18, got 32x32 pixels: "),
        ({"checkpoint": "missing.pth"}, r"`checkpoint` must be a file, got 'missing\.pth'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    start: Start, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        start(**{"dataset": ["digits", _bugs(tmp_path)], **settings})
    assert not (tmp_path / "out").exists()


def test_another_programs_file_of_the_sweep_is_refused_before_the_training(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "out" / "digits" / "resnet18" / "lr-sweep" / "lr0.2-seed1" / TRIAL_FILE
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(ValueError, match=rf"must be of this version of timm-lp, got {path}: "):
        start(lr_sweep=[0.1, 0.2])


def test_a_checkpoint_may_be_moved_and_no_other_takes_its_place(start: Start, tmp_path: Path) -> None:
    network = timm.create_model("resnet18", num_classes=10, **config().kwargs_of("resnet18"))
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "moved", "other")]
    save_file(network.state_dict(), paths[0])
    start(checkpoint=str(paths[0])).run()
    before = _times(tmp_path / "out")
    start(checkpoint=str(shutil.copy(paths[0], paths[1]))).run()
    assert _times(tmp_path / "out") == before
    save_file({name: tensor + 1 for name, tensor in load_file(paths[0]).items()}, paths[2])
    with pytest.raises(ValueError, match=r"got \S+trial\.json: the contents of the checkpoint differ\. Choose another"):
        start(checkpoint=str(paths[2]))


@pytest.fixture
def accuracies_by_rate(monkeypatch: pytest.MonkeyPatch) -> dict[float, float]:
    """Return where to say which accuracy a learning rate shall give, instead of what a training happens to learn."""
    by_rate: dict[float, float] = {}

    def run(settings: FinetuneConfig, trial: Trial, *arguments: Any) -> Outcome:
        outcome = run_trial(settings, trial, *arguments)
        top1 = by_rate.get(settings.lr, 0.0) + trial.seed
        return replace(outcome, metrics={**outcome.metrics, "top1": top1})

    monkeypatch.setattr(benchmark, "run_trial", run)
    return by_rate


def test_the_rate_is_chosen_with_the_base_network_on_all_seeds_and_held(
    start: Start, tmp_path: Path, accuracies_by_rate: dict[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    accuracies_by_rate.update({1e-9: 50.0, 0.01: 60.0})
    sweep = {"lr_sweep": [1e-9, 0.01, 1e30], "seeds": [1, 2], "tracker": "tensorboard"}
    records = start(**sweep, variants=["large"], batch_size=20, epochs=2, warmup_epochs=0, lr=0.5).run()
    tested = [record for record in records if not record.held_out]
    assert [(record.variant, record.settings["lr"]) for record in tested] == [("large", 0.01)] * 2
    swept = [record for record in records if record.held_out and record.settings["lr"] == 0.01]
    assert [(record.num_test, record.variant) for record in swept] == [(40, "base")] * 2
    assert swept[0].details["indices"] != swept[1].details["indices"]
    assert "1e-09: 51.50, 0.01: 61.50, 1e+30: failed" in to_markdown(records)
    assert "rate of the sweep" not in caplog.text
    runs = logged(tmp_path / "out" / "timm-lp-finetune")
    assert runs.keys() == _times(tmp_path / "out").keys()
    for name, curves in runs.items():
        if "lr1e+30" not in name:
            assert [step for step, _ in curves["loss"]] == [0, 1], name
            assert [step for step, _ in curves["top1"]] == [1], name


@pytest.mark.parametrize(("best", "end"), [(1e-3, "lowest"), (0.01, "highest")])
def test_a_rate_at_the_end_of_the_sweep_is_said(
    start: Start, accuracies_by_rate: dict[float, float], caplog: pytest.LogCaptureFixture, best: float, end: str
) -> None:
    accuracies_by_rate[best] = 60.0
    start(lr_sweep=[1e-3, 0.01], shots=1, batch_size=10).run()
    assert f"digits: learning rate {best:g} (top-1 61.00 % on held-out images)." in caplog.text
    assert f"digits: that is the {end} rate of the sweep; a wider one may find a better." in caplog.text


def test_no_rate_that_trains_is_said(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    sweep = {"lr_sweep": [1e30], "warmup_epochs": 0, "epochs": 2, "shots": 2, "batch_size": 10}
    assert start(**sweep).run()[-1].settings["lr"] == 0.01
    assert "digits: no rate of the sweep could be tried; going on with 0.01" in caplog.text


def test_a_trial_is_followed_epoch_by_epoch(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it breaks off: the tracker gets the epochs before, and the masks are those of one training."""
    follow = {"track_accuracy": True, "track_masks": True, "tracker": "tensorboard"}
    settings: dict[str, Any] = {**follow, "variants": ["base", "lp2@conv1"], "epochs": 3, "shots": 2, "batch_size": 10}
    records = start(**settings).run()
    runs = logged(tmp_path / "out" / "timm-lp-finetune")
    assert [*runs] == [record.folder for record in records]
    for record, curves in zip(records, runs.values(), strict=True):
        for name in ("loss", "top1"):
            assert curves[name] == [(step, pytest.approx(value)) for step, value in enumerate(record.history[name])]
        assert curves["train_top1"] == [(2, pytest.approx(_metrics(record)["train_top1"]))]
    base, lp2 = runs.values()
    assert base.keys() == {"loss", "top1", "mean_per_class", "train_top1"}
    for name in ("mask_p/conv1", "mask_gamma/conv1", "masks"):
        assert [step for step, _ in lp2[name]] == [0, 1, 2]
    trial = tmp_path / "out" / records[1].folder
    history = read_masks(trial)
    assert [*history] == [0, 1, 2, 3]
    saved = layer_masks(timm.create_model(f"local-dir:{trial}", pretrained=True))
    for layer, expected, first in zip(history[3], saved, history[0], strict=True):
        assert torch.equal(layer.C, expected.C)
        assert first.are_new != layer.are_new
    assert not (tmp_path / "out" / records[0].folder / "masks").exists()

    def break_off(*given: Any) -> Outcome:
        def follow(progress: Progress, network: nn.Module) -> None:
            given[6](progress, network)
            if progress.epochs == 2:
                raise KeyboardInterrupt

        return run_trial(*given[:6], follow)

    again = {**settings, "track_accuracy": False, "variants": ["lp2@conv1"], "output_dir": str(tmp_path / "again")}
    with monkeypatch.context() as patched:
        patched.setattr(benchmark, "run_trial", break_off)
        with pytest.raises(KeyboardInterrupt):
            start(**again).run()
    start(**again).run()
    (curves,) = logged(tmp_path / "again" / "timm-lp-finetune").values()
    assert curves["loss"] == [*lp2["loss"][:2], *lp2["loss"]]
    masks = [
        sorted((folder / records[1].folder / "masks").iterdir()) for folder in (tmp_path / "out", tmp_path / "again")
    ]
    assert [path.name for path in masks[0]] == [path.name for path in masks[1]]
    for one, other in zip(*masks, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def _metrics(record: TrialRecord) -> dict[str, float]:
    assert record.metrics, record.error
    return record.metrics


@pytest.mark.parametrize("check_images", [True, False])
def test_an_unreadable_image_fails_its_data_set_alone(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, check_images: bool
) -> None:
    names = [_bugs(tmp_path / name) for name in ("bad", "good")]
    good = str(Path(names[1]).rename(tmp_path / "good" / "birds"))
    broken = tmp_path / "bad" / "bugs" / "test" / "dark" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    benchmark = start(dataset=[names[0], good], check_images=check_images)
    assert ("bugs: 1 of its images cannot be read, and the trials that need them will fail: im" in caplog.text) == (
        check_images
    )
    failed, ended_well = benchmark.run()
    assert (failed.final, ended_well.error) == (False, None)
    assert str(failed.error).startswith("bugs: image 1 (")
    broken.write_bytes(whole)
    mended, _ = start(dataset=[names[0], good]).run()
    assert mended.error is None


def test_a_trial_leaves_its_network_out_where_it_is_asked_to(start: Start, tmp_path: Path) -> None:
    settings = {"shots": 1, "batch_size": 10}
    (unsaved,) = start(**settings, save_models=False).run()
    assert "--no-save-models" in unsaved.command
    assert [path.name for path in (tmp_path / "out" / unsaved.folder).iterdir()] == [TRIAL_FILE]
    (saved,) = start(**settings).run()
    assert timm.create_model(f"local-dir:{tmp_path / 'out' / saved.folder}", pretrained=True).num_classes == 10
    assert saved.metrics == unsaved.metrics
    assert json.loads((tmp_path / "out" / saved.folder / TRIAL_FILE).read_text())["command"] == saved.command
