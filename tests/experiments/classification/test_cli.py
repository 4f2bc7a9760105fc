import gc
import json
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from tests.hub_server import environment, serve
from timm_lp.experiments.classification import speed
from timm_lp.experiments.classification.cli import create_accelerator, main
from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.training import Training
from timm_lp.experiments.data.loading import load_data
from timm_lp.reporting import NOTHING

from ..images import make_parquet
from ..networks import accuracy

RECIPE = """
model: resnet18
model_kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 8, 16]}
dataset: digits
pretrained: false
variants: [base, lp2]
shots: 4
seeds: [1]
epochs: 3
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
    assert "240/240" in progress, "images, in all epochs of both trials"


def test_run_leaves_results_that_can_be_repeated(run: Run) -> None:
    output_dir = run[-1]
    trial = json.loads((output_dir / "digits" / "resnet18" / "lp2-seed1" / "trial.json").read_text())
    assert (trial["model"], trial["network"], trial["seed"]) == ("resnet18", "lp2_resnet18", 1)
    assert (trial["num_test"], trial["num_train"], len(trial["details"]["indices"])) == (797, 40, 40)
    assert (trial["settings"]["epochs"], len(trial["history"]["loss"])) == (3, 3)
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


@pytest.mark.usefixtures("nothing_frozen")
def test_finished_trials_are_not_run_again(run: Run, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run[-1] / "digits" / "resnet18" / "lp2-seed1" / "trial.json"
    before = path.stat().st_mtime_ns, gc.get_freeze_count()
    main(["--config", str(recipe), "--output-dir", str(run[-1])])
    assert "| lp2     |" in capsys.readouterr().out
    assert (path.stat().st_mtime_ns, gc.get_freeze_count()) == before


def test_another_programs_file_is_refused_and_kept(run: Run, recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(run[-1], tmp_path / "out")
    path = tmp_path / "out" / "digits" / "resnet18" / "lp2-seed1" / "trial.json"
    path.write_text("{}")
    for action in ([], ["--report"]):
        with pytest.raises(SystemExit, match=rf"must be of this version of timm-lp, got {path}: "):
            main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *action])
    assert path.read_text() == "{}"


def test_the_report_is_made_at_any_time(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed = run[0]
    main(["--report", "--output-dir", str(run[-1])])
    assert capsys.readouterr().out.strip() in printed
    with pytest.raises(SystemExit, match=r"`output_dir` must hold trials"):
        main(["--report", "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [("--epochs", "4", "epochs 3 instead of 4"), ("--mixed-precision", "bf16", "mixed_precision no instead of bf16")],
)
def test_trials_with_other_settings_are_not_mixed(run: Run, recipe: Path, flag: str, value: str, message: str) -> None:
    with pytest.raises(SystemExit, match=rf"must not hold trials with other settings, .* {message}"):
        main(["--config", str(recipe), "--output-dir", str(run[-1]), flag, value])


def test_a_lost_worker_is_one_sentence(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    monkeypatch.setattr(Training, "update", lose)
    with pytest.raises(SystemExit, match=r"^timm-lp finetune: DataLoader worker \(pid\(s\) 7\) exited unexpectedly$"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path)])


@pytest.mark.usefixtures("no_pictures")
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


@pytest.mark.usefixtures("small_disk", "no_pictures")
def test_a_network_that_is_too_large_for_the_disk_is_said_with_its_file(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(recipe), "--output-dir", str(tmp_path), "--epochs", "1", "--variants", "base"]
    with pytest.raises(SystemExit, match=r"1 of 1 trials failed: digits/resnet18/base-seed1\."):
        main([*arguments, "--model-kwargs", "layers=[1,1,1,1]", "channels=[8,8,8,64]"])
    path = tmp_path / "digits" / "resnet18" / "base-seed1" / "model.safetensors"
    assert "its result could not be written: [Errno 27] File too large; make room" in capsys.readouterr().out
    assert f"'{path}'" in (tmp_path / "report.md").read_text()


def test_the_accelerator_is_the_one_of_the_settings() -> None:
    accelerator = create_accelerator(FinetuneConfig(mixed_precision="bf16", cpu_threads=1, output_dir="here"))
    assert (accelerator.mixed_precision, accelerator.project_dir) == ("bf16", "here")
    assert accelerator.dataloader_config.split_batches


def test_a_tracker_that_is_not_installed_is_refused(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    if __import__("importlib.util").util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    with pytest.raises(SystemExit, match="`tracker` must be installed, got 'wandb'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), "--tracker", "wandb"])


def test_loading_and_training_are_measured(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 0.05)
    make_parquet(tmp_path / "bugs", {"train": 20, "test": 3})
    titles = ["images per second", "first loading", "later", "timm's loader", "training", "both"]
    for dataset, missing in (("digits", {"first loading", "timm's loader"}), (str(tmp_path / "bugs"), set())):
        batches = ["--batch-size", "10", "--shots", "all"]
        main(["--config", str(recipe), "--measure-loading", "--dataset", dataset, *batches])
        header, _, *lines = capsys.readouterr().out.splitlines()
        assert [cell.strip() for cell in header.split("|")[1:-1]] == titles
        for line in lines:
            values = dict(zip(titles[1:], (cell.strip() for cell in line.split("|")[2:-1]), strict=True))
            assert all(name in missing or float(value.replace(",", "")) > 0 for name, value in values.items())
        assert len(lines) == 2
    assert values["timm's loader"] != NOTHING
    with pytest.raises(SystemExit, match=r"`dataset` must be one with --measure-loading, got digits, x\."):
        main(["--config", str(recipe), "--measure-loading", "--dataset", "digits", "x"])


@pytest.fixture
def judged(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> tuple[Path, str]:
    """Return a finished run whose best variant is settled, and that variant."""
    folder = shutil.copytree(run[-1], tmp_path / "judged")
    for path in folder.glob("digits/*/*/trial.json"):
        trial = json.loads(path.read_text())
        trial["metrics"]["top1"] = 77.77 if trial["variant"] == request.param else 33.33
        path.write_text(json.dumps(trial))
    return folder, request.param


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("judged", ["lp2"], indirect=True)
def test_a_push_that_fails_says_how_to_try_again(
    judged: tuple[Path, str], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, best = judged
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(SystemExit) as failure:
        main(["--config", str(recipe), "--output-dir", str(folder), "--push-to-hub", "me/net"])
    command = f"timm-lp hub push {folder}/digits/resnet18/{best}-seed1 me/net"
    assert str(failure.value) == f"timm-lp finetune: the push failed; the trials are kept. Try again with: {command}"


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("judged", ["base"], indirect=True)
def test_the_best_trial_is_pushed_with_its_results(
    judged: tuple[Path, str], recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, best = judged
    with serve() as hub:
        for name, value in environment(hub, tmp_path, "hf_alice").items():
            monkeypatch.setenv(name, value)
        main(["--config", str(recipe), "--report", "--output-dir", str(folder), "--push-to-hub", "alice/net"])
        files = hub.repositories["models", "alice/net"].head.files
    assert files.keys() >= {"README.md", "config.json", "model.safetensors"}
    assert json.loads(files["config.json"].content)["architecture"] == {"base": "", "lp2": "lp2_"}[best] + "resnet18"
    assert "Top-1: 77.8 % on" in files["README.md"].content.decode()


@pytest.mark.usefixtures("no_pictures")
def test_nothing_is_pushed_where_all_trials_failed(recipe: Path, tmp_path: Path) -> None:
    flags = ["--lr", "1e30", "--warmup-epochs", "0", "--variants", "base", "--epochs", "2", "--push-to-hub", "me/net"]
    with pytest.raises(SystemExit, match="`push_to_hub` must have a trial that ended well, got none for 'me/net'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])


@pytest.mark.usefixtures("no_pictures")
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
