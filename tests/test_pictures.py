"""The script that draws pictures of the first page."""

from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).parents[1]


def test_the_first_pages_pictures_are_drawn_of_what_the_repository_holds(tmp_path: Path) -> None:
    script = run_path(str(ROOT / ".github" / "pictures.py"))
    for name in ("masks", "costs", "sudoku_costs"):
        script[f"draw_{name}"](tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    learned = script["_learned"]()
    assert [*learned] == ["a row", "a column", "wide"]
    row, column = learned["a row"], learned["a column"]
    assert row[3].min() > 0.5 > row[:, 3].min()
    assert column[:, 3].min() > 0.5 > column[3].min()
