import sys
from pathlib import Path
from typing import Any

import pytest

from timm_lp.fewshot.report import to_csv, to_markdown, write_report

from .results import RESULTS, result


def test_markdown() -> None:
    text = to_markdown(RESULTS)
    assert text.splitlines()[0] == (
        "resnet18, 16-shot, 3 seeds, 5 epochs from pretrained weights; tested after the last epoch on all test images "
        "(1880 of DTD, 1880 of PETS)"
    )
    tables = text.split("\n\n")
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables[2].splitlines()[2:]] == [
        ["base", "81.00 ± 1.00", "**70.00 ± 1.00**", "75.50", "1", "1,234,567", "4.0"],
        ["large", "1 of 1 failed, 1 of 3 seeds", "-", "-", "0", "-", "-"],
        ["lp2", "**90.50 ± 0.71** (1 of 3 failed)", "69.17 ± 1.26", "79.83", "1", "1,234,567", "3.5"],
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
    trial = result("base", 1, 50.0)
    trial["settings"] |= settings
    assert to_markdown([trial]).startswith(start)


def test_one_data_set_has_no_average() -> None:
    text = to_markdown([result("base", 1, 50.0), result("lp2", 1, 51.0)])
    assert "average" not in text
    assert "| base    |     50.00 |    0 |" in text
    assert "Welch" not in text


def test_nothing_that_worked_is_said() -> None:
    text = to_markdown([result("base", 1, None, error="the loss became nan")])
    assert "(none yet)" in text
    assert "1 of 1 failed" in text


def test_csv() -> None:
    lines = to_csv(RESULTS).splitlines()
    assert lines[0] == "dataset,variant,seed,top1,mean_per_class,error,parameters,train_seconds"
    assert lines[1] == "org/dtd,base,1,80.0,79.0,,1234567,2.0"
    assert len(lines) == 1 + sum(not trial["held_out"] for trial in RESULTS)


def test_files(tmp_path: Path) -> None:
    text = write_report(tmp_path, RESULTS)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text + "\n"
    assert (tmp_path / "report.csv").read_text(encoding="utf-8") == to_csv(RESULTS)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_no_plot_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_report(tmp_path, RESULTS)
    assert "No plot: matplotlib is not installed" in caplog.text
    assert not (tmp_path / "report.png").exists()
