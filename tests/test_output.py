import json
from pathlib import Path

import pytest

from timm_lp.output import markdown_rows, write_json


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


def test_a_json_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
