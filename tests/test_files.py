import hashlib
import json
import os
from pathlib import Path

import pytest

from timm_lp.files import file_digest, file_state, parse_json, write_json


def test_a_json_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
def test_a_number_that_json_does_not_have_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=f"{number} is no number that JSON or a float can hold"):
        parse_json(f'{{"a": [{number}]}}')


def test_what_json_has_is_read() -> None:
    content = {"a": [1, -2.5e-300, 1e308, True, None, "NaN"]}
    assert parse_json(json.dumps(content)) == parse_json(json.dumps(content).encode()) == content


@pytest.mark.parametrize("size", [0, 2**20, 2**20 + 1])
def test_a_files_digest_is_its_contents(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"7" * size)
    assert file_digest(path) == hashlib.sha256(b"7" * size).hexdigest()


def test_a_files_state_tells_another_file_in_its_place(tmp_path: Path) -> None:
    """Of the same size and time."""
    path, other = tmp_path / "weights", tmp_path / "other"
    path.write_bytes(b"7")
    other.write_bytes(b"8")
    for file in (path, other):
        os.utime(file, (1e9, 1e9))
    before = file_state(path)
    assert file_state(str(path)) == before
    os.replace(other, path)
    assert file_state(path) != before
