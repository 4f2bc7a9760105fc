"""A small model Hub on loopback: serves folders to the unmodified `huggingface_hub` client (`HF_ENDPOINT`)."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

_MODEL_INFO = re.compile(r"^/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?$")
_FILE = re.compile(r"^/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


class HubServer(ThreadingHTTPServer):
    """Serves `root/{owner}/{name}/...` as model repositories with one revision, `main`.

    Args:
        root: The folder.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.requests: list[str] = []  # "METHOD /path", in order of arrival

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` must be."""
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repo: str) -> dict[str, Path] | None:
        """Return a repository's files by their path in it, or None where there is no such repository."""
        folder = self.root / repo
        if not folder.is_dir():
            return None
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def commit(self, repo: str) -> str:
        """Return the hash of a repository's content, which stands for its last commit."""
        digests = [f"{name} {_digest(path)}" for name, path in (self.files(repo) or {}).items()]
        return hashlib.sha1("\n".join(digests).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep silent."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if match := _MODEL_INFO.match(path):
            self._answer_model_info(match["repo"], match["revision"])
        elif match := _FILE.match(path):
            self._answer_file(match["repo"], match["revision"], match["path"])
        else:
            self._refuse(404, None, f"no such page: {path}")

    def _answer_model_info(self, repo: str, revision: str | None) -> None:
        files = self._files_at(repo, revision or "main")
        if files is None:
            return
        siblings = [{"rfilename": name, "size": path.stat().st_size} for name, path in files.items()]
        info = {"id": repo, "modelId": repo, "sha": self.server.commit(repo), "private": False, "gated": False}
        self._send(200, json.dumps({**info, "tags": [], "siblings": siblings}).encode(), "application/json")

    def _answer_file(self, repo: str, revision: str, name: str) -> None:
        files = self._files_at(repo, revision)
        if files is None:
            return
        headers = {"X-Repo-Commit": self.server.commit(repo)}
        if name not in files:
            self._refuse(404, "EntryNotFound", f"no such file: {name}", headers)
            return
        etag = f'"{_digest(files[name])}"'
        self._send(200, files[name].read_bytes(), "application/octet-stream", {**headers, "ETag": etag})

    def _files_at(self, repo: str, revision: str) -> dict[str, Path] | None:
        """Return a repository's files, or None after an answer that says what is missing."""
        files = self.server.files(repo)
        if files is None:
            self._refuse(404, "RepoNotFound", f"no such repository: {repo}")
        elif revision not in ("main", self.server.commit(repo)):
            self._refuse(404, "RevisionNotFound", f"no such revision: {revision}")
            return None
        return files

    def _refuse(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        codes = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", {**(headers or {}), **codes})

    def _send(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serve(root: Path) -> Iterator[HubServer]:
    """Serve a folder for a while.

    Args:
        root: Holds `{owner}/{name}/` folders.
    """
    with HubServer(root) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def environment(server: HubServer, home: Path) -> dict[str, str]:
    """Return the variables with which another process uses the server, and nothing else, as its Hub.

    Args:
        server: The server.
        home: A folder of its own, for the client's cache.
    """
    return {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
