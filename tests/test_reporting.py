import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest

from timm_lp.markup import to_latex
from timm_lp.reporting import (
    counted,
    csv_text,
    interval,
    line_styles,
    markdown_rows,
    mean_and_std,
    number,
    p_value,
    variant_style,
    write_page,
)

PAGE = "# Digits\n\n| a  |  b |\n| -- | -: |\n| c  |  1 |"


def test_markdown_rows() -> None:
    assert markdown_rows(["name", "x"], [["a", "1.0"], ["longer", "10.25"]]).splitlines() == [
        "| name   |     x |",
        "| ------ | ----: |",
        "| a      |   1.0 |",
        "| longer | 10.25 |",
    ]


def test_columns_of_text_and_narrow_columns() -> None:
    assert markdown_rows(["name", "what", "p"], [["a", "long text", "2"]], left=2).splitlines() == [
        "| name | what      |  p |",
        "| ---- | --------- | -: |",
        "| a    | long text |  2 |",
    ]


def test_numbers_as_text() -> None:
    assert [number(None, ".2f"), number(1.5, ".2f"), number(1234, ",")] == ["-", "1.50", "1,234"]
    assert [number(value, ".2f") for value in (-0.004, -0.006, -10, -math.inf)] == ["0.00", "-0.01", "-10.00", "-inf"]
    assert interval(-0.0001, 0.25, ".2f") == "0.00 to 0.25"
    assert mean_and_std([1.0]) == "1.00"
    assert mean_and_std([1.0, 2.0, 3.0], ".1f", "+") == "+2.0 ± 1.0"
    assert [p_value(p) for p in (None, 0.0004, 0.001, 0.0499)] == ["-", "< 0.001", "0.001", "0.050"]
    assert [counted(count, "seed") for count in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_csv_takes_mappings_and_sequences() -> None:
    assert csv_text(("a", "b"), [{"b": 1, "a": None, "c": 3}, ["x, y", 2.5]]) == 'a,b\n,1\n"x, y",2.5\n'


def test_a_variant_has_one_colour_and_its_other_form_is_dashed() -> None:
    assert variant_style("lp2")["color"] == variant_style("lp2-paper")["color"] != variant_style("large")["color"]
    assert [variant_style(name)["linestyle"] for name in ("lp2", "lp2-paper", "unknown")] == ["-", "--", "-"]
    variants = ["lp2", "lp2@a", "lp2@a-b", "large@a"]
    styles = line_styles(variants)
    assert [*styles] == variants
    assert {styles[name]["color"] for name in variants[:3]} == {variant_style("lp2")["color"]}
    assert len({str(styles[name]["linestyle"]) for name in variants[:3]}) == 3, "parts are told apart"
    assert styles["large@a"]["color"] == variant_style("large")["color"]


def test_a_page_is_written_with_all_its_files(tmp_path: Path) -> None:
    line = write_page(
        tmp_path / "out",
        "report",
        PAGE,
        tables={"report.csv": "a\n1\n"},
        data={"results.json": [1]},
        pictures={"of/curves.png": lambda path: path.write_bytes(b"png")},
    )
    names = "report.md, report.tex, report.csv, results.json, of/curves.png"
    assert line == f"The results are in {tmp_path / 'out'}: {names}"
    assert (tmp_path / "out/report.md").read_text() == PAGE + "\n"
    assert (tmp_path / "out/report.tex").read_text() == to_latex(PAGE)
    assert (tmp_path / "out/report.csv").read_text() == "a\n1\n"
    assert json.loads((tmp_path / "out/results.json").read_text()) == [1]
    assert (tmp_path / "out/of/curves.png").read_bytes() == b"png"
    assert len([*(tmp_path / "out").iterdir()]) == 5


def test_a_page_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    write_page(tmp_path, "report", "before")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_page(tmp_path, "report", "after", pictures={"report.png": fail})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "report.tex"]
    assert (tmp_path / "report.md").read_text() == "before\n"


def test_a_failure_names_the_file_in_the_folder(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/of/report.png'"):
        write_page(tmp_path, "report", "text", pictures={"of/report.png": fail})


def test_without_matplotlib_there_are_no_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.png").write_bytes(b"an earlier run's")

    def draw(path: Path) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib.figure")

    with caplog.at_level(logging.WARNING):
        line = write_page(tmp_path, "report", "text", pictures={"report.png": draw})
    assert line == f"The results are in {tmp_path}: report.md, report.tex"
    assert "pip install matplotlib" in caplog.text
    assert not (tmp_path / "report.png").exists()


def test_another_missing_package_is_not_taken_for_matplotlib(tmp_path: Path) -> None:
    def draw(path: Path) -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    with pytest.raises(ModuleNotFoundError, match="numpy"):
        write_page(tmp_path, "report", "text", pictures={"report.png": draw})


def test_needs_the_standard_library_only() -> None:
    check = "import sys, timm_lp.reporting; print({'torch', 'numpy', 'matplotlib'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
