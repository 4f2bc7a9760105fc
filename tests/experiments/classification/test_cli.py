import gc
import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from timm.data import create_transform, resolve_model_data_config

from tests.hub_server import environment, serve
from timm_lp.experiments.classification import benchmark, speed
from timm_lp.experiments.classification.cli import main
from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.training import Training
from timm_lp.experiments.classification.trial import Outcome, Trial, run_trial
from timm_lp.experiments.data.loading import load_data

from ..images import make_folder, make_parquet, make_split_file
from ..networks import accuracy

RECIPE = """
model: resnet18
model_kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 8, 16]}
dataset: digits
pretrained: false
variants: [base, lp2]
shots: 4
seeds: [1]
epochs: 12
batch_size: 20
lr: 0.01
img_size: 32
crop_pct: 1.0
hflip: 0.0
"""
Run = tuple[str, str, Path]  # output, progress, folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    output_dir = tmp_path_factory.mktemp("run")
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as progress:
        main(["--config", str(recipe), "--output-dir", str(output_dir)])
    return output.getvalue(), progress.getvalue(), output_dir


def test_run_prints_a_table_and_progress(run: Run) -> None:
    output, progress, _ = run
    assert "| base    |" in output
    assert "| lp2     |" in output
    assert "797 of digits" in output
    assert "24/24" in progress


def test_run_leaves_results_that_can_be_repeated(run: Run) -> None:
    output_dir = run[-1]
    trial = json.loads((output_dir / "digits" / "resnet18" / "lp2-seed1" / "trial.json").read_text())
    assert (trial["model"], trial["network"], trial["seed"]) == ("resnet18", "lp2_resnet18", 1)
    assert (trial["num_test"], trial["num_train"], len(trial["details"]["indices"])) == (797, 40, 40)
    assert (trial["settings"]["epochs"], len(trial["history"]["loss"])) == (12, 12)
    assert trial["versions"].keys() >= {"timm-lp", "python", "timm", "torch", "torchvision", "datasets", "pillow"}
    card = json.loads((output_dir / "digits" / "resnet18" / "lp2-seed1" / "results.json").read_text())
    assert card["results"][0]["metrics"]["top1"] == {"1": trial["metrics"]["top1"]}
    assert {path.name for path in output_dir.iterdir()} == {
        *("digits", "results.json", "report.md", "report.tex", "report.csv", "report.png")
    }


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_saved_model_loads_through_timm(run: Run, variant: str) -> None:
    folder = run[-1] / "digits" / "resnet18" / f"{variant}-seed1"
    files = [folder / name for name in ("model.safetensors", "config.json")]
    assert files[0].stat().st_mode == files[1].stat().st_mode
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    result = json.loads((folder / "trial.json").read_text())
    test, transform = load_data("digits").test, create_transform(**resolve_model_data_config(model))
    images = torch.stack([transform(test.image(i)) for i in range(len(test))])
    assert result["metrics"]["top1"] == accuracy(model, images, test.own_labels())
    assert json.loads((folder / "config.json").read_text())["label_names"][3] == "3"


def test_finished_trials_are_not_run_again(run: Run, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run[-1] / "digits" / "resnet18" / "lp2-seed1" / "trial.json"
    before = path.stat().st_mtime_ns
    main(["--config", str(recipe), "--output-dir", str(run[-1])])
    assert "| lp2     |" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_a_damaged_result_is_said_and_made_again(
    run: Run, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run[-1], tmp_path / "out")
    path = tmp_path / "out" / "digits" / "resnet18" / "lp2-seed1" / "trial.json"
    before = json.loads(path.read_text())
    path.write_bytes(b"")  # as a power cut may leave it
    main(["--config", str(recipe), "--output-dir", str(tmp_path / "out")])
    assert "trial.json cannot be read, and its trial runs again" in caplog.text
    assert json.loads(path.read_text())["metrics"] == before["metrics"]


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"metrics": {"top1": 99.0}}'])
def test_another_programs_file_is_refused_and_kept(run: Run, recipe: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(run[-1], tmp_path / "out")
    path = tmp_path / "out" / "digits" / "resnet18" / "lp2-seed1" / "trial.json"
    path.write_text(content)
    for action in ([], ["--report"]):
        with pytest.raises(SystemExit, match=rf"must hold trials of this version of timm-lp, got {path}: "):
            main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *action])
    assert path.read_text() == content


def test_another_programs_file_of_the_sweep_is_refused_before_the_training(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits" / "resnet18" / "lr-sweep" / "lr0.2-seed1" / "trial.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(SystemExit, match=rf"must hold trials of this version of timm-lp, got {path}: "):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), "--lr-sweep", "0.1", "0.2"])
    assert list(path.parent.parent.iterdir()) == [path.parent]


def test_the_report_is_made_at_any_time(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed = run[0]
    main(["--report", "--output-dir", str(run[-1])])
    assert capsys.readouterr().out.strip() in printed
    with pytest.raises(SystemExit, match=r"`output_dir` must hold trials"):
        main(["--report", "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [("--epochs", "4", "epochs 12 instead of 4"), ("--mixed-precision", "bf16", "mixed_precision no instead of bf16")],
)
def test_trials_with_other_settings_are_not_mixed(run: Run, recipe: Path, flag: str, value: str, message: str) -> None:
    with pytest.raises(SystemExit, match=rf"must not hold trials with other settings, .* {message}"):
        main(["--config", str(recipe), "--output-dir", str(run[-1]), flag, value])


def test_missing_checkpoint_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"`checkpoint` must be a file, got 'missing\.pth'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), "--checkpoint", "missing.pth"])


def test_a_checkpoint_of_another_network_is_refused_before_the_training(recipe: Path, tmp_path: Path) -> None:
    save_file(timm.create_model("convnext_atto").state_dict(), tmp_path / "other.safetensors")
    flags = ["--checkpoint", str(tmp_path / "other.safetensors"), "--output-dir", str(tmp_path / "out")]
    for action in ([], ["--measure-loading"]):
        with pytest.raises(
            SystemExit, match=r"timm-lp finetune: .*`checkpoint` must fit resnet18, got .*missing keys: conv1"
        ):
            main(["--config", str(recipe), *flags, *action])
    assert not (tmp_path / "out").exists()


def test_a_batch_that_batch_norm_does_not_take_is_refused_before_the_training(recipe: Path, tmp_path: Path) -> None:
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--batch-size", "1"]
    for action in ([], ["--measure-loading"], ["--variants", "lp2", "--lr-sweep", "0.1"]):
        with pytest.raises(SystemExit, match=r"`batch_size` .*must fit .* of resnet18, got 32x32 pixels: ValueError"):
            main([*flags, *action])
    assert not (tmp_path / "out").exists()


def test_a_lost_worker_is_one_sentence(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    monkeypatch.setattr(Training, "update", lose)
    with pytest.raises(SystemExit, match=r"^timm-lp finetune: DataLoader worker \(pid\(s\) 7\) exited unexpectedly$"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path)])


@pytest.mark.usefixtures("nothing_frozen")
def test_garbage_collection_is_as_before_when_it_ends(run: Run, recipe: Path) -> None:
    before = gc.get_freeze_count()
    main(["--config", str(recipe), "--output-dir", str(run[-1])])
    assert gc.get_freeze_count() == before


def test_a_checkpoint_may_be_moved(run: Run, recipe: Path, tmp_path: Path) -> None:
    model = run[-1] / "digits" / "resnet18" / "base-seed1" / "model.safetensors"
    moved = shutil.copy(model, tmp_path / "moved.safetensors")
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    main([*flags, "--checkpoint", str(model)])
    before = (tmp_path / "out" / "digits" / "resnet18" / "base-seed1" / "trial.json").stat().st_mtime_ns
    main([*flags, "--checkpoint", str(moved)])
    assert (tmp_path / "out" / "digits" / "resnet18" / "base-seed1" / "trial.json").stat().st_mtime_ns == before


def test_another_checkpoint_is_refused_in_words(run: Run, recipe: Path, tmp_path: Path) -> None:
    model = run[-1] / "digits" / "resnet18" / "base-seed1" / "model.safetensors"
    other = tmp_path / "other.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(model).items()}, other)
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    main([*flags, "--checkpoint", str(model)])
    with pytest.raises(SystemExit, match=r"got \S+trial\.json: the contents of the checkpoint differ\. Choose another"):
        main([*flags, "--checkpoint", str(other)])


def test_data_sets_must_have_folders_of_their_own(recipe: Path, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        make_folder(tmp_path / parent / "bugs", "train", ["ant", "bee"])
        make_folder(tmp_path / parent / "bugs", "test", ["ant", "bee"])
    with pytest.raises(SystemExit, match="`dataset` must not name two with the same folder, got bugs, bugs"):
        main(["--config", str(recipe), "--dataset", str(tmp_path / "a" / "bugs"), str(tmp_path / "b" / "bugs")])


def _bugs(root: Path, kind: str, first: int = 0, count: int = 4) -> str:
    """Write a data set of one of the kinds that lie on this machine, and return what `--dataset` calls it."""
    if kind == "split file":
        return str(make_split_file(root, {"train": count, "val": 2, "test": 2}, first=first))
    if kind == "parquet":
        make_parquet(root / "bugs", {"train": count, "test": 2}, first=first)
    else:
        make_folder(root / "bugs", "train", ("dark", "light"), count, first)
        make_folder(root / "bugs", "test", ("dark", "light"), 2, first + 50)
    return str(root / "bugs")


@pytest.mark.parametrize("kind", ["folder", "parquet", "split file"])
@pytest.mark.parametrize(("first", "count"), [(200, 4), (0, 5)], ids=["other images", "more images"])
def test_trials_of_another_data_set_of_the_same_name_are_not_mixed(
    recipe: Path, tmp_path: Path, kind: str, first: int, count: int
) -> None:
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    main([*flags, "--dataset", _bugs(tmp_path / "clean", kind)])
    with pytest.raises(SystemExit) as refusal:
        main([*flags, "--dataset", _bugs(tmp_path / "noise", kind, first, count)])
    assert re.fullmatch(
        r"timm-lp finetune: `output_dir` must not hold trials with other settings, got \S+trial\.json: "
        r"the contents of the data set differ\. Choose another --output-dir\.",
        str(refusal.value),
    )


@pytest.mark.parametrize("kind", ["folder", "parquet", "split file"])
def test_a_data_set_may_be_moved_and_touched(recipe: Path, tmp_path: Path, kind: str) -> None:
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    dataset = _bugs(tmp_path / "here", kind)
    main([*flags, "--dataset", dataset])
    (path,) = (tmp_path / "out").rglob("trial.json")
    before = path.stat().st_mtime_ns
    (tmp_path / "here").rename(tmp_path / "there")
    for file in (tmp_path / "there").rglob("*.p*"):
        os.utime(file)
        (file.parent / "notes.md").touch()
    moved = str(tmp_path / "there" / Path(dataset).name)
    main([*flags, "--dataset", moved])
    assert path.stat().st_mtime_ns == before
    assert f"--dataset {moved}" in json.loads((path.parent / "results.json").read_text())["recipe"]["command"]


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_data_set_may_be_renamed(
    recipe: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--epochs", "1"]
    dataset = Path(_bugs(tmp_path, kind))
    main([*flags, "--dataset", str(dataset), "--variants", "base"])
    path = tmp_path / "out" / "bugs" / "resnet18" / "base-seed1" / "trial.json"
    before = path.stat().st_mtime_ns
    renamed = str(dataset.rename(tmp_path / "insects"))
    main([*flags, "--dataset", renamed])
    assert path.stat().st_mtime_ns == before
    assert "insects has the contents of bugs, and goes on as that." in caplog.text
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"bugs"}
    capsys.readouterr()
    main(["--report", "--output-dir", str(tmp_path / "out")])
    assert "| lp2     |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="the contents of the data set differ"):
        main([*flags, "--dataset", _bugs(tmp_path / "other", kind, 200)])


def test_two_data_sets_of_the_same_contents_stay_two(recipe: Path, tmp_path: Path) -> None:
    """A run of both that ended after the first goes on with the second."""
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    dataset = _bugs(tmp_path, "folder")
    copy = shutil.copytree(dataset, tmp_path / "copy")
    main([*flags, "--dataset", dataset])
    main([*flags, "--dataset", dataset, str(copy)])
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"bugs", "copy"}


def test_a_last_map_of_one_pixel_is_said(recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flags = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--epochs", "1", "--variants", "base"]
    dataset = _bugs(tmp_path, "folder")
    main([*flags, "--dataset", dataset])
    assert caplog.text.count("resnet18: its last kernels see a map of a single pixel, around which they meet") == 1
    assert "Give a larger --img-size, or --small-stem." in caplog.text
    caplog.clear()
    main([*flags, "--dataset", dataset, "--small-stem"])
    assert "a single pixel" not in caplog.text


def test_training_images_in_the_test_are_said(recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Path(_bugs(tmp_path, "folder"))
    shutil.copy(dataset / "train" / "dark" / "0.png", dataset / "test" / "light")
    main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--epochs", "1", "--dataset", str(dataset)])
    assert caplog.text.count("bugs: 1 of 4 test images are among the training images too.") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr-sweep", "0.1"], "`lr_sweep` must have images to choose with, got none of bugs beyond"),
        (["--grad-accum-steps", "5"], "`batch_size` must be a multiple of .*, got 4 of 4 training images"),
    ],
    ids=["sweep", "batch"],
)
def test_a_data_set_with_too_few_images_is_refused_before_the_training(
    recipe: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    make_folder(tmp_path / "bugs", "train", ("dark", "light"), 2)
    make_folder(tmp_path / "bugs", "test", ("dark", "light"), 2)
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *flags]
    with pytest.raises(SystemExit, match=message):
        main([*arguments, "--dataset", "digits", str(tmp_path / "bugs")])
    assert not (tmp_path / "out").exists()


def test_small_classes_are_said_and_counted(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path / "bugs", "train", ("dark", "light"), 3)
    make_folder(tmp_path / "bugs", "test", ("dark", "light"), 3)
    flags = [
        "--dataset",
        str(tmp_path / "bugs"),
        "--workers",
        "1",
        "--epochs",
        "1",
        "--variants",
        "lp2",
        "--channels-last",
    ]
    main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *flags])
    assert "6 of bugs" in capsys.readouterr().out
    assert "bugs: 2 of 2 classes have fewer than 4 training images" in caplog.text
    folder = tmp_path / "out" / "bugs" / "resnet18" / "lp2-seed1"
    assert json.loads((folder / "trial.json").read_text())["details"]["short_classes"] == {"dark": 3, "light": 3}
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 2


def test_a_failed_trial_shows_and_the_others_go_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--lr", "1e30", "--warmup-epochs", "0", "--variants", "base", "large", "--epochs", "2"]
    failed = (
        r"^timm-lp finetune: 2 of 2 trials failed: digits/resnet18/base-seed1, digits/resnet18/large-seed1\. The report"
    )
    with pytest.raises(SystemExit, match=failed):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    table = capsys.readouterr().out
    assert table.count("1 of 1 failed") == 4
    assert "None" not in table
    path = tmp_path / "digits" / "resnet18" / "large-seed1" / "trial.json"
    assert "the loss became" in json.loads(path.read_text())["error"]
    assert not (path.parent / "model.safetensors").exists()
    before = path.stat().st_mtime_ns
    with pytest.raises(SystemExit, match=failed):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    assert path.stat().st_mtime_ns == before, "what diverged would diverge again"


def test_an_unreadable_image_fails_its_data_set_alone(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        make_folder(tmp_path / name, "train", ("dark", "light"), 3)
        make_folder(tmp_path / name, "test", ("dark", "light"), 2)
    broken = tmp_path / "bad" / "test" / "dark" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    names = [str(tmp_path / name) for name in ("bad", "good")]
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path / "out"), "--variants", "base", "--epochs", "1"]
    with pytest.raises(SystemExit, match=r"1 of 2 trials failed: bad/resnet18/base-seed1\. The report says why\.$"):
        main([*arguments, "--dataset", *names])
    text = capsys.readouterr().out
    assert re.search(r"\| base    \| 1 of 1 failed \| +\d", text)
    assert "Failed: base on bad, seed 1: bad: image 1 (" in text
    broken.write_bytes(whole)
    main([*arguments, "--dataset", *names])
    assert "failed" not in capsys.readouterr().out


def test_a_full_disk_fails_its_trial_alone(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "digits" / "resnet18" / "base-seed1"
    folder.mkdir(parents=True)
    (folder / "trial.partial").symlink_to("/dev/full")
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path), "--epochs", "1"]
    with pytest.raises(SystemExit, match=r"1 of 2 trials failed: digits/resnet18/base-seed1\. The report says why\.$"):
        main(arguments)
    text = capsys.readouterr().out
    assert "Failed: base on digits, seed 1: its result could not be written: [Errno 28] No space left" in text
    assert str(folder / "trial.json") in text
    assert re.search(r"^\| lp2 +\| +\*\*", text, re.MULTILINE)
    (folder / "trial.partial").unlink()
    main(arguments)
    assert "failed" not in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run[-1] / "report.md").read_text()
    with _files_up_to(100), pytest.raises(SystemExit) as failure:
        main(["--report", "--output-dir", str(run[-1])])
    assert re.fullmatch(r"timm-lp finetune: \[Errno 27\] File too large; make room .*: '.*'", str(failure.value))
    assert f"'{run[-1] / 'report.md'}'" in str(failure.value)
    assert (run[-1] / "report.md").read_text() == before
    assert "| lp2     |" in capsys.readouterr().out, "but it is printed"


def test_an_output_folder_that_takes_nothing_is_refused_before_the_training(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemExit, match=r"`output_dir` must be a folder to write to, got '.*file.*': \[Errno"):
            main(["--config", str(recipe), "--output-dir", str(folder)])


def test_an_interruption_is_one_sentence(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "update", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit, match=r"interrupted\. The same command goes on"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path)])


def test_a_table_that_cannot_be_written_is_printed(run: Run, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partial = run[-1] / "results.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(SystemExit, match=r"timm-lp finetune: \[Errno 28\] No space left on device; .*/results\.json'$"):
        main(["--config", str(recipe), "--output-dir", str(run[-1])])
    partial.unlink()
    assert "| lp2     |" in capsys.readouterr().out


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, bytes, as a disk that is almost full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def small_disk() -> Iterator[None]:
    with _files_up_to(100_000):
        yield


@pytest.mark.usefixtures("small_disk")
def test_a_network_that_is_too_large_for_the_disk_is_said_with_its_file(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path), "--epochs", "1", "--variants", "base"]
    with pytest.raises(SystemExit, match=r"1 of 1 trials failed: digits/resnet18/base-seed1\."):
        main([*arguments, "--model-kwargs", "layers=[1,1,1,1]", "channels=[8,8,8,64]"])
    path = tmp_path / "digits" / "resnet18" / "base-seed1" / "model.safetensors"
    assert "its result could not be written: [Errno 27] File too large; make room" in capsys.readouterr().out
    assert f"'{path}'" in (tmp_path / "report.md").read_text()


def test_a_trial_without_its_network_runs_again_to_save_it(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path), "--epochs", "1", "--variants", "base"]
    folder = tmp_path / "digits" / "resnet18" / "base-seed1"
    main([*arguments, "--no-save-models"])
    before = json.loads((folder / "trial.json").read_text())
    main([*arguments, "--no-save-models"])
    assert not (folder / "model.safetensors").exists()
    assert "runs again" not in caplog.text
    main(arguments)
    assert (
        "digits/resnet18/base-seed1 was run with --no-save-models, and runs again to save its network." in caplog.text
    )
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 10
    assert json.loads((folder / "trial.json").read_text())["metrics"] == before["metrics"]
    caplog.clear()
    (folder / "model.safetensors").unlink()
    main(arguments)
    assert "runs again" not in caplog.text, "its user removed it"


@pytest.fixture
def accuracies_by_rate(monkeypatch: pytest.MonkeyPatch) -> dict[float, float]:
    """Return where to say which accuracy a learning rate shall give, instead of what a training happens to learn."""
    by_rate: dict[float, float] = {}

    def run(config: FinetuneConfig, trial: Trial, *arguments: Any) -> Outcome:
        outcome = run_trial(config, trial, *arguments)
        top1 = by_rate.get(config.lr, 0.0) + trial.seed
        return replace(outcome, metrics={**outcome.metrics, "top1": top1})

    monkeypatch.setattr(benchmark, "run_trial", run)
    return by_rate


def test_the_rate_is_chosen_with_the_base_network_on_all_seeds_and_held(
    recipe: Path,
    tmp_path: Path,
    accuracies_by_rate: dict[float, float],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    accuracies_by_rate.update({1e-9: 50.0, 0.01: 60.0})
    flags = ["--lr-sweep", "1e-9", "0.01", "1e30", "--seeds", "1", "2", "--tracker", "tensorboard"]
    short = ["--epochs", "3", "--warmup-epochs", "0"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags, *short])
    paths = tmp_path.glob("digits/resnet18/*-seed*/trial.json")
    rates = [json.loads(path.read_text())["settings"]["lr"] for path in paths]
    assert rates == [0.01] * 4
    swept = [
        json.loads((tmp_path / "digits" / "resnet18" / "lr-sweep" / f"lr0.01-seed{seed}" / "trial.json").read_text())
        for seed in (1, 2)
    ]
    assert [(trial["num_test"], trial["variant"]) for trial in swept] == [(40, "base")] * 2
    assert swept[0]["details"]["indices"] != swept[1]["details"]["indices"]
    assert "1e-09: 51.50, 0.01: 61.50, 1e+30: failed" in capsys.readouterr().out
    assert "rate of the sweep" not in caplog.text
    runs = _logged(tmp_path / "timm-lp-finetune")
    assert runs.keys() == {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("trial.json")}
    for name, curves in runs.items():
        if "lr1e+30" not in name:
            assert [step for step, _ in curves["loss"]] == [0, 1, 2], name
            assert [step for step, _ in curves["top1"]] == [2], name


def _logged(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the steps and values that TensorBoard got, by run and by curve."""
    runs: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for path in folder.rglob("events.out.tfevents.*"):
        curves = runs.setdefault(path.parent.relative_to(folder).as_posix(), {})
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return runs


def test_accuracy_that_is_followed_is_a_curve_of_its_trial(recipe: Path, tmp_path: Path) -> None:
    flags = ["--epochs", "2", "--variants", "base", "--track-accuracy", "--tracker", "tensorboard"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    record = json.loads((tmp_path / "digits" / "resnet18" / "base-seed1" / "trial.json").read_text())
    (curves,) = _logged(tmp_path / "timm-lp-finetune").values()
    assert curves.keys() == {"loss", "top1", "mean_per_class", "train_top1"}
    for name in ("loss", "top1"):
        assert curves[name] == [(step, pytest.approx(value)) for step, value in enumerate(record["history"][name])]
    assert curves["train_top1"] == [(1, pytest.approx(record["metrics"]["train_top1"]))]


@pytest.mark.parametrize(("best", "end"), [(1e-3, "lowest"), (0.01, "highest")])
def test_a_rate_at_the_end_of_the_sweep_is_said(
    recipe: Path,
    tmp_path: Path,
    accuracies_by_rate: dict[float, float],
    caplog: pytest.LogCaptureFixture,
    best: float,
    end: str,
) -> None:
    accuracies_by_rate[best] = 60.0
    flags = ["--lr-sweep", "1e-3", "0.01", "--variants", "base", "--seeds", "1", "--epochs", "1"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    assert f"digits: learning rate {best:g} (top-1 61.00 % on held-out images)." in caplog.text
    assert f"digits: that is the {end} rate of the sweep; a wider one may find a better." in caplog.text


def test_a_tracker_that_is_not_installed_is_refused(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    if __import__("importlib.util").util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    with pytest.raises(SystemExit, match="`tracker` must be installed, got 'wandb'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), "--tracker", "wandb"])


def test_loading_and_training_are_measured(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 0.05)
    main(["--config", str(recipe), "--measure-loading"])
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["images per second", "loading", "training", "both"]
    for line in lines:
        assert all(float(cell.replace(",", "")) > 0 for cell in line.split("|")[2:5])
    assert len(lines) == 2


@pytest.fixture(params=["base", "lp2"])
def judged(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> tuple[Path, str]:
    """Return a finished run whose best variant is settled, and that variant."""
    folder = shutil.copytree(run[-1], tmp_path / "judged")
    for path in folder.glob("digits/*/*/trial.json"):
        trial = json.loads(path.read_text())
        trial["metrics"]["top1"] = 77.77 if trial["variant"] == request.param else 33.33
        path.write_text(json.dumps(trial))
    return folder, request.param


@pytest.mark.parametrize("judged", ["lp2"], indirect=True)
def test_a_push_that_fails_says_how_to_try_again(
    judged: tuple[Path, str], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, best = judged
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(SystemExit) as failure:
        main(["--config", str(recipe), "--output-dir", str(folder), "--push-to-hub", "me/net"])
    command = f"-m hub_export push {folder}/digits/resnet18/{best}-seed1 me/net"
    assert str(failure.value) == f"timm-lp finetune: the push failed; the trials are kept. Try again with: {command}"


def test_the_best_trial_is_pushed_with_its_results(
    judged: tuple[Path, str], recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, best = judged
    with serve() as hub:
        for name, value in environment(hub, tmp_path, "hf_alice").items():
            monkeypatch.setenv(name, value)
        main(["--config", str(recipe), "--output-dir", str(folder), "--push-to-hub", "alice/net"])
        files = hub.repositories["models", "alice/net"].head.files
    assert files.keys() >= {"README.md", "config.json", "model.safetensors"}
    assert json.loads(files["config.json"].content)["architecture"] == {"base": "", "lp2": "lp2_"}[best] + "resnet18"
    assert "Top-1: 77.8 % on" in files["README.md"].content.decode()


def test_nothing_is_pushed_where_all_trials_failed(recipe: Path, tmp_path: Path) -> None:
    flags = ["--lr", "1e30", "--warmup-epochs", "0", "--variants", "base", "--epochs", "2", "--push-to-hub", "me/net"]
    with pytest.raises(SystemExit, match="`push_to_hub` must have a trial that ended well, got none for 'me/net'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])


def test_no_rate_that_trains_is_said(recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flags = ["--lr-sweep", "1e30", "--warmup-epochs", "0", "--epochs", "2", "--variants", "base"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    assert "digits: no rate of the sweep could be tried; going on with 0.01" in caplog.text
    assert (
        json.loads((tmp_path / "digits" / "resnet18" / "base-seed1" / "trial.json").read_text())["settings"]["lr"]
        == 0.01
    )


def test_parquet_folders_run_with_shots_of_all(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_parquet(tmp_path / "bugs", {"train": 5, "test": 3})
    flags = ["--dataset", str(tmp_path / "bugs"), "--shots", "all", "--epochs", "1", "--variants", "base"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *flags])
    assert "all training images" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "out" / "bugs" / "resnet18" / "base-seed1" / "trial.json").read_text())["num_train"]
        == 15
    )
