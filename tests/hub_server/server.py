"""The HTTP side of the loopback Hub."""

import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .answers import Answer, Refusal, Request
from .collections import Collection
from .faults import Fault
from .repository import Blob, Commit, Repository, read_folder
from .routes import answer
from .xet import XetStorage, hf_xet

TOKENS = {"hf_alice": "alice", "hf_bob": "bob"}
Kind = str  # "models" or "datasets", as in the Hub's URLs


class HubServer(ThreadingHTTPServer):
    """A Hub for the unmodified `huggingface_hub` client: repositories and collections in memory, on loopback.

    Args:
        root: Folder with a first state: `{owner}/{name}/` models and `datasets/{owner}/{name}/` data sets; or None.
        tokens: Who each token belongs to. A user may write below their own name.
        port: 0 for any that is free.

    Attributes:
        requests: `METHOD /path` of each request, in order of arrival.
        faults: What is to go wrong; see `inject`.
        lfs: Large files that were uploaded, by sha256, committed or not.
        collections: By their slugs.
        page_size: Rows of a page of a listing.
        xet: Where large files are too, for clients that have `hf_xet`; None for a Hub without Xet.
    """

    daemon_threads = True

    def __init__(self, root: Path | None = None, *, tokens: Mapping[str, str] = TOKENS, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.root = root or Path()
        self.tokens = dict(tokens)
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lfs: dict[str, bytes] = {}
        self.page_size = 1000
        self.xet = XetStorage() if hf_xet is not None else None
        self.lock = RLock()
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.collections: dict[str, Collection] = {}
        if root is not None:
            self._seed_root(root)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a request's traceback, but let a client hang up in silence: many do, early."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        if self.xet is not None:
            self.xet.close()

    def _seed_root(self, root: Path) -> None:
        for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
            if folder.parent.name != "datasets":
                self.seed(folder, folder.relative_to(root).as_posix())
        for folder in sorted(path for path in root.glob("datasets/*/*") if path.is_dir()):
            self.seed(folder, folder.relative_to(root / "datasets").as_posix(), "datasets")

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` must be."""
        return f"http://127.0.0.1:{self.server_port}"

    def seed(self, folder: Path, repo: str, kind: Kind = "models", *, private: bool = False) -> Commit:
        """Make a folder's files the next commit of a repository, which is created where there is none.

        Args:
            folder: The folder.
            repo: `{owner}/{name}`.
            kind: "models" or "datasets".
            private: Whether only its owner sees it.
        """
        files = read_folder(folder)
        if (kind, repo) not in self.repositories:
            self.repositories[kind, repo] = Repository(repo, private=private, files=files)
            return self.repositories[kind, repo].head
        repository = self.repositories[kind, repo]
        gone: dict[str, Blob | None] = dict.fromkeys(repository.head.files.keys() - files.keys())
        return repository.add_commit({**gone, **files}, title="Update")

    def commit(self, repo: str, kind: Kind = "models") -> str:
        """Return the hash of a repository's last commit on `main`."""
        return self.repositories[kind, repo].head.oid

    def inject(self, pattern: str, **effects: object) -> Fault:
        """Let requests fail; `effects` and `pattern` are those of `Fault`."""
        self.faults.append(Fault(pattern, **effects))  # type: ignore[arg-type]
        return self.faults[-1]

    def take_fault(self, request: str) -> Fault:
        """Return what goes wrong with a request, `METHOD /path`."""
        with self.lock:
            return next((fault for fault in self.faults if fault.hits(request)), Fault(""))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    server: HubServer

    def do_GET(self) -> None:
        self._respond()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep silent."""

    def _respond(self) -> None:
        parts = urlsplit(self.path)
        line = f"{self.command} {unquote(parts.path)}"
        body = self._read_body()
        with self.server.lock:
            self.server.requests.append(line)
        fault = self.server.take_fault(line)
        time.sleep(fault.delay_s)
        if fault.call is not None:
            fault.call()
        if fault.status is not None:
            self._send(Answer.of_json({"error": "injected fault"}, fault.status, fault.headers), fault)
            return
        request = Request(self.command, parts.path, parse_qs(parts.query), self.headers, body)
        try:
            with self.server.lock:
                result = answer(self.server, request)
        except Refusal as refusal:
            result = refusal.answer
        self._send(result, fault)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self._read().split(b";")[0], 16):
                chunks.append(self._read(size))
                self._read()
            self._read()
            return b"".join(chunks)
        return self._read(int(self.headers.get("Content-Length", 0)))

    def _read(self, size: int | None = None) -> bytes:
        """Return so many bytes of the request, or a line of it."""
        content = self.rfile.readline() if size is None else self.rfile.read(size)
        if len(content) < (1 if size is None else size):
            raise ConnectionAbortedError("the client hung up within its request")
        return content

    def _send(self, result: Answer, fault: Fault) -> None:
        if fault.lose_answer:
            self._hang_up(fault.reset)
            return
        result.body = result.body[: fault.cut_to]
        self.send_response(result.status)
        for name, value in {"Content-Length": str(len(result.body)), **result.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = fault.damage(result.body)
        if fault.close_after is None:
            self.wfile.write(body)
        else:
            self.wfile.write(body[: fault.close_after])
            self.wfile.flush()
            time.sleep(0.05)  # so that a reset does not overtake the bytes
            self._hang_up(fault.reset)

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:  # with nothing to linger for, the kernel resets the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve(root: Path | None = None, *, tokens: Mapping[str, str] = TOKENS, port: int = 0) -> Iterator[HubServer]:
    """Run a Hub for a while.

    Args:
        root: Its first state, see `HubServer`.
        tokens: Who each token belongs to.
        port: 0 for any that is free.
    """
    with HubServer(root, tokens=tokens, port=port) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})  # the wait for its end
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def environment(server: HubServer, home: Path, token: str | None = None) -> dict[str, str]:
    """Return the variables with which another process uses the server, and nothing else, as its Hub.

    Args:
        server: The server.
        home: A folder of its own, for the client's cache.
        token: What the process identifies itself with, or None.
    """
    return {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_TOKEN": token or "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
