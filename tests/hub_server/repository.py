"""What the loopback Hub keeps: repositories of content-addressed files, commits, branches, tags and pull requests."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

LFS_PATTERNS = ("*.safetensors", "*.parquet", "*.bin", "*.pt", "*.pth", "*.npy", "*.npz", "*.zip", "*.tar", "*.gz")
_LFS_SIZE = 10 * 2**20  # bytes
_GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Tell whether a file goes to LFS, as the Hub decides it: by its name, its size, or because it is binary."""
    return any(fnmatch(path, pattern) for pattern in LFS_PATTERNS) or size > _LFS_SIZE or b"\0" in sample


def git_oid(content: bytes) -> str:
    """Return git's hash of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file's content.

    Attributes:
        content: Its bytes.
        lfs: Whether git holds a pointer to it only.
    """

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self)}\n".encode()

    @cached_property
    def oid(self) -> str:
        """What git calls it: the hash of the pointer where there is one."""
        return git_oid(self.pointer if self.lfs else self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def __len__(self) -> int:
        return len(self.content)

    @classmethod
    def of(cls, path: str, content: bytes) -> "Blob":
        return cls(content, is_lfs(path, len(content), content[:512]))


Files = Mapping[str, Blob]


@dataclass(frozen=True)
class Commit:
    """A state of a repository; its hash depends on all that it says."""

    files: Files
    parent: str | None
    title: str
    message: str
    author: str
    date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @cached_property
    def oid(self) -> str:
        content = [f"{path} {blob.oid}" for path, blob in sorted(self.files.items())]
        facts = [self.parent, self.title, self.message, self.author, self.date.isoformat(), *content]
        return hashlib.sha1("\n".join(map(str, facts)).encode()).hexdigest()


class Repository:
    """A model or data set repository.

    Args:
        repo_id: `{owner}/{name}`.
        private: Whether only its owner sees it.
        files: What the first commit holds; None for what the Hub puts into a new repository.
    """

    def __init__(self, repo_id: str, *, private: bool = False, files: Files | None = None) -> None:
        self.id = repo_id
        self.owner = repo_id.split("/")[0]
        self.private = private
        self.gated = False
        self.tags: dict[str, str] = {}
        self.pull_requests: dict[int, str] = {}
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        if files is None:
            files = {".gitattributes": Blob.of(".gitattributes", _GIT_ATTRIBUTES.encode())}
        first = self._record(Commit(files, None, "initial commit", "", self.owner))
        self.branches["main"] = first.oid

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    def find(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag, a pull request (`refs/pr/N`) or a full hash names."""
        number = revision.removeprefix("refs/pr/")
        if number != revision and number.isdigit():
            return self.commits.get(self.pull_requests.get(int(number), ""))
        name = revision.removeprefix("refs/heads/")
        return self.commits.get(self.branches.get(name) or self.tags.get(name) or revision)

    def history(self, commit: Commit) -> list[Commit]:
        """Return a commit and those before it, the newest first."""
        commits = [commit]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits

    def add_commit(
        self,
        changes: Mapping[str, Blob | None],
        *,
        title: str,
        message: str = "",
        author: str = "",
        branch: str = "main",
    ) -> Commit:
        """Put a commit on a branch.

        Args:
            changes: New content by path; None deletes.
            title: First line of the commit message.
            message: The rest of it.
            author: Who commits.
            branch: Where.
        """
        commit = self._add(changes, title, message, author, branch)
        if branch.startswith("refs/pr/"):
            self.pull_requests[int(branch.removeprefix("refs/pr/"))] = commit.oid
        else:
            self.branches[branch] = commit.oid
        return commit

    def open_pull_request(
        self, changes: Mapping[str, Blob | None], *, title: str, message: str, author: str, branch: str
    ) -> tuple[Commit, int]:
        """Put a commit beside a branch, and return it with the number of its pull request."""
        commit = self._add(changes, title, message, author, branch)
        number = len(self.pull_requests) + 1
        self.pull_requests[number] = commit.oid
        return commit, number

    def _add(self, changes: Mapping[str, Blob | None], title: str, message: str, author: str, branch: str) -> Commit:
        parent = self.find(branch)
        if parent is None:
            raise KeyError(branch)
        merged = {**parent.files, **changes}
        files = {path: blob for path, blob in merged.items() if blob is not None}
        return self._record(Commit(files, parent.oid, title, message, author or self.owner))

    def _record(self, commit: Commit) -> Commit:
        self.commits[commit.oid] = commit
        return commit


def read_folder(folder: Path) -> dict[str, Blob]:
    """Return a folder's files as a repository holds them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: Blob.of(name, path.read_bytes()) for name, path in names.items()}


def read_metadata(readme: bytes) -> dict[str, Any]:
    """Return the YAML block that a README.md begins with; empty where there is none.

    Raises:
        ValueError: If it is not YAML.
    """
    match = re.match(r"---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", readme.decode(), re.DOTALL)
    try:
        return (yaml.safe_load(match[1]) if match else None) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"YAML metadata in README.md is not valid: {error}") from error
