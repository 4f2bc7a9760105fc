"""The command whole: run, killed, resumed, reported, ablated."""

import csv
import json
import shutil
import signal
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from timm_lp.experiments.sudoku import generate_puzzles, load_sudoku, training
from timm_lp.experiments.sudoku.cli import main
from timm_lp.experiments.sudoku.data import load_boards, write_puzzles
from timm_lp.experiments.sudoku.evaluation import evaluate
from timm_lp.experiments.sudoku.report import trained_networks
from timm_lp.experiments.sudoku.training import Training
from timm_lp.masks import conformation_matrix

from ..tracked import logged

FLAGS = (
    *("--puzzles", "45", "--test-puzzles", "5", "--channels", "4", "--depth", "2", "--input", "one-hot"),
    *("--epochs", "2", "--batch-size", "10", "--lr", "0.01", "--stepwise-puzzles", "2", "--cpu-threads", "1"),
)
TRIALS = Path("generated", "sudoku4x2-one-hot")


def _main(folder: Path, *flags: str, variants: Sequence[str] = ("base", "lp2"), seeds: Sequence[str] = ("1",)) -> str:
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()):
        main([*FLAGS, "--variants", *variants, "--seeds", *seeds, "--output-dir", str(folder), *flags])
    return output.getvalue()


def _record(folder: Path, trial: str) -> dict[str, Any]:
    return json.loads((folder / TRIALS / trial / "trial.json").read_text())


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("trial.json")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("run")
    return folder, _main(folder, seeds=("1", "2"))


def test_a_run_leaves_tables_results_and_networks(run: tuple[Path, str]) -> None:
    folder, output = run
    assert "4 channels x 2 layers, one-hot input, 2 seeds, 80 puzzles seen (40 generated), 5 others" in output
    assert {path.name for path in folder.iterdir()} == {
        *("generated", "report.md", "report.tex", "report.csv", "report.png"),
        *("results.json", "curves.csv", "curves.png"),
    }
    trials = [f"{variant}-seed{seed}" for variant in ("base", "lp2") for seed in (1, 2)]
    assert sorted(path.name for path in (folder / TRIALS).iterdir()) == trials
    for trial in trials:
        assert {path.name for path in (folder / TRIALS / trial).iterdir()} == {
            *("trial.json", "config.json", "model.safetensors")
        }
    trial = _record(folder, "lp2-seed2")
    assert (trial["variant"], trial["seed"], trial["num_train"], trial["num_test"]) == ("lp2", 2, 40, 5)
    assert trial["history"]["puzzles"] == [40, 80]
    assert trial["details"]["puzzles_per_second"] == pytest.approx(80 / trial["train_seconds"])
    assert trial["versions"].keys() >= {"timm-lp", "torch", "accelerate"}


def test_a_saved_network_gives_the_numbers_of_its_record(run: tuple[Path, str]) -> None:
    trial = _record(run[0], "lp2-seed1")
    network = load_sudoku(run[0] / TRIALS / "lp2-seed1")
    test = load_boards(None, 45, 5, seed=0).test
    found = evaluate(network, test, batch_size=5, accelerator=Accelerator(cpu=True))
    assert found.pop("loss") == pytest.approx(trial["metrics"]["loss"], rel=1e-4)
    assert found["number"] == pytest.approx(trial["metrics"]["number"] / 100, abs=0.01)


@pytest.mark.usefixtures("no_pictures")
def test_the_command_of_a_record_repeats_the_trial(run: tuple[Path, str], tmp_path: Path) -> None:
    trial = _record(run[0], "lp2-seed2")
    words = trial["command"].split()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        main([*words[words.index("timm_lp.experiments.sudoku") + 1 :], "--output-dir", str(tmp_path)])
    assert _record(tmp_path, "lp2-seed2")["metrics"] == pytest.approx(trial["metrics"], rel=1e-4, abs=1.0)


def test_finished_trials_are_not_run_again(run: tuple[Path, str]) -> None:
    before = _files(run[0])
    assert _main(run[0], seeds=("1", "2")) == run[1]
    assert _files(run[0]) == before


def test_the_report_is_made_at_any_time(run: tuple[Path, str], tmp_path: Path) -> None:
    folder = shutil.copytree(run[0], tmp_path / "copy")
    shutil.rmtree(folder / TRIALS / "lp2-seed2")
    text = _main(folder, "--report")
    assert "1 of 2 seeds" in text
    assert text.startswith((folder / "report.md").read_text())
    with pytest.raises(SystemExit, match=r"`output_dir` must hold trials, got .* with no trial\.json"):
        _main(tmp_path / "nowhere", "--report")


def test_trials_with_other_settings_are_not_mixed(run: tuple[Path, str]) -> None:
    message = r"data_seed 0 instead of 1, lr 0\.01 instead of 0\.02, the contents of the data set differ\. Choose"
    with pytest.raises(SystemExit, match=rf"must not hold trials with other settings, got .*: {message}"):
        _main(run[0], "--lr", "0.02", "--data-seed", "1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "41"], "`batch_size` must be from 1 to the 40 puzzles"),
        (["--test-puzzles", "45"], "`test_puzzles` must leave some of the 45 puzzles"),
        (["--data", "missing.csv"], r"No such file .*missing\.csv"),
    ],
)
def test_puzzles_that_do_not_fit_are_refused_before_the_training(
    tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=f"timm-lp sudoku: .*{message}"):
        _main(tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_takes_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"`output_dir` must be a folder to write to, got '.*file'"):
        _main(tmp_path / "file")


@pytest.mark.usefixtures("no_pictures")
def test_published_puzzles_are_read_and_may_be_moved(tmp_path: Path) -> None:
    write_puzzles(tmp_path / "sudoku.csv", generate_puzzles(45, seed=0))
    flags = ["--stepwise-puzzles", "0", "--no-save-networks"]
    text = _main(tmp_path / "out", *flags, "--data", str(tmp_path / "sudoku.csv"), variants=["base"])
    assert "(40 sudoku)" in text
    before = _files(tmp_path / "out")
    (tmp_path / "moved").mkdir()
    (tmp_path / "sudoku.csv").rename(tmp_path / "moved" / "sudoku.csv")
    _main(tmp_path / "out", *flags, "--data", str(tmp_path / "moved" / "sudoku.csv"), variants=["base"])
    assert _files(tmp_path / "out") == before
    assert not [*(tmp_path / "out").rglob("*.safetensors")]


@pytest.mark.usefixtures("no_pictures")
def test_a_result_that_cannot_be_written_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / TRIALS / "base-seed1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").mkdir()  # safetensors cannot replace it
    with pytest.raises(SystemExit, match=rf"sudoku: 1 of 1 trials failed: {TRIALS}/base-seed1\. The report says why"):
        main([*FLAGS, "--epochs", "1", "--variants", "base", "--seeds", "1", "--output-dir", str(tmp_path)])
    failed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Failed: base, seed 1: "))
    assert "its result could not be written: " in failed
    assert str(folder / "model.safetensors") in failed


@pytest.mark.usefixtures("no_pictures")
def test_a_diverged_trial_shows_as_failed_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = rf"sudoku: 2 of 2 trials failed: {TRIALS}/base-seed1, {TRIALS}/large-seed1\. The report says why\.$"
    run = [*FLAGS, "--lr", "1e30", "--variants", "base", "large", "--seeds", "1", "--output-dir", str(tmp_path)]
    with pytest.raises(SystemExit, match=failed):
        main(run)
    text = capsys.readouterr().out
    assert text.count("1 of 1 failed") >= 2
    assert "Failed: base, seed 1: the loss became " in text
    assert "Failed: large, seed 1: the loss became " in text
    trial = _record(tmp_path, "base-seed1")
    assert (trial["metrics"], trial["final"]) == (None, True)
    assert [path.name for path in (tmp_path / TRIALS / "base-seed1").iterdir()] == ["trial.json"]
    before = _files(tmp_path)
    with pytest.raises(SystemExit, match=failed):
        main(run)
    assert _files(tmp_path) == before, "it would diverge again"


@pytest.mark.usefixtures("no_pictures")
def test_a_trial_without_its_network_runs_again_to_save_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _main(tmp_path, "--no-save-networks", "--epochs", "1", variants=["base"])
    assert not [*tmp_path.rglob("*.safetensors")]
    _main(tmp_path, "--epochs", "1", variants=["base"])
    assert "base-seed1 was run with --no-save-networks, and runs again to save its network." in caplog.text
    load_sudoku(tmp_path / TRIALS / "base-seed1")


def test_a_trial_is_followed_epoch_by_epoch_though_it_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of an epoch, and after the last one."""
    monkeypatch.setattr(training, "_STRETCH", 2)
    flags = ["--tracker", "tensorboard", "--track-masks", "--checkpoint-seconds", "0"]
    _main(tmp_path / "one", *flags)
    advance, looks = Training.advance, list[int]()

    def break_off(self: Training, steps: int) -> float:
        if len(looks) == 3:
            raise KeyboardInterrupt
        looks.append(self.progress.steps)
        return advance(self, steps)

    for owner, name, change in (
        (Training, "advance", break_off),
        (training._Course, "test_stepwise", lambda self: signal.raise_signal(signal.SIGINT)),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, change)
            with pytest.raises(SystemExit, match="interrupted"):
                _main(tmp_path / "two", *flags, variants=["lp2"])
    assert looks == [0, 2, 4]
    _main(tmp_path / "two", *flags, variants=["lp2"])
    trials = [folder / TRIALS / "lp2-seed1" for folder in (tmp_path / "one", tmp_path / "two")]
    masks = [{path.name: path.read_bytes() for path in (trial / "masks").iterdir()} for trial in trials]
    assert masks[0].keys() == {f"epoch0000{epoch}.safetensors" for epoch in range(3)}
    assert masks[0] == masks[1]
    runs = logged(tmp_path / "one" / "timm-lp-sudoku")
    assert [*runs] == [(TRIALS / f"{variant}-seed1").as_posix() for variant in ("base", "lp2")]
    base, lp2 = runs.values()
    record = _record(tmp_path / "one", "lp2-seed1")
    for name in ("train_loss", "loss", "blank"):
        assert lp2[name] == [(step, pytest.approx(value)) for step, value in enumerate(record["history"][name])]
    assert lp2["stepwise_blank"] == [(1, pytest.approx(record["metrics"]["stepwise_blank"]))]
    assert [step for step, _ in lp2["mask_p/head"]] == [step for step, _ in lp2["masks"]] == [0, 1]
    assert not {name for name in base if "mask" in name}
    (again,) = logged(tmp_path / "two" / "timm-lp-sudoku").values()
    assert again["loss"][-2:] == lp2["loss"]
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_an_interruption_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "advance", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit, match=r"sudoku: interrupted\. The same command goes on from here\."):
        _main(tmp_path)


@pytest.fixture(scope="module")
def oriented(run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose networks have two masks along columns, and one along rows, in their second layer."""
    folder = shutil.copytree(run[0], tmp_path_factory.mktemp("oriented") / "run")
    for trial in ("lp2-seed1", "lp2-seed2"):
        path = folder / TRIALS / trial / "model.safetensors"
        state = load_file(path)
        shape = (2.0, torch.tensor([5.0, 4.0, 6.0, 1.5]), torch.tensor([88.0, 92.0, 1.0, 90.0]))
        state["blocks.1.conv.C"] = conformation_matrix(*shape).float()
        save_file(state, path)
    return folder


def test_ablates_saved_networks(oriented: Path) -> None:
    text = _main(oriented, "--ablate", "--ablate-draws", "3", "--ablate-puzzles", "4")
    assert "Ablation of 2 networks on 4 test puzzles" in text
    assert f"- {TRIALS.as_posix()}/lp2-seed1: 3 of 8 masks have a gamma above 3 (largest 6.00)" in text
    assert {path.name for path in oriented.iterdir()} >= {f"ablation.{kind}" for kind in ("md", "csv", "json", "png")}
    assert (oriented / "ablation.md").read_text() in text
    with (oriented / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts = {
        kind: [
            int(row["channels"]) for row in rows if (row["layers"], row["ablated"], row["seed"]) == ("1-2", kind, "1")
        ]
        for kind in ("none", "near 90", "near 0", "random")
    }
    assert counts == {
        "none": [0],
        "near 90": [0, *[2] * 9],
        "near 0": [0, *[1] * 9],
        "random": [*[0] * 3, *[2] * 27],
    }
    intact = [float(row["number"]) for row in rows if row["channels"] == "0" and row["seed"] == "1"]
    assert len(intact) > 10
    assert len(set(intact)) == 1
    content = json.loads((oriented / "ablation.json").read_text())
    assert len(content["rows"]) == len(rows)
    assert set(content["thresholds"].values()) == {3.0}


@pytest.mark.usefixtures("no_pictures")
def test_ablates_what_the_network_is_without_the_channels(oriented: Path) -> None:
    _main(oriented, "--ablate", "--ablate-draws", "1")
    rows = json.loads((oriented / "ablation.json").read_text())["rows"]
    (row,) = [
        row
        for row in rows
        if (row["seed"], row["layers"], row["ablated"], row["half_width"]) == (2, "2-2", "near 90", 10)
    ]
    network = load_sudoku(oriented / TRIALS / "lp2-seed2")
    with torch.no_grad():
        network.convs[1].weight[:2] = 0
    test = load_boards(None, 45, 5, seed=0).test
    found = evaluate(network, test, batch_size=5, accelerator=Accelerator(cpu=True))
    assert row["loss"] == pytest.approx(found["loss"], rel=1e-4)
    assert np.isclose(row["number"], 100 * found["number"], atol=1.0)


def test_shows_the_masks_of_saved_networks_seeds_together(oriented: Path) -> None:
    output = _main(oriented, "--masks")
    (group,) = json.loads((oriented / "masks" / "results.json").read_text())["groups"]
    assert (group["name"], len(group["networks"])) == ("lp2", 2)
    assert group["layers"][0]["masks"] == 2 * 4
    with (oriented / "masks" / "masks.csv").open() as file:
        thetas = sorted(float(mask["theta"]) for mask in csv.DictReader(file) if float(mask["gamma"]) > 3)
    assert np.allclose(thetas, sorted(2 * [88.0, 92.0, 1.0]), atol=0.01)
    assert {path.suffix for path in (oriented / "masks").iterdir()} == {".md", ".tex", ".csv", ".json", ".png"}
    assert output.splitlines()[-1].startswith(f"The results are in {oriented / 'masks'}: ")


def test_refuses_to_show_masks_that_are_not_there(run: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(run[0] / TRIALS / "base-seed1", tmp_path / TRIALS / "base-seed1")
    with pytest.raises(SystemExit, match=r"`output_dir` must hold a trial with masks that ended well, got .* without"):
        _main(tmp_path, "--masks")


@pytest.mark.parametrize("variant", ["base", "lp16", "nothing"])
def test_refuses_to_ablate_what_has_no_masks_or_is_not_there(oriented: Path, variant: str) -> None:
    with pytest.raises(SystemExit, match=rf"`ablate_variant` must have masks, and a trial under .*, got '{variant}'"):
        _main(oriented, "--ablate", "--ablate-variant", variant)


def test_refuses_to_ablate_with_other_puzzles(oriented: Path, tmp_path: Path) -> None:
    write_puzzles(tmp_path / "other.csv", generate_puzzles(45, seed=7))
    with pytest.raises(SystemExit, match=r"`data` must be the puzzles of the trials, got others in .*other\.csv"):
        _main(oriented, "--ablate", "--data", str(tmp_path / "other.csv"))


@pytest.mark.usefixtures("no_pictures")
def test_a_folder_with_two_networks_names_those_that_can_be_ablated(oriented: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(oriented, tmp_path / "two")
    _main(folder, "--depth", "1", variants=["lp2"])
    one, other = folder / TRIALS.parent / "sudoku4x1-one-hot", folder / TRIALS
    with pytest.raises(
        SystemExit, match=rf"`output_dir` must hold trials of one network, got {one}, {other}\. Give one"
    ):
        _main(folder, "--ablate")
    _main(folder, "--masks")
    groups = json.loads((folder / "masks" / "results.json").read_text())["groups"]
    assert [(group["name"], len(group["networks"])) for group in groups] == [
        ("sudoku4x1-one-hot/lp2", 1),
        ("sudoku4x2-one-hot/lp2", 2),
    ]
    for given, networks in ((one, 1), (other, 4), (other / "lp2-seed2", 1)):
        found = trained_networks(given)
        assert [network.path.parent for network in found] == [one if given == one else other] * networks
        assert [network.record.variant for network in found] == sorted(network.record.variant for network in found)
    assert "Ablation of 1 network on 2" in _main(one, "--ablate", "--ablate-draws", "1", "--ablate-puzzles", "2")
    assert (one / "ablation.md").is_file()
    assert "| lp2" in _main(other / "lp2-seed2", "--report")
