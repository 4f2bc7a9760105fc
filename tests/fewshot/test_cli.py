import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from timm_lp.fewshot.cli import main
from timm_lp.fewshot.data import load_splits

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
lr: 0.003
img_size: 32
crop_pct: 1.0
hflip: 0.0
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


ACCELERATE = ("accelerate.commands.launch", "--num_processes", "1", "--cpu")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")  # accelerate has no launcher for CPUs


def _launch(recipe: Path, output_dir: Path, launcher: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *launcher, "-m", "timm_lp.fewshot"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [*command, "--config", str(recipe), "--output-dir", str(output_dir)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    output_dir = tmp_path_factory.mktemp("run")
    return _launch(recipe, output_dir, ACCELERATE), output_dir


def _accuracy(model: nn.Module) -> float:
    _, test = load_splits("digits")
    test = test.select(test.indices, create_transform(**resolve_model_data_config(model)))
    images = torch.stack([test[i][0] for i in range(len(test))])
    labels = torch.tensor([test.labels[i] for i in test.indices])
    with torch.inference_mode():
        return 100 * (model.eval()(images).argmax(1) == labels).float().mean().item()


def test_run_prints_a_table_and_progress(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    process, _ = run
    assert process.returncode == 0, process.stderr
    assert "| base    |" in process.stdout
    assert "| lp2     |" in process.stdout
    assert "797 test images" in process.stdout
    assert "6/6" in process.stderr


def test_run_leaves_results_that_can_be_repeated(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, output_dir = run
    overview = json.loads((output_dir / "results.json").read_text())
    assert [row["variant"] for row in overview["summary"]] == ["base", "lp2"]
    trial = json.loads((output_dir / "lp2-seed1" / "result.json").read_text())
    assert (trial["model"], trial["seed"], trial["num_test"], len(trial["indices"])) == ("lp2_resnet18", 1, 797, 40)
    assert trial["settings"]["epochs"] == 3
    assert trial["versions"].keys() >= {"timm-lp", "timm", "torch", "accelerate"}
    assert overview["trials"][1]["top1"] == trial["top1"]


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_saved_model_loads_through_timm(run: tuple[subprocess.CompletedProcess[str], Path], variant: str) -> None:
    _, output_dir = run
    folder = output_dir / f"{variant}-seed1"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    result = json.loads((folder / "result.json").read_text())
    assert _accuracy(model) == pytest.approx(result["top1"], abs=1e-4)
    assert json.loads((folder / "config.json").read_text())["label_names"][3] == "3"


def test_finished_trials_are_not_run_again(
    run: tuple[subprocess.CompletedProcess[str], Path], recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, output_dir = run
    before = (output_dir / "lp2-seed1" / "result.json").stat().st_mtime_ns
    main(["--config", str(recipe), "--output-dir", str(output_dir)])
    assert "| lp2     |" in capsys.readouterr().out
    assert (output_dir / "lp2-seed1" / "result.json").stat().st_mtime_ns == before


def test_trials_with_other_settings_are_not_mixed(
    run: tuple[subprocess.CompletedProcess[str], Path], recipe: Path
) -> None:
    _, output_dir = run
    with pytest.raises(SystemExit, match=r"must not hold trials with other settings, .* epochs 3 instead of 4"):
        main(["--config", str(recipe), "--output-dir", str(output_dir), "--epochs", "4"])


def test_trials_in_other_precisions_are_not_mixed(
    run: tuple[subprocess.CompletedProcess[str], Path], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output_dir = run
    path = output_dir / "lp2-seed1" / "result.json"
    written = path.read_text()
    monkeypatch.setattr(
        Path, "read_text", lambda self, **_: written.replace('"no"', '"bf16"') if self == path else RECIPE
    )
    with pytest.raises(SystemExit, match="mixed_precision bf16 instead of no"):
        main(["--config", str(recipe), "--output-dir", str(output_dir), "--variants", "lp2"])


def test_missing_checkpoint_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"`checkpoint` must be a file, got 'missing\.pth'"):
        main(["--config", str(recipe), "--output-dir", str(tmp_path), "--checkpoint", "missing.pth"])


def test_an_image_folder_runs(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for shade, name in enumerate(("dark", "light")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(3):
                image = Image.new("L", (20 + i, 16), 200 * shade + i)
                image.save(tmp_path / "images" / split / name / f"{i}.png")
    flags = ["--dataset", str(tmp_path / "images"), "--workers", "1", "--batch-size", "4"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path / "out"), *flags])
    assert "6 test images" in capsys.readouterr().out
    assert timm.create_model(f"local-dir:{tmp_path / 'out' / 'lp2-seed1'}", pretrained=True).num_classes == 2


def test_a_failed_trial_shows_and_the_others_go_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--lr", "1e30", "--warmup-epochs", "0", "--variants", "base", "large", "--epochs", "2"]
    main(["--config", str(recipe), "--output-dir", str(tmp_path), *flags])
    table = capsys.readouterr().out
    assert table.count("0 (1 failed)") == 2
    assert "None" not in table
    assert "the loss became" in json.loads((tmp_path / "large-seed1" / "result.json").read_text())["error"]
    assert not (tmp_path / "large-seed1" / "model.safetensors").exists()


def test_two_processes_test_every_image_once(recipe: Path, tmp_path: Path) -> None:
    process = _launch(recipe, tmp_path, TORCHRUN)
    assert process.returncode == 0, process.stderr
    trial = json.loads((tmp_path / "lp2-seed1" / "result.json").read_text())
    assert (trial["num_processes"], trial["num_test"]) == (2, 797)
    assert _accuracy(timm.create_model(f"local-dir:{tmp_path / 'lp2-seed1'}", pretrained=True)) == pytest.approx(
        trial["top1"], abs=1e-4
    )
