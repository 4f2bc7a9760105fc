"""Files that commands write whole or not at all, digests, JSON that others wrote, and what makes a folder a trial's."""

import errno
import hashlib
import io
import json
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

TRIAL_FILE = "trial.json"
# What numpy raises of a damaged array, or of an archive of arrays.
UNREADABLE = (ValueError, EOFError, OSError, RuntimeError, BadZipFile, TokenError, zlib.error)
PICTURE_WIDTH = 4.6  # inches: text of 10 points, the least of any picture, has 7 in a paper's column or on a phone
PICTURE_LETTERS = 56  # of a line of such text
_PICTURE_DPI = 200

_TRIAL = re.compile(r".+-seed\d+")  # the name of a trial's folder


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is complete or not there, whenever the process ends."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or not there, whenever the process ends."""
    write_bytes(path, text.encode())


def write_figure(path: str | Path, figure: Any) -> None:
    """Write a picture that is complete or not there, whenever the process ends.

    Args:
        path: The file; its ending chooses the format, and `.png` is added where it has none.
        figure: A figure of matplotlib's, `PICTURE_WIDTH` wide.
    """
    path, picture = Path(path), io.BytesIO()
    path = path if path.suffix else path.with_suffix(".png")
    options = {"metadata": {"Software": None}} if path.suffix == ".png" else {}  # the same bytes from any matplotlib
    figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=_PICTURE_DPI, **options)
    write_bytes(path, picture.getbuffer())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is complete or not there, whenever the process or the machine ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with failures_name(path, num_bytes=memoryview(content).nbytes):
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


@contextmanager
def failures_name(path: Path, *kinds: type[Exception], num_bytes: int = 0) -> Iterator[None]:
    """Let an error of the system's name the file that is written, which that of a full disk does not.

    Args:
        path: The file.
        *kinds: Other errors in whose messages the system's number stands.
        num_bytes: Size of the file; 0 if it is not known.

    Raises:
        OSError: In place of what was raised.
    """
    all_kinds: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except all_kinds as error:
        if getattr(error, "filename", None) is not None:
            raise
        said = re.search(r"(?:os error |Os { code: )(\d+)", str(error))  # safetensors', new and old
        number = int(said[1]) if said else getattr(error, "errno", None)
        if number is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(number) if number else str(error)  # numpy's have no number
        room = f"room for {num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else "room"
        advice = f"make {room} there or choose another folder, and run the same command again"
        raise OSError(number or errno.EIO, f"{reason}; {advice}", str(path)) from error


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


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file, in hexadecimal digits."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
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


def check_trial_folder(folder: str | Path, settled: int = 1) -> None:
    """Refuse a trial's folder that lies where another trial's does, as a copy may leave it.

    A folder without a record, or with a name that no trial has, says nothing that could be wrong.

    Args:
        folder: The folder, or the name of a network that is none.
        settled: How many folders of its path a run names: the data set's, the network's, the trial's.

    Raises:
        ValueError: If its record names another folder.
    """
    path = Path(os.path.abspath(str(folder).removeprefix("local-dir:")))
    try:
        recorded = str(json.loads((path / TRIAL_FILE).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # whoever needs the record says what is wrong with it
    names = recorded.split("/")
    settled = min(settled, len(names))
    if _TRIAL.fullmatch(path.name) and [*path.parts[-settled:]] != names[-settled:]:
        raise ValueError(
            f"A trial must lie in the folder of its record, got {path} with the record of {recorded}. Remove that "
            "folder, or give it its own name again."
        )
