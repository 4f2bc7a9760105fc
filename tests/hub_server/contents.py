"""The Hub's endpoints below one repository."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from .answers import Answer, Call, Refusal, page
from .listing import commit_row, info, tree_rows
from .repository import Blob, Commit, is_lfs


def repo_info(call: Call) -> Answer:
    return Answer.of_json(info(call.repo, call.commit()))


def tree(call: Call) -> Answer:
    commit, folder = call.commit(), call.groups.get("path", "")
    recursive = call.request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    rows = tree_rows(commit, folder, recursive, call.server.xet)
    if folder and not rows:
        raise Refusal(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    return page(call.server, call.request, rows)


def paths_info(call: Call) -> Answer:
    text = call.request.body.decode()
    paths = call.request.json["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    rows = tree_rows(call.commit(), "", recursive=True, xet=call.server.xet)
    return Answer.of_json([row for row in rows if row["path"] in [path.rstrip("/") for path in paths]])


def commits(call: Call) -> Answer:
    return page(call.server, call.request, [commit_row(commit) for commit in call.repo.history(call.commit())])


def refs(call: Call) -> Answer:
    repo = call.repo

    def rows(prefix: str, refs: Mapping[Any, str]) -> list[dict[str, str]]:
        return [{"name": str(n), "ref": f"refs/{prefix}/{n}", "targetCommit": oid} for n, oid in refs.items()]

    pull_requests = {"pullRequests": rows("pr", repo.pull_requests)} if "include_prs" in call.request.query else {}
    refs = {"branches": rows("heads", repo.branches), "tags": rows("tags", repo.tags), "converts": []}
    return Answer.of_json({**refs, **pull_requests})


def branch(call: Call) -> Answer:
    name = call.groups["name"]
    if call.request.method == "DELETE":
        return _remove(call.repo.branches, name)
    if name in call.repo.branches:
        raise Refusal(409, f"Reference already exists: {name}")
    call.groups["revision"] = call.request.json.get("startingPoint", "main")
    call.repo.branches[name] = call.commit().oid
    return Answer.of_json({}, 201)


def tag(call: Call) -> Answer:
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


def preupload(call: Call) -> Answer:
    known = call.commit().files
    rows = []
    for file in call.request.json["files"]:
        path = file["path"]
        lfs = is_lfs(path, file["size"], base64.b64decode(file["sample"]))
        row = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        rows.append({**row, "oid": known[path].etag} if path in known else row)
    return Answer.of_json({"files": rows})


def xet_token(call: Call) -> Answer:
    """Send the client's `hf_xet` to the folder that stands for the Hub's Xet storage."""
    if call.server.xet is None:
        raise Refusal(404, "no Xet storage here")
    token = call.server.xet.token
    headers = {"Cas-Url": token["casUrl"], "Access-Token": token["accessToken"], "Token-Expiration": str(token["exp"])}
    return Answer.of_json(token, headers={f"X-Xet-{name}": value for name, value in headers.items()})


def lfs_batch(call: Call) -> Answer:
    objects = []
    for item in call.request.json["objects"]:
        actions = {
            "upload": {"href": f"{call.server.url}/lfs-storage/{item['oid']}"},
            "verify": {"href": f"{call.url}.git/info/lfs/objects/verify"},
        }
        objects.append(item if item["oid"] in call.server.lfs else {**item, "actions": actions})
    return Answer.of_json({"transfer": "basic", "objects": objects})


def lfs_verify(call: Call) -> Answer:
    item = call.request.json
    if len(call.server.lfs.get(item["oid"], b"")) != item["size"]:
        raise Refusal(404, f"no such object: {item['oid']}")
    return Answer.of_json({})


def add_commit(call: Call) -> Answer:
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
        if value["oid"] not in call.server.lfs and (content := _uploaded_to_xet(call, value)) is not None:
            call.server.lfs[value["oid"]] = content
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


def _uploaded_to_xet(call: Call, file: dict[str, Any]) -> bytes | None:
    return call.server.xet.find(file["oid"], file["size"]) if call.server.xet is not None else None


def send_file(call: Call) -> Answer:
    commit = call.commit()
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    blob = commit.files.get(call.groups["path"])
    if blob is None:
        raise Refusal(404, f"no such file: {call.groups['path']}", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    headers["ETag"] = f'"{blob.etag}"'
    if blob.lfs:
        headers.update({"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob))})
        if call.server.xet is not None:
            headers["X-Xet-Hash"] = call.server.xet.add(blob.content)
            headers["Link"] = f'<{call.api_url}/xet-read-token/{commit.oid}>; rel="xet-auth"'
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.request.headers.get("range", ""))
    if wanted is None:
        return Answer(200, blob.content, headers)
    start, end = int(wanted[1]), min(int(wanted[2] or len(blob)), len(blob) - 1)
    if start >= len(blob):
        raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(blob)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(blob)}"
    return Answer(206, blob.content[start : end + 1], headers)
