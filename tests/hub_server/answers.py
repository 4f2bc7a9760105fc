"""What the loopback Hub is asked, and what it says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .repository import Commit, Repository

if TYPE_CHECKING:
    from .server import HubServer


@dataclass
class Request:
    """What the client asks.

    Attributes:
        method: Its HTTP method.
        path: The path, with its quotes.
        query: Values by name.
        headers: Headers by name, in any case.
        body: The whole body.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    """What the Hub says."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Answer":
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})


class Refusal(Exception):
    """An error that the client maps to its exceptions, by `X-Error-Code`."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        codes = {"X-Error-Code": code} if code else {}
        all_headers = {**codes, "X-Error-Message": message, **(headers or {})}
        self.answer = Answer.of_json({"error": message}, status, all_headers)


@dataclass
class Call:
    """A request whose sender and repository are known."""

    server: "HubServer"
    request: Request
    user: str | None
    kind: str
    repo: Repository
    groups: dict[str, str]

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.server.url}/{'datasets/' if self.kind == 'datasets' else ''}{self.repo.id}"

    @property
    def api_url(self) -> str:
        """Where its endpoints are."""
        return f"{self.server.url}/api/{self.kind}/{self.repo.id}"

    def commit(self) -> Commit:
        """Return the commit at the revision that is asked for."""
        revision = self.groups.get("revision") or "main"
        commit = self.repo.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


def find_repository(server: "HubServer", groups: dict[str, str], user: str | None) -> tuple[str, Repository]:
    kind = (groups.get("kind") or "models").strip("/")
    repository = server.repositories.get((kind, groups["repo"]))
    if repository is None or (repository.private and repository.owner != user):
        # The Hub does not tell a missing repository from one that is hidden.
        raise Refusal(404 if user else 401, f"Repository not found: {groups['repo']}", "RepoNotFound")
    return kind, repository


def page(server: "HubServer", request: Request, rows: list[Any]) -> Answer:
    """Return a page of a listing, with a link to the next one."""
    size = min(int(request.query.get("limit", [server.page_size])[0]), server.page_size)
    start = int(request.query.get("cursor", ["0"])[0])
    kept = "".join(f"{name}={value}&" for name, (value, *_) in request.query.items() if name != "cursor")
    more = f'<{server.url}{request.path}?{kept}cursor={start + size}>; rel="next"'
    return Answer.of_json(rows[start : start + size], headers={"Link": more} if start + size < len(rows) else {})
