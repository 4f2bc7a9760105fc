import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.stats import ttest_rel

from timm_lp.experiments.brain import cli
from timm_lp.experiments.brain.mmv1 import synthetic
from timm_lp.experiments.brain.mmv1.benchmark import run_benchmark
from timm_lp.experiments.brain.mmv1.data import Mouse
from timm_lp.experiments.brain.mmv1.report import by_mouse, to_markdown
from timm_lp.experiments.brain.mmv1.synthetic import SETTINGS, synthetic_mouse
from timm_lp.experiments.brain.mmv1.training import Settings, run_trial

from .test_data import arrays

QUICK = replace(SETTINGS, epochs=2, channels=(2, 2, 2), hidden=4)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def _mouse(number: int = 0) -> Mouse:
    return synthetic_mouse(number, segments=2, train=40, test=60, neurons=3)


def test_a_trial_is_that_of_its_seed(accelerator: Accelerator) -> None:
    one, same, other = (run_trial(_mouse(), "base", seed, QUICK, accelerator) for seed in (0, 0, 1))
    assert one == same
    assert one["losses"] != other["losses"]
    assert len(one["losses"]) == 2
    assert np.isfinite([one["cc"], one["mse"], one["raw_cc"]]).all()


def test_training_ends_after_epochs_without_progress(accelerator: Accelerator) -> None:
    settings = replace(QUICK, epochs=40, patience=2, lr=0.02)
    losses = run_trial(_mouse(), "behaviour", 0, settings, accelerator)["losses"]
    best = int(np.argmin([validation for _, validation in losses]))
    assert len(losses) == min(settings.epochs, best + 1 + settings.patience)


def test_tests_the_weights_that_were_best_in_validation(accelerator: Accelerator) -> None:
    settings = replace(QUICK, epochs=30, patience=3, lr=0.02)
    long = run_trial(_mouse(), "behaviour", 0, settings, accelerator)
    best = int(np.argmin([validation for _, validation in long["losses"]])) + 1
    short = run_trial(_mouse(), "behaviour", 0, replace(settings, epochs=best), accelerator)
    assert [short[name] for name in ("cc", "mse", "raw_cc")] == [long[name] for name in ("cc", "mse", "raw_cc")]


def test_refuses_recordings_that_are_too_short(accelerator: Accelerator) -> None:
    mouse = synthetic_mouse(0, segments=1, train=40, test=5, neurons=3)
    with pytest.raises(ValueError, match="synthetic-0 must have windows of 4 bins, got none for test"):
        run_trial(mouse, "behaviour", 0, QUICK, accelerator)


def test_refuses_a_loss_that_is_no_number(accelerator: Accelerator) -> None:
    with pytest.raises(ValueError, match=r"must stay finite, got a loss of NaN or infinity\. Lower --lr\."):
        run_trial(_mouse(), "behaviour", 0, replace(QUICK, lr=1e30), accelerator)


def test_the_defaults_are_the_published_ones() -> None:
    assert Settings() == Settings(4, 50, 5, 256, 2e-4, 1.0, (128, 64, 32), 512)


def test_a_run_goes_on_where_it_ended(tmp_path: Path, accelerator: Accelerator) -> None:
    def run(mice: list[Mouse], settings: Settings = QUICK) -> list[dict]:
        return run_benchmark(mice, ["behaviour"], [0, 1], settings, accelerator, tmp_path, synthetic=True)

    first = run([_mouse()])
    path = tmp_path / "synthetic-0" / "behaviour" / "seed1.json"
    kept = json.loads(path.read_text())
    assert kept == json.loads(json.dumps(first[1]))
    path.write_text(json.dumps({**kept, "cc": 0.7}))
    both = run([_mouse(), _mouse(1)])
    assert [(r["mouse"], r["seed"]) for r in both] == [(f"synthetic-{m}", s) for m in range(2) for s in range(2)]
    assert both[1]["cc"] == 0.7
    with pytest.raises(ValueError, match=r"must not hold trials with other settings, got .*seed0\.json\. Choose"):
        run([_mouse()], replace(QUICK, lr=0.1))
    with pytest.raises(ValueError, match="must not hold trials with other data_sha256, got"):
        run([replace(_mouse(2), name="synthetic-0")])
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"`--output-dir` must hold trials of this command, got .*seed1\.json"):
        run([_mouse()])
    for name, value in (("cc", float("nan")), ("raw_cc", 1e9), ("mse", -1.0), ("mse", float("inf"))):
        path.write_text(json.dumps({**kept, name: value}))
        with pytest.raises(
            ValueError, match=rf"must hold trials as they were run, got .*seed1\.json with {name} {value}"
        ):
            run([_mouse()])
    path.write_text(json.dumps({**kept, "cc": None}))
    with pytest.raises(ValueError, match=r"`--output-dir` must hold trials of this command, got .*seed1\.json"):
        run([_mouse()])
    path.write_bytes((path.parent / "seed0.json").read_bytes())
    with pytest.raises(ValueError, match=r"must not hold trials with other seed, got .*seed1\.json\. Choose"):
        run([_mouse()])


def test_the_table_pairs_the_mice() -> None:
    cc = {"base": [0.3, 0.5, 0.4], "lp2": [0.36, 0.52, 0.41], "behaviour": [0.1, 0.1, 0.1]}
    results = [
        {"mouse": f"m{n}", "variant": variant, "seed": seed, "synthetic": False, "cc": value + seed / 50}
        | {"mse": 0.1, "raw_cc": value / 2, "parameters": 1}
        for variant, values in cc.items()
        for n, value in enumerate(values)
        for seed in range(2)
    ]
    assert by_mouse(results, "cc")["lp2"] == pytest.approx(np.array(cc["lp2"]) + 0.01)
    text = to_markdown(results, "a source")
    assert "SYNTHETIC" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("| lp2"))
    mice = [line for line in text.splitlines() if line.startswith("| m") and "| lp2" in line]
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:6] == ["0.440 (0.082)", "0.1000 (0.0000)", "0.215 (0.041)", "+0.030"]
    p_values = [ttest_rel(cc[variant], cc["base"]).pvalue for variant in ("lp2", "behaviour")]
    assert cells[6] == f"{max(p_values[0], 2 * p_values[1]):.3f}"
    assert [[cell.strip() for cell in line.split("|")][1:-1] for line in mice] == [
        ["m0", "lp2", "0.370", "0.1000", "0.180"],
        ["m1", "lp2", "0.530", "0.1000", "0.260"],
        ["m2", "lp2", "0.420", "0.1000", "0.205"],
    ]
    without_base = to_markdown([result for result in results if result["variant"] == "lp2"], "a source")
    assert "| -" in without_base


def test_the_command_compares_variants_on_synthetic_mice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(synthetic, "synthetic_mouse", _mouse)
    monkeypatch.setattr(synthetic, "SETTINGS", QUICK)
    cli.main(["mmv1", "--synthetic", "--variants", "base", "lp2", "--epochs", "1", "--output-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "# V1 activity prediction: SYNTHETIC mice, no measurement" in printed
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["mouse"], row["variant"]) for row in rows] == [
        (f"synthetic-{mouse}", variant) for mouse in range(2) for variant in ("behaviour", "base", "lp2")
    ]
    assert all(row["synthetic"] and row["source"] == "made up by timm-lp" for row in rows)
    with (tmp_path / "results.csv").open() as stream:
        assert [float(row["cc"]) for row in csv.DictReader(stream)] == [row["cc"] for row in rows]
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_the_command_reads_a_copy_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for mouse in ("m1", "m2"):
        (tmp_path / "data" / mouse).mkdir(parents=True)
        for split in ("train", "test"):
            for name, array in arrays(vid_mean=rng.random((24, 43, 43))).items():
                np.save(tmp_path / "data" / mouse / f"{split}_{name}_seg_0.npy", array)
    arguments = ["mmv1", "--data", str(tmp_path / "data"), "--variants", "behaviour", "--epochs", "1"]
    cli.main([*arguments, "--mice", "m2", "--output-dir", str(tmp_path / "out")])
    assert "Source: Xu et al. (2024), OSF MSP3A." in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (row["mouse"], row["variant"], row["synthetic"]) == ("m2", "behaviour", False)
    with pytest.raises(SystemExit, match=r"`--data` must hold a folder for each mouse, got .*data without m3\."):
        cli.main([*arguments, "--mice", "m3", "--output-dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either `--data` or `--synthetic` must be given"),
        (["--data", "x", "--synthetic"], "either `--data` or `--synthetic` must be given"),
        (["--synthetic", "--variants", "lp3"], "`--variants` must be of base, behaviour, large, lp2"),
        (["--synthetic", "--epochs", "0"], "`epochs` must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["mmv1", *arguments, "--output-dir", str(tmp_path / "out")])
    said = capsys.readouterr().err if ended.value.code == 2 else str(ended.value.code)
    (line,) = said.strip().splitlines()
    assert re.search(re.escape(message), line), line
    assert not (tmp_path / "out").exists()


def test_neurons_of_synthetic_mice_answer_to_what_was_on_the_bin_before() -> None:
    mouse = synthetic_mouse(3, segments=1, train=2000, neurons=4)
    quarters = mouse.train[0].video[:, [0, 0, -1, -1], [0, -1, 0, -1]].double()
    spikes = mouse.train[0].spikes.double()

    def explained(video: torch.Tensor, counts: torch.Tensor) -> float:
        design = torch.cat([video, torch.ones(len(video), 1, dtype=torch.double)], dim=1)
        fit = design @ torch.linalg.lstsq(design, counts).solution
        return 1 - ((counts - fit) ** 2).sum().item() / ((counts - counts.mean(0)) ** 2).sum().item()

    assert explained(quarters[:-1], spikes[1:]) > explained(quarters[1:], spikes[:-1]) + 0.02
