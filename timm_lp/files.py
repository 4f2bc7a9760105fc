"""Files that commands write whole or not at all, files' digests, and JSON that others wrote."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is complete or not there, whenever the process ends."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or not there, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def parse_json(text: str | bytes) -> Any:
    """Return the content of JSON, in which each number is finite: Python's own reader takes `NaN` and `1e999` too.

    Raises:
        ValueError: If it is no JSON.
    """
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that JSON or a float can hold")
    return number


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def file_state(path: str | Path) -> str:
    """Return what changes with a file's contents, without a look at them: size, times and place on the disk.

    A copy or a file that was put in its place differs in it, whatever its modification time says.
    """
    state = os.stat(path)
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
