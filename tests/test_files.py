import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from timm_lp.files import (
    PICTURE_WIDTH,
    failures_name,
    file_digest,
    file_state,
    parse_json,
    write_bytes,
    write_figure,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[1]
FULL = "No space left on device; make room there or choose another folder, and run the same command again: "


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


class Figure:
    """What is drawn, as far as `write_figure` asks."""

    def savefig(self, file: BinaryIO, *, format: str, **options: object) -> None:
        file.write(format.encode())


@pytest.mark.parametrize(
    ("write", "content"),
    [(write_text, "text"), (write_json, [1]), (write_figure, Figure())],
    ids=["text", "JSON", "picture"],
)
def test_a_full_disk_is_said_with_the_file(tmp_path: Path, write: Callable[..., None], content: object) -> None:
    path = tmp_path / "report.png"
    (tmp_path / "report.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"^\[Errno 28\] {FULL}'{path}'$"):
        write(path, content)
    assert not path.exists()
    (tmp_path / "report.partial").unlink()
    write(path, content)
    assert path.stat().st_size


def test_a_full_disk_is_told_how_much_a_large_file_needs(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device; make room for 3\.5 MiB there or choose another"):
        write_bytes(tmp_path / "checkpoint.pt", bytes(7 * 2**19))


class OtherError(Exception):
    """A library's."""


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (OSError("80 requested and 0 written"), OSError, r"^\[Errno 5\] 80 requested and 0 written; make room .*'a'$"),
        (OtherError("I/O error: no space (os error 28)"), OSError, rf"^\[Errno 28\] {FULL}'a'$"),
        (OtherError('IoError(Os { code: 28, message: "no space" })'), OSError, rf"^\[Errno 28\] {FULL}'a'$"),
        (OtherError("a tensor is odd"), OtherError, "^a tensor is odd$"),
        (FileNotFoundError(2, "No such file", "b"), FileNotFoundError, r"^\[Errno 2\] No such file: 'b'$"),
    ],
    ids=["numpy's", "safetensors'", "older safetensors'", "other", "named"],
)
def test_an_error_names_the_file(raised: Exception, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message), failures_name(Path("a"), OtherError):
        raise raised


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


def test_every_picture_can_be_read_in_a_papers_column_and_on_a_phone() -> None:
    """Where it is `PICTURE_WIDTH` wide and has no text below 10 points, which matplotlib takes by itself."""
    sources = {path: path.read_text() for path in (ROOT / "timm_lp").rglob("*.py")}
    drawn = {path: text for path, text in sources.items() if "Figure(figsize" in text}
    assert len(drawn) > 8
    for path, text in drawn.items():
        assert set(re.findall(r"Figure\(figsize=\((\w+),", text)) == {"PICTURE_WIDTH"}, path
        assert min(map(float, re.findall(r"(?:fontsize|labelsize)=([\d.]+)", text)), default=10) >= 10, path
    assert 10 * 3.3 / PICTURE_WIDTH >= 7  # points in a column of 3.3 inches
