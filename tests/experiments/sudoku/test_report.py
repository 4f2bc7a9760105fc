import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from timm_lp.experiments.sudoku.report import (
    curves_to_csv,
    draw_curves,
    measures,
    networks,
    read_trials,
    title,
    to_csv,
    to_markdown,
    write_report,
)
from timm_lp.trials.record import TrialRecord, as_json

from .records import MEASURES, RECORDS, record


def _write(root: Path, *records: TrialRecord) -> None:
    for trial in records:
        (root / trial.folder).mkdir(parents=True)
        (root / trial.folder / "trial.json").write_text(json.dumps(as_json(trial)))


def _rows(text: str, table: int) -> dict[str, list[str]]:
    """Return the cells of a Markdown table by its first column."""
    lines = [part for part in text.split("\n\n") if part.startswith("|")][table].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "---" not in line]
    return {row[0]: row[1:] for row in cells}


def test_the_rows_are_variants_and_the_columns_measures() -> None:
    rows = _rows(to_markdown(RECORDS), 0)
    assert list(rows) == ["variant", "base", "large", "lp2"]
    assert rows["variant"] == [*MEASURES, "loss", "parameters", "training (s)"]
    assert rows["base"][5] == "31.00 ± 1.41"
    assert rows["lp2"][5:] == ["**42.00 ± 2.83**", "**49.00 ± 3.30**", "2.000", "1,234", "30.0"]
    assert rows["large"][0] == "1 of 1 failed, 1 of 2 seeds"
    assert rows["large"][-3:] == ["-", "-", "-"]


def test_puzzles_filled_one_cell_at_a_time_have_their_own_table() -> None:
    text = to_markdown(RECORDS)
    assert "Filled one cell at a time, the surest first: 7 of the test puzzles" in text
    assert _rows(text, 1)["base"][5] == "32.00 ± 1.41"
    without = [
        replace(own, metrics={k: v for k, v in (own.metrics or {}).items() if "step" not in k}) for own in RECORDS
    ]
    assert "one cell at a time" not in to_markdown(without[:4])


def test_the_tests_are_against_base_and_corrected() -> None:
    text = to_markdown(RECORDS)
    assert "p of Welch's t-test (4 comparisons) and of the t-test paired by seed (4)" in text
    rows = _rows(text, 2)
    assert list(rows) == ["variant", "large", "lp2"]
    assert rows["variant"] == ["row", "column", "box", "blank"]
    assert rows["lp2"][3].startswith("+11.00 (p 0.")
    cell = measures(RECORDS, {"blank": "blank"}).cells["lp2", "blank"]
    assert cell.p_value is not None


def test_one_seed_has_no_tests() -> None:
    assert "Welch" not in to_markdown([own for own in RECORDS if own.seed == 1])


def test_what_failed_is_said_once() -> None:
    text = to_markdown(RECORDS)
    assert text.count("Failed") == 1
    assert text.endswith("Failed: large, seed 1: the loss became nan after 500 of 2,000 puzzles")


def test_the_title_says_what_was_run() -> None:
    assert title(RECORDS) == (
        "8 channels x 3 layers, one-hot input, 2 seeds, 2,000 puzzles seen (900 generated), 100 others to test with"
    )
    assert "1 seed, no puzzles seen" in title(RECORDS[-1:])


def test_each_network_has_its_tables() -> None:
    other = record("base", 1, 10.0, model="sudoku16x3-scalar")
    assert [len(group) for group in networks([*RECORDS, other])] == [5, 1]
    assert to_markdown([*RECORDS, other]) == f"{to_markdown(RECORDS)}\n\n{to_markdown([other])}"


def test_every_trial_and_every_epoch_has_a_line() -> None:
    trials = list(csv.DictReader(io.StringIO(to_csv(RECORDS))))
    assert [(row["variant"], row["seed"]) for row in trials] == [(own.variant, str(own.seed)) for own in RECORDS]
    assert float(trials[0]["blank"]) == 40.0
    assert float(trials[0]["stepwise_blank"]) == 41.0
    assert (trials[-1]["blank"], trials[-1]["error"]) == ("", "the loss became nan after 500 of 2,000 puzzles")
    epochs = list(csv.DictReader(io.StringIO(curves_to_csv(RECORDS))))
    assert [float(row["puzzles"]) for row in epochs] == [1000.0, 2000.0] * 4
    assert float(epochs[1]["blank"]) == 40.0


def test_reads_the_trials_of_several_networks(tmp_path: Path) -> None:
    other = record("base", 1, 10.0, model="sudoku16x3-scalar")
    other = replace(other, settings={**other.settings, "channels": 16, "lr": 0.2})
    _write(tmp_path, *RECORDS, other)
    assert sorted(own.folder for own in read_trials(tmp_path)) == sorted(own.folder for own in [*RECORDS, other])


def test_refuses_trials_of_one_network_with_other_settings(tmp_path: Path) -> None:
    other = replace(record("lp16", 1, 10.0), settings={**RECORDS[0].settings, "lr": 0.2})
    _write(tmp_path, *RECORDS, other)
    with pytest.raises(ValueError, match=r"with another generated, sudoku8x3-one-hot: lr"):
        read_trials(tmp_path)


def test_writes_tables_and_a_picture_for_each_network(tmp_path: Path) -> None:
    other = record("base", 1, 10.0, model="sudoku16x3-scalar")
    write_report(tmp_path, [*RECORDS, other], "the command")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.md", "report.tex", "report.csv", "curves.csv", "results.json", "curves.png", "curves-2.png"),
        *("report.png", "report-2.png"),
    }
    assert (tmp_path / "report.md").read_text() == to_markdown([*RECORDS, other]) + "\n"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["recipe"]["command"] == "the command"
    blank = {entry["variant"]: entry["metrics"]["blank"] for entry in results["results"][:2]}
    assert blank == {"lp2": {"1": 40.0, "2": 44.0}, "base": {"1": 30.0, "2": 32.0}}


def test_draws_what_there_is(tmp_path: Path) -> None:
    for name, records in (("all", RECORDS), ("failed", RECORDS[-1:])):
        draw_curves(records, tmp_path / f"{name}.png", "title")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (920, 680)
