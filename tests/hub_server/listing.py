"""Rows of the Hub's listings, in the form that the client reads."""

import hashlib
from typing import Any

from .repository import Blob, Commit, Repository, read_metadata
from .xet import XetStorage


def info(repo: Repository, commit: Commit) -> dict[str, Any]:
    """Return what the Hub says of a repository at a commit."""
    card = commit.files.get("README.md")
    metadata = read_metadata(card.content) if card else {}
    tags = [*(metadata.get("tags") or []), *(metadata[key] for key in ("library_name",) if key in metadata)]
    return {
        "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.owner,
        "sha": commit.oid,
        "lastModified": _time(commit),
        "createdAt": _time(repo.history(commit)[-1]),
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(dict.fromkeys(tags)),
        "library_name": metadata.get("library_name"),
        "pipeline_tag": metadata.get("pipeline_tag"),
        "cardData": metadata or None,
        "siblings": [_sibling(path, blob) for path, blob in sorted(commit.files.items())],
    }


def matches(row: dict[str, Any], query: dict[str, list[str]]) -> bool:
    """Tell whether a repository is among those that a search asks for."""
    author, search = query.get("author"), query.get("search")
    return (
        (author is None or row["author"] == author[0])
        and (search is None or search[0].lower() in row["id"].lower())
        and set(query.get("filter", ())) <= set(row["tags"])
    )


def tree_rows(commit: Commit, folder: str, recursive: bool, xet: XetStorage | None) -> list[dict[str, Any]]:
    """Return the files and folders in a folder ("" for the root) of a commit."""
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    inside = [path for path in sorted(commit.files) if path.startswith(prefix)]
    parts = [path.removeprefix(prefix).split("/") for path in inside]
    folders = {prefix + "/".join(names[:depth]) for names in parts for depth in range(1, len(names))}
    rows = [{"type": "directory", "oid": _folder_oid(commit, name), "size": 0, "path": name} for name in folders]
    rows += [_file_row(path, commit.files[path], xet) for path in inside]
    if not recursive:
        rows = [row for row in rows if "/" not in row["path"].removeprefix(prefix)]
    return sorted(rows, key=lambda row: row["path"])


def commit_row(commit: Commit) -> dict[str, Any]:
    """Return what the Hub says of a commit."""
    authors = [{"user": commit.author}]
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "authors": authors,
        "date": _time(commit),
    }


def _time(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{commit.date.microsecond // 1000:03d}Z"


def _folder_oid(commit: Commit, folder: str) -> str:
    content = [f"{path} {blob.oid}" for path, blob in sorted(commit.files.items()) if path.startswith(f"{folder}/")]
    return hashlib.sha1("\n".join(content).encode()).hexdigest()


def _file_row(path: str, blob: Blob, xet: XetStorage | None) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob), "path": path}
    if blob.lfs:
        row["lfs"] = {"oid": blob.sha256, "size": len(blob), "pointerSize": len(blob.pointer)}
        if xet is not None:
            row["xetHash"] = xet.add(blob.content)
    return row


def _sibling(path: str, blob: Blob) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": path, "size": len(blob), "blobId": blob.oid}
    if blob.lfs:
        row["lfs"] = {"sha256": blob.sha256, "size": len(blob), "pointerSize": len(blob.pointer)}
    return row
