"""The files that are published, and folders that are written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.sha import git_hash

from timm_lp.files import file_digest

from .errors import VerificationError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
RESULTS = "results.json"
MASKS = "masks.png"
MANIFEST = "manifest.json"
PUBLISHED = (CARD, CONFIG, MANIFEST, MASKS, RESULTS, WEIGHTS)


def check_new_folder(folder: Path) -> None:
    """Refuse a folder in which something would be overwritten.

    Raises:
        FileExistsError: If it has something in it, or is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"`folder` must be new or empty, got {str(folder)!r}. Name another, or remove it.")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Write into a temporary folder, which gets its name once everything is in it.

    Args:
        folder: The name; an empty folder may be there.

    Raises:
        FileExistsError: If something is there.
        OSError: If it cannot be written; nothing is left behind then.
    """
    folder = folder.resolve()  # "." has no name
    check_new_folder(folder)
    with clear_disk_errors(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        partial.mkdir()
        try:
            yield partial
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def clear_disk_errors(place: str) -> Iterator[None]:
    """Say in one sentence that something cannot be written.

    Args:
        place: Where it was to go.

    Raises:
        OSError: In place of the system's.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(f"{place} cannot be written: {error.strerror}.") from error


def find_staged(network: object) -> Path | None:
    """Return the folder that a network's name stands for, if it has a manifest, even one that cannot be read."""
    if not isinstance(network, (str, Path)):
        return None
    folder = Path(str(network).removeprefix("local-dir:")).expanduser()
    return folder if os.path.lexists(folder / MANIFEST) else None


def check_regular_files(folder: Path) -> None:
    """Refuse published names that are no regular files, before anything is read.

    Raises:
        VerificationError: If there is one.
    """
    for name in PUBLISHED:
        check_regular_file(folder / name)


def check_regular_file(path: Path) -> None:
    """Refuse a path that is no regular file, if it exists.

    The client's cache is made of symbolic links to its blobs; those alone are followed.

    Raises:
        VerificationError: If it is none.
    """
    if path.is_symlink() and not _is_cached(path):
        raise VerificationError(f"{path.name} must be a regular file, got a symbolic link. Put a file in its place.")
    if path.exists() and not path.is_file():
        raise VerificationError(f"{path.name} must be a regular file, got something else. Remove it.")


def _is_cached(link: Path) -> bool:
    """Tell whether a link in the client's cache leads to its blobs: a repository's, or those that all share."""
    snapshots, target = Path(os.path.realpath(link.parent)).parent, Path(os.path.realpath(link))
    cache = snapshots.parent.parent
    in_cache = snapshots.name == "snapshots" and target.is_relative_to(cache)
    return in_cache and "blobs" in target.relative_to(cache).parts[:2]


def is_same(path: Path, published: RepoSibling) -> bool:
    """Tell whether a file's content is that of a published one, by the hash that the Hub states."""
    if published.lfs is not None:
        return file_digest(path) == published.lfs.sha256
    return git_hash(path.read_bytes()) == published.blob_id


def published_files(folder: Path) -> dict[str, Path]:
    """Return those of a folder's files that are published, by name."""
    return {name: folder / name for name in PUBLISHED if (folder / name).is_file()}
