"""What the loopback Hub answers: the endpoints that `huggingface_hub` and `datasets` use."""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from .listing import commit_row, info, matches, tree_rows
from .repository import Blob, Commit, Repository, is_lfs, read_metadata

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

    def commit(self) -> Commit:
        """Return the commit at the revision that is asked for."""
        revision = self.groups.get("revision") or "main"
        commit = self.repo.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


def answer(server: "HubServer", request: Request) -> Answer:
    """Return what the Hub says to a request.

    Raises:
        Refusal: If it refuses.
    """
    user = _user(server, request)
    for method, pattern, handle in _GLOBAL:
        if method == request.method and (match := re.fullmatch(pattern, request.path)):
            return handle(server, request, user, *map(unquote, match.groups()))
    for methods, pattern, access, handle_call in _IN_REPOSITORY:
        if request.method in methods.split() and (match := re.fullmatch(pattern, request.path)):
            groups = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            call = Call(server, request, user, *_repository(server, groups, user), groups)
            _check_access(call, access)
            return handle_call(call)
    raise Refusal(404, f"no such page: {request.method} {request.path}")


def _user(server: "HubServer", request: Request) -> str | None:
    authorization = request.headers.get("authorization")
    if authorization is None:
        return None
    token = authorization.removeprefix("Bearer ")
    if token not in server.tokens:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return server.tokens[token]


def _repository(server: "HubServer", groups: dict[str, str], user: str | None) -> tuple[str, Repository]:
    kind = (groups.get("kind") or "models").strip("/")
    repository = server.repositories.get((kind, groups["repo"]))
    if repository is None or (repository.private and repository.owner != user):
        # The Hub does not tell a missing repository from one that is hidden.
        raise Refusal(404 if user else 401, f"Repository not found: {groups['repo']}", "RepoNotFound")
    return kind, repository


def _check_access(call: Call, access: str) -> None:
    if access == "write" and call.user is None:
        raise Refusal(401, "Invalid username or password.")
    if access == "write" and call.user != call.repo.owner:
        raise Refusal(403, f"You don't have the rights to write to {call.repo.id}")
    if access == "content" and call.repo.gated and call.user != call.repo.owner:
        raise Refusal(403 if call.user else 401, f"Access to {call.repo.id} is restricted", "GatedRepo")


def _whoami(server: "HubServer", request: Request, user: str | None) -> Answer:
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    role = {"accessToken": {"displayName": "loopback", "role": "write"}}
    return Answer.of_json({"type": "user", "name": user, "fullname": user, "orgs": [], "auth": role})


def _create_repo(server: "HubServer", request: Request, user: str | None) -> Answer:
    options = request.json
    kind = options.get("type", "model") + "s"
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    owner = options.get("organization") or user
    repo_id = f"{owner}/{options['name']}"
    if owner != user:
        raise Refusal(403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{owner}"')
    url = f"{server.url}/{'datasets/' if kind == 'datasets' else ''}{repo_id}"
    if (kind, repo_id) in server.repositories:
        return Answer.of_json({"error": f"You already created this {kind[:-1]} repo", "url": url}, 409)
    private = bool(options.get("private")) or options.get("visibility") == "private"
    server.repositories[kind, repo_id] = Repository(repo_id, private=private)
    return Answer.of_json({"url": url, "name": repo_id, "id": repo_id})


def _delete_repo(server: "HubServer", request: Request, user: str | None) -> Answer:
    options = request.json
    repo_id = f"{options.get('organization') or user}/{options['name']}"
    kind, repository = _repository(server, {"kind": f"{options.get('type') or 'model'}s", "repo": repo_id}, user)
    if repository.owner != user:
        raise Refusal(403, f"You don't have the rights to delete {repo_id}")
    del server.repositories[kind, repo_id]
    return Answer.of_json({})


def _list_repos(server: "HubServer", request: Request, user: str | None, kind: str) -> Answer:
    visible = [
        repository
        for (its_kind, _), repository in server.repositories.items()
        if its_kind == kind and (not repository.private or repository.owner == user)
    ]
    rows = [info(repository, repository.head) for repository in visible]
    return _page(server, request, [row for row in rows if matches(row, request.query)])


def _validate_yaml(server: "HubServer", request: Request, user: str | None) -> Answer:
    content = request.json["content"].encode()
    try:
        metadata = read_metadata(content)
    except ValueError as error:
        return Answer.of_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer.of_json({"errors": [], "warnings": warnings})


def _store_lfs(server: "HubServer", request: Request, user: str | None, oid: str) -> Answer:
    blob = Blob(request.body, lfs=True)
    if blob.sha256 != oid:
        raise Refusal(400, f"sha256 of the body is {blob.sha256} instead of {oid}")
    server.lfs[oid] = request.body
    return Answer(200)


def _info(call: Call) -> Answer:
    return Answer.of_json(info(call.repo, call.commit()))


def _tree(call: Call) -> Answer:
    commit, folder = call.commit(), call.groups.get("path", "")
    recursive = call.request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    rows = tree_rows(commit, folder, recursive)
    if folder and not rows:
        raise Refusal(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    return _page(call.server, call.request, rows)


def _paths_info(call: Call) -> Answer:
    text = call.request.body.decode()
    paths = call.request.json["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    rows = tree_rows(call.commit(), "", recursive=True)
    return Answer.of_json([row for row in rows if row["path"] in [path.rstrip("/") for path in paths]])


def _commits(call: Call) -> Answer:
    return _page(call.server, call.request, [commit_row(commit) for commit in call.repo.history(call.commit())])


def _refs(call: Call) -> Answer:
    repo = call.repo

    def rows(prefix: str, refs: Mapping[Any, str]) -> list[dict[str, str]]:
        return [{"name": str(n), "ref": f"refs/{prefix}/{n}", "targetCommit": oid} for n, oid in refs.items()]

    pull_requests = {"pullRequests": rows("pr", repo.pull_requests)} if "include_prs" in call.request.query else {}
    refs = {"branches": rows("heads", repo.branches), "tags": rows("tags", repo.tags), "converts": []}
    return Answer.of_json({**refs, **pull_requests})


def _branch(call: Call) -> Answer:
    name = call.groups["name"]
    if call.request.method == "DELETE":
        return _remove(call.repo.branches, name)
    if name in call.repo.branches:
        raise Refusal(409, f"Reference already exists: {name}")
    call.groups["revision"] = call.request.json.get("startingPoint", "main")
    call.repo.branches[name] = call.commit().oid
    return Answer.of_json({}, 201)


def _tag(call: Call) -> Answer:
    if call.request.method == "DELETE":
        return _remove(call.repo.tags, call.groups["revision"])
    name = call.request.json["tag"]
    if name in call.repo.tags:
        raise Refusal(409, f"Tag reference exists already: {name}")
    call.repo.tags[name] = call.commit().oid
    return Answer.of_json({}, 201)


def _remove(refs: dict[str, str], name: str) -> Answer:
    if refs.pop(name, None) is None:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Answer.of_json({})


def _preupload(call: Call) -> Answer:
    known = call.commit().files
    rows = []
    for file in call.request.json["files"]:
        path = file["path"]
        lfs = is_lfs(path, file["size"], base64.b64decode(file["sample"]))
        row = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        rows.append({**row, "oid": known[path].etag} if path in known else row)
    return Answer.of_json({"files": rows})


def _xet_token(call: Call) -> Answer:
    """Send the client's `hf_xet` to a folder that stands for the Hub's Xet storage."""
    if call.server.xet_folder is None:
        raise Refusal(404, "no Xet storage here")
    token = {"casUrl": f"local://{call.server.xet_folder}", "accessToken": "xet", "exp": int(time.time()) + 3600}
    return Answer.of_json(token)


def _lfs_batch(call: Call) -> Answer:
    objects = []
    for item in call.request.json["objects"]:
        actions = {
            "upload": {"href": f"{call.server.url}/lfs-storage/{item['oid']}"},
            "verify": {"href": f"{call.url}.git/info/lfs/objects/verify"},
        }
        objects.append(item if item["oid"] in call.server.lfs else {**item, "actions": actions})
    return Answer.of_json({"transfer": "basic", "objects": objects})


def _lfs_verify(call: Call) -> Answer:
    item = call.request.json
    if len(call.server.lfs.get(item["oid"], b"")) != item["size"]:
        raise Refusal(404, f"no such object: {item['oid']}")
    return Answer.of_json({})


def _add_commit(call: Call) -> Answer:
    lines = [json.loads(line) for line in call.request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    parent = call.commit()
    if header.get("parentCommit") not in (None, parent.oid):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    changes: dict[str, Blob | None] = {}
    for line in lines:
        changes.update(_change(call, parent, line["key"], line["value"]))
    said: dict[str, str] = {"title": header["summary"], "message": header.get("description", "")}
    branch, author = call.groups["revision"], call.user or ""
    if "create_pr" in call.request.query:
        commit, number = call.repo.open_pull_request(changes, **said, author=author, branch=branch)
        extra = {"pullRequestUrl": f"{call.url}/discussions/{number}"}
    elif branch not in call.repo.branches and not branch.startswith("refs/pr/"):
        raise Refusal(400, f"{branch} is no branch")
    else:
        commit, extra = call.repo.add_commit(changes, **said, author=author, branch=branch), {}
    url = f"{call.url}/commit/{commit.oid}"
    return Answer.of_json({"success": True, "commitOid": commit.oid, "commitUrl": url, **extra})


def _change(call: Call, parent: Commit, key: str, value: dict[str, Any]) -> dict[str, Blob | None]:
    path = value.get("path", "")
    if key == "file":
        return {path: Blob(base64.b64decode(value["content"]), lfs=False)}
    if key == "lfsFile":
        if value["oid"] not in call.server.lfs:
            raise Refusal(422, f"Your push was rejected since the LFS object {value['oid']} does not exist")
        return {path: Blob(call.server.lfs[value["oid"]], lfs=True)}
    if key == "deletedFile":
        if path not in parent.files:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        return {path: None}
    if key == "deletedFolder":
        return dict.fromkeys(name for name in parent.files if name.startswith(path.rstrip("/") + "/"))
    return {}


def _file(call: Call) -> Answer:
    commit = call.commit()
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    blob = commit.files.get(call.groups["path"])
    if blob is None:
        raise Refusal(404, f"no such file: {call.groups['path']}", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    headers["ETag"] = f'"{blob.etag}"'
    if blob.lfs:
        headers.update({"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob))})
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.request.headers.get("range", ""))
    if wanted is None:
        return Answer(200, blob.content, headers)
    start, end = int(wanted[1]), min(int(wanted[2] or len(blob)), len(blob) - 1)
    if start >= len(blob):
        raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(blob)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(blob)}"
    return Answer(206, blob.content[start : end + 1], headers)


def _page(server: "HubServer", request: Request, rows: list[Any]) -> Answer:
    """Return a page of a listing, with a link to the next one."""
    size = min(int(request.query.get("limit", [server.page_size])[0]), server.page_size)
    start = int(request.query.get("cursor", ["0"])[0])
    kept = "".join(f"{name}={value}&" for name, (value, *_) in request.query.items() if name != "cursor")
    more = f'<{server.url}{request.path}?{kept}cursor={start + size}>; rel="next"'
    return Answer.of_json(rows[start : start + size], headers={"Link": more} if start + size < len(rows) else {})


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_REPO}"
_PAGE = rf"/(?P<kind>datasets/)?{_REPO}"
_REV = r"/(?P<revision>[^/]+)"

_GLOBAL: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"/api/whoami-v2", _whoami),
    ("POST", r"/api/repos/create", _create_repo),
    ("DELETE", r"/api/repos/delete", _delete_repo),
    ("POST", r"/api/validate-yaml", _validate_yaml),
    ("GET", r"/api/(models|datasets)", _list_repos),
    ("PUT", r"/lfs-storage/([0-9a-f]{64})", _store_lfs),
]

_IN_REPOSITORY: list[tuple[str, str, str, Callable[[Call], Answer]]] = [
    ("GET", rf"{_API}(?:/revision{_REV})?", "info", _info),
    ("GET", rf"{_API}/tree{_REV}(?:/(?P<path>.+))?", "info", _tree),
    ("POST", rf"{_API}/paths-info{_REV}", "info", _paths_info),
    ("GET", rf"{_API}/commits{_REV}", "info", _commits),
    ("GET", rf"{_API}/refs", "info", _refs),
    ("POST DELETE", rf"{_API}/branch/(?P<name>[^/]+)", "write", _branch),
    ("POST DELETE", rf"{_API}/tag{_REV}", "write", _tag),
    ("POST", rf"{_API}/preupload{_REV}", "write", _preupload),
    ("POST", rf"{_API}/commit{_REV}", "write", _add_commit),
    ("GET", rf"{_API}/xet-write-token{_REV}", "write", _xet_token),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", "write", _lfs_batch),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/verify", "write", _lfs_verify),
    ("GET HEAD", rf"{_PAGE}/resolve{_REV}/(?P<path>.+)", "content", _file),
]
