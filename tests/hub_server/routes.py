"""Which endpoint answers what: those that `huggingface_hub` and `datasets` use."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import account, collections, contents
from .answers import Answer, Call, Refusal, Request, find_repository

if TYPE_CHECKING:
    from .server import HubServer


def answer(server: "HubServer", request: Request) -> Answer:
    """Return what the Hub says to a request.

    Raises:
        Refusal: If it refuses.
    """
    user = _user(server, request)
    for methods, pattern, handle in _GLOBAL:
        if request.method in methods.split() and (match := re.fullmatch(pattern, request.path)):
            return handle(server, request, user, *map(unquote, match.groups()))
    for methods, pattern, access, handle_call in _IN_REPOSITORY:
        if request.method in methods.split() and (match := re.fullmatch(pattern, request.path)):
            groups = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            call = Call(server, request, user, *find_repository(server, groups, user), groups)
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


def _check_access(call: Call, access: str) -> None:
    if access == "write" and call.user is None:
        raise Refusal(401, "Invalid username or password.")
    if access == "write" and call.user != call.repo.owner:
        raise Refusal(403, f"You don't have the rights to write to {call.repo.id}")
    if access == "content" and call.repo.gated and call.user != call.repo.owner:
        raise Refusal(403 if call.user else 401, f"Access to {call.repo.id} is restricted", "GatedRepo")


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_REPO}"
_PAGE = rf"/(?P<kind>datasets/)?{_REPO}"
_REV = r"/(?P<revision>[^/]+)"
_SLUG = r"([^/]+/[^/]+)"

_GLOBAL: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"/api/whoami-v2", account.whoami),
    ("POST", r"/api/repos/create", account.create_repo),
    ("DELETE", r"/api/repos/delete", account.delete_repo),
    ("POST", r"/api/validate-yaml", account.validate_yaml),
    ("GET", r"/api/(models|datasets)", account.list_repos),
    ("PUT", r"/lfs-storage/([0-9a-f]{64})", account.store_lfs),
    ("GET POST", r"/api/collections", collections.collections),
    ("GET PATCH DELETE", rf"/api/collections/{_SLUG}", collections.collection),
    ("POST", rf"/api/collections/{_SLUG}/items", collections.add_item),
    ("PATCH DELETE", rf"/api/collections/{_SLUG}/items/([0-9a-f]+)", collections.item),
]

_IN_REPOSITORY: list[tuple[str, str, str, Callable[[Call], Answer]]] = [
    ("GET", rf"{_API}(?:/revision{_REV})?", "info", contents.repo_info),
    ("GET", rf"{_API}/tree{_REV}(?:/(?P<path>.+))?", "info", contents.tree),
    ("POST", rf"{_API}/paths-info{_REV}", "info", contents.paths_info),
    ("GET", rf"{_API}/commits{_REV}", "info", contents.commits),
    ("GET", rf"{_API}/refs", "info", contents.refs),
    ("POST DELETE", rf"{_API}/branch/(?P<name>[^/]+)", "write", contents.branch),
    ("POST DELETE", rf"{_API}/tag{_REV}", "write", contents.tag),
    ("POST", rf"{_API}/preupload{_REV}", "write", contents.preupload),
    ("POST", rf"{_API}/commit{_REV}", "write", contents.add_commit),
    ("GET", rf"{_API}/xet-read-token{_REV}", "content", contents.xet_token),
    ("GET", rf"{_API}/xet-write-token{_REV}", "write", contents.xet_token),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", "write", contents.lfs_batch),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/verify", "write", contents.lfs_verify),
    ("GET HEAD", rf"{_PAGE}/resolve{_REV}/(?P<path>.+)", "content", contents.send_file),
]
