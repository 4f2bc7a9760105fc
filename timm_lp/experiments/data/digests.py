"""Digests of images' contents, kept between runs so that each image is read once for them."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from huggingface_hub import cached_assets_path, constants
from tqdm import tqdm

from ...files import file_digest, file_state, write_text

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_CHUNK = 256
_SETTLED_NS = 2 * 10**9  # a younger file may be written again with the same time, by a file system's clock

NO_IMAGE = bytes(32)  # in place of the digest of an image that cannot be read


class StoredColumn(Sequence[Any]):
    """Reads a column's rows as they are stored, in a fraction of the time that `datasets` takes for a row.

    Args:
        column: The Arrow column.
        name: Its name.
        files: The files that hold its rows, empty where they are in memory.
    """

    def __init__(self, column: Any, name: str, files: Sequence[str]) -> None:
        self._column, self.name, self.files = column, name, files

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


class DigestCache:
    """The digests of a data set's files on this machine, each with the state in which its file was read.

    They lie in a file in huggingface_hub's folder of assets. If it is lost, damaged or cannot be written, the images
    are read again.

    Args:
        location: Folder or file of the data set; None to keep nothing.
    """

    def __init__(self, location: Path | None) -> None:
        self._location = location
        self._earlier: dict[str, tuple[str, str]] = self._read()
        self._new: dict[str, tuple[str, str]] = {}

    def get(self, key: str, state: str) -> bytes | None:
        """Return the digests of a file in this state; None if they were not kept."""
        then, digests = self._earlier.get(key, ("", ""))
        return bytes.fromhex(digests) if then == state else None

    def put(self, key: str, state: str, digests: bytes) -> None:
        """Note the digests of a file in this state."""
        self._new[key] = state, digests.hex()

    def save(self) -> None:
        """Write the new digests, or log why they cannot be written."""
        if not self._new or self._location is None:
            return
        text = json.dumps({**self._earlier, **self._new})
        try:
            write_text(self._path(self._location), f"{_sha256(text)}\n{text}")
        except (OSError, ValueError) as error:  # huggingface_hub raises a ValueError if its folder is a file
            _logger.warning("The next run reads all images again: their digests cannot be kept: %s", error)

    def _read(self) -> dict[str, tuple[str, str]]:
        if self._location is None:
            return {}
        try:
            checksum, _, text = self._path(self._location).read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        return json.loads(text) if checksum == _sha256(text) else {}

    @staticmethod
    def _path(location: Path) -> Path:
        folder = cached_assets_path("timm-lp", "data", "digests", assets_dir=constants.HF_ASSETS_CACHE)
        return folder / f"{location.name}-{hashlib.sha256(os.fsencode(location)).hexdigest()[:16]}.json"


def image_digests(sources: Sequence[Any], indices: Sequence[int], cache: DigestCache, name: str) -> list[bytes]:
    """Return the sha256 of the contents of images, as they are stored.

    Args:
        sources: Each image: a path, an array, or `datasets`' dictionary with `bytes` and `path`.
        indices: The images, by their index in `sources`.
        cache: The digests that are kept.
        name: Name of the data set in the progress bar.

    Returns:
        32 bytes for each image; `NO_IMAGE` for one that cannot be read.
    """
    if isinstance(sources, StoredColumn):
        return _column_digests(sources, indices, cache, name)
    return _on_threads(lambda index: _source_digest(sources[index], cache), indices, name)


def _column_digests(column: StoredColumn, indices: Sequence[int], cache: DigestCache, name: str) -> list[bytes]:
    """Return the digests of a column's rows, which are kept together."""
    chosen = hashlib.sha256(np.asarray(indices, dtype=np.int64).tobytes()).hexdigest()
    key = json.dumps([column.name, [Path(file).name for file in column.files], chosen])
    state = ", ".join(file_state(file) for file in column.files)
    kept = cache.get(key, state) if state else None
    if kept is not None:
        return [kept[start : start + 32] for start in range(0, len(kept), 32)]
    digests = _on_threads(lambda index: _digest(column[index]), indices, name)
    if state:
        cache.put(key, state, b"".join(digests))
    return digests


def _source_digest(source: Any, cache: DigestCache) -> bytes:
    """Return the digest of an image; its file is read only if its state changed."""
    if not isinstance(source, str):
        return _digest(source)
    if not os.path.isfile(source):  # to read a pipe waits for ever
        return NO_IMAGE
    try:
        state = file_state(source)
        digest = cache.get(source, state)
        if digest is None:
            now = time.time_ns()
            digest = bytes.fromhex(file_digest(Path(source)))
            if now - os.stat(source).st_ctime_ns > _SETTLED_NS:
                cache.put(source, state, digest)
    except OSError:  # a trial that needs the image names it
        return NO_IMAGE
    return digest


def _digest(source: Any) -> bytes:
    if isinstance(source, np.ndarray):
        return hashlib.sha256(f"{source.dtype.str} {source.shape} ".encode() + source.tobytes()).digest()
    if source is None or source["bytes"] is None:
        return NO_IMAGE
    return hashlib.sha256(source["bytes"]).digest()


def _on_threads(read: Callable[[int], _T], indices: Sequence[int], name: str) -> list[_T]:
    results: list[_T] = []
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    bar = tqdm(total=len(indices), desc=f"{name}: contents", unit="image", delay=2, leave=False, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(lambda chunk: [read(index) for index in chunk], chunks):
            results += part
            bar.update(len(part))
    return results


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
