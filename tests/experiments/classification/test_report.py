import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from timm_lp.experiments.classification.report import accuracies, read_trials, to_csv, to_markdown, write_report
from timm_lp.files import write_json
from timm_lp.markup import to_latex
from timm_lp.trials.record import as_json

from ...trials.records import RECORDS, changed, record


def test_markdown() -> None:
    text = to_markdown(RECORDS)
    assert text.splitlines()[0] == (
        "resnet18, 16-shot, 3 seeds, 5 epochs from pretrained weights; tested after the last epoch on all test images "
        "(1880 of DTD, 1880 of PETS)"
    )
    tables = text.split("\n\n")
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables[2].splitlines()[2:]] == [
        ["base", "81.00 ± 1.00", "**70.00 ± 1.00**", "75.50", "1", "1,234,567", "7.7", "4.0"],
        ["large", "1 of 1 failed, 1 of 3 seeds", "-", "-", "0", "-", "-", "-"],
        ["lp2", "**90.50 ± 0.71** (1 of 3 failed)", "69.17 ± 1.26", "79.83", "1", "1,234,567", "7.7", "3.5"],
    ]
    assert "Mean of the classes' accuracies" in tables[3]
    assert "+9.50 (p 0.003, paired 0.067)" in text
    assert "Welch's t-test (2 comparisons) and of the t-test paired by seed (2), each after Holm-Bonferroni" in text
    assert "Learning rates, top-1 (%) on held-out images of DTD: 0.01: 52.00, 0.1: 56.00, 1: failed" in text
    assert "Failed: large on DTD, seed 1: the loss became nan in epoch 2 of 5" in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"pretrained": False}, "resnet18, 16-shot, 1 seed, 5 epochs from random weights;"),
        ({"checkpoint": "out/base.pth"}, "resnet18, 16-shot, 1 seed, 5 epochs from the weights in base.pth;"),
        ({"model_kwargs": {"layers": [1, 2], "in_chans": 1}}, "resnet18(layers=[1, 2], in_chans=1), 16-shot,"),
    ],
)
def test_the_first_line_tells_the_network(settings: dict[str, Any], start: str) -> None:
    assert to_markdown([changed(record("base", 1, 50.0), **settings)]).startswith(start)


def test_one_data_set_has_no_average() -> None:
    text = to_markdown([record("base", 1, 50.0), record("lp2", 1, 51.0)])
    assert "average" not in text
    assert "| base    |     50.00 |    0 |" in text
    assert "Welch" not in text


def test_nothing_that_worked_is_said() -> None:
    text = to_markdown([record("base", 1, None, error="the loss became nan")])
    assert "(none yet)" in text
    assert "1 of 1 failed" in text


def test_csv() -> None:
    lines = to_csv(RECORDS).splitlines()
    assert lines[0] == "dataset,model,variant,seed,top1,mean_per_class,train_top1,error,parameters,macs,train_seconds"
    assert lines[1] == "org/dtd,resnet18,base,1,80.0,79.0,,,1234567,7654321,2.0"
    assert len(lines) == 1 + sum(not trial.held_out for trial in RECORDS)


def test_accuracy_that_was_followed_has_a_column_and_a_picture(tmp_path: Path) -> None:
    trials = [
        replace(own, metrics={**own.metrics, "train_top1": own.metrics["top1"] + 9}, history={"loss": [2.0, 1.0]})
        for own in RECORDS
        if own.metrics and own.data_folder == "dtd" and not own.held_out
    ]
    trials = [replace(own, history={**own.history, "top1": [9.0, 80.0]}) for own in trials]
    head, _, *rows = to_markdown(trials).split("\n\n")[2].splitlines()
    assert [row.split("|")[-2].strip() for row in (head, *rows)] == ["training images (%)", "90.00", "99.50"]
    other = record("base", 1, 70.0, model="resnet34")
    by_network = to_markdown([*trials, other]).split("Top-1 accuracy on the training images (%), mean over seeds")[1]
    assert "| base    |    90.00 |        - |" in by_network
    assert "training images (%)" not in to_markdown(RECORDS)
    for own in trials:
        (tmp_path / own.folder).mkdir(parents=True)
    in_part = replace(record("base", 1, 70.0, model="resnet50"), history={"loss": [2.0, 1.0], "top1": [70.0]})
    write_report(tmp_path, [*trials, other, in_part, record("large", 1, None, error="no memory")])
    (picture,) = tmp_path.glob("*/*/curves.png")
    assert picture.parent == tmp_path / "dtd" / "resnet18"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_networks_may_differ_in_what_they_drop(tmp_path: Path) -> None:
    one, other = (
        changed(record("base", 1, 70.0, model=model), drop_rate=rate) for model, rate in (("a", 0.5), ("b", None))
    )
    for own in (one, other):
        write_json(tmp_path / own.folder / "trial.json", as_json(own))
    assert len(read_trials(tmp_path)) == 2
    again = changed(record("base", 2, 70.0, model="a"), drop_rate=0.1)
    write_json(tmp_path / again.folder / "trial.json", as_json(again))
    with pytest.raises(ValueError, match="drop_rate"):
        read_trials(tmp_path)


def test_data_sets_may_differ_in_what_is_kept_for_the_test(tmp_path: Path) -> None:
    parted = changed(record("base", 1, 50.0, "mine"), test_share=0.3)
    for trial in (parted, record("base", 1, 60.0, "dtd")):
        write_json(tmp_path / trial.folder / "trial.json", as_json(trial))
    assert len(read_trials(tmp_path)) == 2


def test_a_sweep_has_a_report_before_anything_is_tested(tmp_path: Path) -> None:
    write_report(tmp_path, [record("base", 1, 50.0, held_out=True, lr=lr) for lr in (0.1, 0.2)])
    assert "Learning rates, top-1 (%) on held-out images of DTD: 0.1: 50.00" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "report.png").exists()


def test_costs_of_data_sets_with_other_numbers_of_classes() -> None:
    trials = [replace(record("base", 1, 50.0, data), parameters=size) for data, size in (("dtd", 1010), ("pets", 1000))]
    assert "| 1,000 to 1,010 |" in to_markdown(trials)


def test_files(tmp_path: Path) -> None:
    write_report(tmp_path, RECORDS)
    text = to_markdown(RECORDS)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text + "\n"
    assert (tmp_path / "report.tex").read_text(encoding="utf-8") == to_latex(text)
    assert (tmp_path / "report.csv").read_text(encoding="utf-8") == to_csv(RECORDS)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_no_plot_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_report(tmp_path, RECORDS)
    assert "No pictures: matplotlib is not installed" in caplog.text
    assert not (tmp_path / "report.png").exists()


def test_presets_stand_in_the_papers_order_and_before_others() -> None:
    names = ["pets", "a-folder", "dtd", "flowers102", "cifar100"]
    table = accuracies([record("base", 1, 50.0, name) for name in names])
    assert list(table.columns.values()) == ["FLOWERS102", "DTD", "PETS", "CIFAR100", "A-FOLDER"]


def test_both_metrics() -> None:
    assert accuracies(RECORDS).mean("base", "dtd/resnet18") == 81.0
    assert accuracies(RECORDS, "mean_per_class").mean("base", "dtd/resnet18") == 80.0


NETWORKS = [
    record(variant, seed, top1 + seed + (variant == "lp2") * (1 + seed / 10), dataset, model)
    for dataset in ("pets", "dtd")
    for model, top1 in (("resnet18", 50.0), ("alexnet", 60.0))
    for variant in ("base", "lp2")
    for seed in (1, 2)
]


def _cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


def test_several_networks_on_one_data_set_are_the_columns() -> None:
    text = to_markdown([trial for trial in NETWORKS if trial.data_folder == "dtd"])
    assert text.startswith("resnet18, alexnet, 16-shot, 2 seeds")
    tables = text.split("\n\n")
    assert tables[1] == "Top-1 accuracy (%), mean ± standard deviation over seeds"
    assert _cells(tables[2])[0] == ["variant", "resnet18", "alexnet", "average", "wins"]
    assert _cells(tables[2])[2] == ["base", "51.50 ± 0.71", "61.50 ± 0.71", "56.50", "0"]
    assert _cells(tables[4]) == [
        ["variant", "resnet18", "alexnet"],
        ["-------", "--------:", "--------:"],
        ["base", "1,234,567", "1,234,567"],
        ["lp2", "1,234,567", "1,234,567"],
    ]
    assert _cells(tables[6])[2] == ["base", "7.7", "7.7"]
    assert _cells(tables[8])[2] == ["base", "3.0", "3.0"]


def test_several_networks_on_several_data_sets_are_a_table_each() -> None:
    text = to_markdown(NETWORKS)
    assert "(1880 of DTD, 1880 of PETS)" in text.splitlines()[0]
    for name in ("DTD", "PETS"):
        assert f"Top-1 accuracy (%) on {name}, mean ± standard deviation over seeds" in text
        assert f"Top-1 minus base on {name} (points); p of Welch's t-test (4 comparisons) and of the t-test" in text
    assert text.index("(%) on DTD") < text.index("(%) on PETS")
    assert _cells(text.split("\n\n")[2])[3] == ["lp2", "**52.65 ± 0.78**", "**62.65 ± 0.78**", "57.65", "2"]


def test_failures_say_their_network() -> None:
    failed = record("lp2", 3, None, "dtd", "alexnet", error="the loss became nan")
    assert "Failed: lp2 on DTD, alexnet, seed 3: the loss became nan" in to_markdown([*NETWORKS, failed])


def test_rates_say_their_network() -> None:
    tried = [record("base", 1, 40.0, "dtd", model, held_out=True) for model in ("resnet18", "alexnet")]
    assert "on held-out images of DTD, alexnet: 0.1: 40.00" in to_markdown([*NETWORKS, *tried])


def test_a_plot_of_many_columns(tmp_path: Path) -> None:
    many = [record("base", 1, 50.0, f"set{number}") for number in range(7)]
    write_report(tmp_path, many)
    assert (tmp_path / "report.png").stat().st_size > 10_000
