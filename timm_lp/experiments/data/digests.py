"""Digests of images' contents, and whether they can be decoded, kept between runs: each image is read once for both."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from huggingface_hub import cached_assets_path, constants
from tqdm.auto import tqdm

from ...files import file_state, write_bytes
from .decoding import ImageSet, UnreadableImageError, decode, naming_image

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_CHUNK = 256
_KEY, _DIGEST = 16, 32  # bytes; a row has one more, which tells whether the image was decoded
_ROW = _KEY + _DIGEST + 1
_READABLE, _UNKNOWN = b"\1", b"\0"
_SETTLED_NS = 2 * 10**9  # a younger file may be written again with the same time, by a file system's clock

NO_IMAGE = bytes(32)  # in place of the digest of an image that cannot be read


class StoredColumn(Sequence[Any]):
    """Reads a column's rows as they are stored, in a fraction of the time that `datasets` takes for a row.

    Args:
        column: The Arrow column.
        name: Its name.
        files: The files that hold its rows, empty where they are in memory.
        split: The split whose rows they are.
    """

    def __init__(self, column: Any, name: str, files: Sequence[str], split: str) -> None:
        self._column, self.name, self.files, self.split = column, name, files, split

    @cached_property
    def state(self) -> str:
        """Its name and the state of its files, which change with its contents; empty where it is in memory."""
        if not self.files:
            return ""
        return json.dumps([self.name, *([Path(file).name, file_state(file)] for file in self.files)])

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


class DigestCache:
    """The digests of a data set's images on this machine, and which of these were decoded once.

    They lie in a file in huggingface_hub's folder of assets. If it is lost, damaged or cannot be written, the images
    are read again.

    Args:
        location: Folder or file of the data set, or its id.
    """

    def __init__(self, location: Path) -> None:
        self._location = location
        self._rows = self._read()
        self._is_new = False

    def get(self, key: bytes | None) -> bytes | None:
        """Return the digest that is kept under a key, 32 bytes; None if there is none."""
        row = self._rows.get(key) if key else None
        return row[:_DIGEST] if row else None

    def is_readable(self, key: bytes | None) -> bool:
        """Tell whether the image of a key was decoded."""
        row = self._rows.get(key) if key else None
        return row is not None and row[_DIGEST:] == _READABLE

    def put(self, key: bytes, digest: bytes, is_readable: bool = False) -> None:
        """Note a digest of 32 bytes, and whether its image was decoded."""
        self._rows[key] = digest + (_READABLE if is_readable else _UNKNOWN)
        self._is_new = True

    def save(self) -> None:
        """Write the digests if there are new ones, or log why they cannot be written."""
        if not self._is_new:
            return
        content = b"".join(key + row for key, row in self._rows.items())
        try:
            write_bytes(self._path(), hashlib.sha256(content).digest() + content)
        except (OSError, ValueError) as error:  # huggingface_hub raises a ValueError if its folder is a file
            _logger.warning("The next run reads all images again: their digests cannot be kept: %s", error)
        self._is_new = False

    def _read(self) -> dict[bytes, bytes]:
        try:
            stored = self._path().read_bytes()
        except (OSError, ValueError):
            return {}
        checksum, content = stored[:_DIGEST], memoryview(stored)[_DIGEST:]
        if checksum != hashlib.sha256(content).digest():
            return {}
        rows = range(0, len(content), _ROW)
        return {bytes(content[at : at + _KEY]): bytes(content[at + _KEY : at + _ROW]) for at in rows}

    def _path(self) -> Path:
        folder = cached_assets_path("timm-lp", "data", "digests", assets_dir=constants.HF_ASSETS_CACHE)
        return folder / f"{self._location.name}-{hashlib.sha256(os.fsencode(self._location)).hexdigest()[:16]}.bin"


def digest_key(*names: object) -> bytes:
    """Return the key of what has these names and this state, 16 bytes."""
    return hashlib.sha256("\0".join(map(str, names)).encode(errors="surrogateescape")).digest()[:_KEY]


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

    def digest_of(index: int) -> bytes:
        try:
            key, is_settled = _key(sources, index)
            digest = cache.get(key)
            if digest is None:
                digest = _digest(_content(sources[index]))
                if key and is_settled:
                    cache.put(key, digest)
        except OSError:  # a trial that needs the image names it
            return NO_IMAGE
        return digest

    return _on_threads(digest_of, indices, f"{name}: contents")


def damaged_images(images: ImageSet, cache: DigestCache, name: str) -> dict[int, str]:
    """Return why images of a set cannot be decoded, by their index in its split.

    Each image is read once for this, for its digest, and to be kept, where the set keeps images and has room.

    Args:
        images: The images.
        cache: Knows which images were decoded before, and is told which were now.
        name: Name of the data set in the progress bar.
    """
    sources, has_room = images.sources, images.kept is not None

    def fault_of(index: int) -> str | None:
        nonlocal has_room
        try:
            with naming_image(images, index):
                key, is_settled = _key(sources, index)
                if cache.is_readable(key):
                    return None
                content = _content(sources[index])
                source = {"bytes": content} if isinstance(content, bytes) else content
                image = decode(source, least_side=None if has_room else 1)
        except UnreadableImageError as error:
            return str(error)
        if has_room and images.kept is not None and not images.kept.put(images.kept_from + index, image):
            has_room = False
        if key and is_settled:
            cache.put(key, _digest(content), is_readable=True)
        return None

    faults = zip(images.indices, _on_threads(fault_of, images.indices, f"{name}: check"), strict=True)
    return {index: fault for index, fault in faults if fault is not None}


def _key(sources: Sequence[Any], index: int) -> tuple[bytes | None, bool]:
    """Return the key of an image, None for one in memory, and whether its file has settled.

    Raises:
        OSError: If there is no such file.
    """
    if isinstance(sources, StoredColumn):
        return (digest_key(sources.state, index) if sources.state else None), True
    source = sources[index]
    if not isinstance(source, str):
        return None, False
    state = file_state(source)
    changed_ns = int(state.split()[2])
    return digest_key(source, state), time.time_ns() - changed_ns > _SETTLED_NS


def _content(source: Any) -> Any:
    """Return the bytes of an image as it is stored, its array, or None where there is none.

    Raises:
        OSError: If its file cannot be read.
    """
    if isinstance(source, str):
        if not os.path.isfile(source):  # to read a pipe waits for ever
            raise OSError("it is no file")
        return Path(source).read_bytes()
    return source["bytes"] if isinstance(source, dict) else source


def _digest(content: Any) -> bytes:
    if isinstance(content, np.ndarray):
        content = f"{content.dtype.str} {content.shape} ".encode() + content.tobytes()
    return NO_IMAGE if content is None else hashlib.sha256(content).digest()


def _on_threads(read: Callable[[int], _T], indices: Sequence[int], title: str) -> list[_T]:
    results: list[_T] = []
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    bar = tqdm(total=len(indices), desc=title, unit="image", delay=2, leave=False, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(lambda chunk: [read(index) for index in chunk], chunks):
            results += part
            bar.update(len(part))
    return results
