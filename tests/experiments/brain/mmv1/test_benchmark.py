import csv
import json
import re
from dataclasses import asdict, replace
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
from timm_lp.experiments.brain.mmv1.report import by_mouse, plot, result_rows, to_markdown
from timm_lp.experiments.brain.mmv1.synthetic import synthetic_mouse
from timm_lp.experiments.brain.mmv1.training import Settings
from timm_lp.trials.folder import read_records
from timm_lp.trials.record import TrialRecord

from ....trials.records import record
from .mice import QUICK, small_mouse
from .test_data import arrays


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    def run(mice: list[Mouse], settings: Settings = QUICK) -> list[TrialRecord]:
        command, accelerator = "timm-lp brain mmv1 --synthetic", Accelerator(cpu=True)
        return run_benchmark(
            mice, ["behaviour"], [0, 1], settings, accelerator, tmp_path, synthetic=True, command=command
        )

    first = run([small_mouse()])
    path = tmp_path / "synthetic-0" / "mmv1" / "behaviour-seed1" / "trial.json"
    kept = json.loads(path.read_text())
    assert kept["metrics"] == first[1].metrics
    assert kept["settings"] == json.loads(json.dumps({**asdict(QUICK), "synthetic": True}))
    assert kept["command"].endswith("--synthetic --variants behaviour --seeds 1 --frames 4 --epochs 2 --batch-size 32 "
        "--lr 0.003")  # fmt: skip
    assert [len(kept["history"][name]) for name in ("train_loss", "loss")] == [2, 2]
    path.write_text(json.dumps({**kept, "metrics": {**kept["metrics"], "cc": -0.7}}))
    both = run([small_mouse(), small_mouse(1)])
    assert [r.folder for r in both] == [f"synthetic-{m}/mmv1/behaviour-seed{s}" for m in range(2) for s in range(2)]
    assert both[1].metrics["cc"] == -0.7
    with pytest.raises(ValueError, match=r"must not hold trials with other settings, .*: lr 0\.003 instead of 0\.1"):
        run([small_mouse()], replace(QUICK, lr=0.1))
    with pytest.raises(ValueError, match="the contents of the data set differ"):
        run([replace(small_mouse(2), name="synthetic-0")])


def test_a_trial_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    earlier = tmp_path / "synthetic-0" / "behaviour" / "seed0.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    with pytest.raises(ValueError, match=rf"must hold trials of this version of timm-lp, got {earlier} of an earlier"):
        run_benchmark(
            [small_mouse()], ["behaviour"], [0], QUICK, Accelerator(cpu=True), tmp_path, synthetic=True, command=""
        )


def _record(mouse: str, variant: str, seed: int, cc: float | None) -> TrialRecord:
    failed = {"metrics": None, "error": "the loss became nan"}
    ended_well = {"metrics": {"cc": cc, "mse": 0.1, "raw_cc": (cc or 0) / 2 - seed / 100}, "parameters": 1}
    trial = record(variant, seed, None, dataset=mouse, model="mmv1")
    name = replace(trial.dataset, name=mouse)
    return replace(trial, dataset=name, settings={"synthetic": False}, **(failed if cc is None else ended_well))


def test_the_table_pairs_the_mice() -> None:
    cc = {"base": [0.3, 0.5, 0.4], "lp2": [0.36, 0.52, 0.41], "behaviour": [0.1, 0.1, 0.1]}
    records = [
        _record(f"m{n}", variant, seed, value + seed / 50)
        for variant, values in cc.items()
        for n, value in enumerate(values)
        for seed in range(2)
    ]
    assert by_mouse(records, "cc")["lp2"] == pytest.approx(np.array(cc["lp2"]) + 0.01)
    text = to_markdown(records, "a source")
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
    without_base = to_markdown([trial for trial in records if trial.variant == "lp2"], "a source")
    assert "| -" in without_base


def test_a_failed_trial_leaves_the_others_their_means(tmp_path: Path) -> None:
    cc = {("m0", "base"): 0.3, ("m1", "base"): 0.5, ("m0", "lp2"): 0.4, ("m1", "lp2"): None, ("m0", "lp4"): None}
    records = [_record(*place, 0, value) for place, value in cc.items()]
    text = to_markdown(records, "a source")
    table = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and "| m" not in line]
    rows = {name.strip(): [cell.strip() for cell in cells] for name, *cells in table}
    assert rows["base"][0] == "0.400 (0.141)"
    assert rows["lp2"][0] == "0.400"
    assert rows["lp2"][3:] == ["+0.100", "-"]
    assert rows["lp4"] == ["-"] * 5
    failed = [f"Failed: {trial}, seed 0: the loss became nan" for trial in ("lp2 on m1", "lp4 on m0")]
    assert text.splitlines()[-2:] == failed
    assert result_rows(records, "a source")[3]["cc"] is None
    plot(records, tmp_path / "plot.png")


def test_the_command_compares_variants_on_synthetic_mice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(synthetic, "synthetic_mouse", small_mouse)
    monkeypatch.setattr(synthetic, "SETTINGS", QUICK)
    run = ["mmv1", "--synthetic", "--variants", "base", "lp2", "--epochs", "1", "--output-dir", str(tmp_path)]
    cli.main(run)
    printed = capsys.readouterr().out
    assert "# V1 activity prediction: SYNTHETIC mice, no measurement" in printed
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["mouse"], row["variant"]) for row in rows] == [
        (f"synthetic-{mouse}", variant) for mouse in range(2) for variant in ("behaviour", "base", "lp2")
    ]
    assert all(row["synthetic"] and row["source"] == "made up by timm-lp" for row in rows)
    with pytest.raises(SystemExit, match=r"6 of 6 trials failed: synthetic-0/mmv1/behaviour-seed0, .* and 1 more"):
        cli.main([*run[:-1], str(tmp_path / "diverged"), "--lr", "1e30"])
    assert "Failed: base on synthetic-0, seed 0: the loss of the validation became" in capsys.readouterr().out
    with (tmp_path / "results.csv").open() as stream:
        assert [float(row["cc"]) for row in csv.DictReader(stream)] == [row["cc"] for row in rows]
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_the_command_reads_a_copy_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for mouse in ("m1", "m 2"):
        (tmp_path / "data" / mouse).mkdir(parents=True)
        for split in ("train", "test"):
            for name, array in arrays(vid_mean=rng.random((24, 43, 43))).items():
                np.save(tmp_path / "data" / mouse / f"{split}_{name}_seg_0.npy", array)
    arguments = ["mmv1", "--data", str(tmp_path / "data"), "--variants", "behaviour", "--epochs", "1"]
    cli.main([*arguments, "--mice", "m 2", "--output-dir", str(tmp_path / "out")])
    assert "Source: Xu et al. (2024), OSF MSP3A." in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (row["mouse"], row["variant"], row["synthetic"]) == ("m 2", "behaviour", False)
    (record,) = read_records(tmp_path / "out").values()
    assert "--mice 'm 2' --variants behaviour" in record.command
    (tmp_path / "data" / "m1" / "train_phi_seg_0.npy").unlink()
    with pytest.raises(SystemExit, match=r"`--data` must hold all arrays .*m1 without train_phi_seg_0\.npy"):
        cli.main([*arguments, "--output-dir", str(tmp_path / "both")])
    assert not (tmp_path / "both").exists(), "before the first mouse is read"
    with pytest.raises(SystemExit, match=r"`--data` must hold a folder for each mouse, got .*data without m3\."):
        cli.main([*arguments, "--mice", "m3", "--output-dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either `--data` or `--synthetic` must be given"),
        (["--data", "x", "--synthetic"], "either `--data` or `--synthetic` must be given"),
        (["--synthetic", "--variants", "lp3"], "`--variants` must be of base, behaviour, large, lp2"),
        (["--synthetic", "--epochs", "0"], "`epochs` must be at least 1, got 0"),
        (["--synthetic", "--seeds", "0", "0", "1"], "`seeds` must name at least one, and none twice, got [0, 0, 1]"),
        (["--synthetic", "--seeds", "-1"], "`seeds` must be between 0 and"),
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
