"""The Hub's endpoints that are not below one repository."""

from typing import TYPE_CHECKING

from .answers import Answer, Refusal, Request, find_repository, page
from .listing import info, matches
from .repository import Blob, Repository, read_metadata

if TYPE_CHECKING:
    from .server import HubServer


def whoami(server: "HubServer", request: Request, user: str | None) -> Answer:
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    role = {"accessToken": {"displayName": "loopback", "role": "write"}}
    return Answer.of_json({"type": "user", "name": user, "fullname": user, "orgs": [], "auth": role})


def create_repo(server: "HubServer", request: Request, user: str | None) -> Answer:
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


def delete_repo(server: "HubServer", request: Request, user: str | None) -> Answer:
    options = request.json
    repo_id = f"{options.get('organization') or user}/{options['name']}"
    kind, repository = find_repository(server, {"kind": f"{options.get('type') or 'model'}s", "repo": repo_id}, user)
    if repository.owner != user:
        raise Refusal(403, f"You don't have the rights to delete {repo_id}")
    del server.repositories[kind, repo_id]
    return Answer.of_json({})


def list_repos(server: "HubServer", request: Request, user: str | None, kind: str) -> Answer:
    visible = [
        repository
        for (its_kind, _), repository in server.repositories.items()
        if its_kind == kind and (not repository.private or repository.owner == user)
    ]
    rows = [info(repository, repository.head) for repository in visible]
    return page(server, request, [row for row in rows if matches(row, request.query)])


def validate_yaml(server: "HubServer", request: Request, user: str | None) -> Answer:
    content = request.json["content"].encode()
    try:
        metadata = read_metadata(content)
    except ValueError as error:
        return Answer.of_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer.of_json({"errors": [], "warnings": warnings})


def store_lfs(server: "HubServer", request: Request, user: str | None, oid: str) -> Answer:
    blob = Blob(request.body, lfs=True)
    if blob.sha256 != oid:
        raise Refusal(400, f"sha256 of the body is {blob.sha256} instead of {oid}")
    server.lfs[oid] = request.body
    return Answer(200)
