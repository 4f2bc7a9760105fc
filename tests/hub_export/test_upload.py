import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import HfApi
from torch import nn

from hub_export import list_networks, pull, push, stage
from hub_export.upload import preview
from timm_lp import lp_convert

from ..hub_server import HubServer
from ..hub_server.repository import Blob
from .conftest import LABELS, REPO

pytestmark = pytest.mark.usefixtures("no_pictures")

FILES = {"README.md", "config.json", "manifest.json", "masks.png", "model.safetensors"}


def published(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    commit = hub.repositories["models", REPO].find(revision)
    assert commit is not None
    return {path: blob.content for path, blob in commit.files.items()}


def test_a_network_that_was_converted_by_hand_goes_there_and_back(hub: HubServer, tmp_path: Path) -> None:
    """The README's own example, continued."""
    model = timm.create_model("mobilenetv3_small_050", num_classes=5)
    model = lp_convert(model, p_init=4.0).eval()
    push(stage(model, tmp_path / "mobilenet"), REPO)
    back = timm.create_model(f"local-dir:{pull(REPO, folder=tmp_path / 'back')}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(back(images), model(images))
    assert torch.equal(timm.create_model(f"hf-hub:{REPO}", pretrained=True).eval()(images), model(images))


def test_one_commit_that_comes_back(
    hub: HubServer, network: nn.Module, staged: Path, tmp_path: Path, transfer: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        commit = push(staged, REPO, tag="v1", token="hf_alice")
    assert "hf_alice" not in caplog.text
    repository = hub.repositories["models", REPO]
    assert [row.title for row in repository.history(repository.head)] == [commit.commit_message, "initial commit"]
    assert (hub.commit(REPO), repository.tags) == (commit.oid, {"v1": commit.oid})
    assert set(published(hub)) == {".gitattributes", *FILES}
    assert not repository.private
    assert any("lfs-storage" in request for request in hub.requests) == (transfer == "lfs")
    card = published(hub)["README.md"].decode()
    assert f"hf-hub:{REPO}" in card
    assert "OWNER/NAME" not in card
    assert "OWNER/NAME" in (staged / "README.md").read_text()
    folder = pull(REPO, revision="v1", folder=tmp_path / "back")
    assert json.loads((folder / "config.json").read_text())["label_names"] == LABELS
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), network(x))


def test_an_edited_card_is_published_and_comes_back(hub: HubServer, staged: Path, tmp_path: Path) -> None:
    card = (staged / "README.md").read_text() + "\nTrained on my own photographs.\n"
    (staged / "README.md").write_text(card)
    push(staged, REPO)
    assert "my own photographs" in published(hub)["README.md"].decode()
    api = HfApi(endpoint=hub.url)
    edited = published(hub)["README.md"] + b"Edited on the Hub.\n"
    api.upload_file(path_or_fileobj=edited, path_in_repo="README.md", repo_id=REPO)
    assert (pull(REPO) / "README.md").read_bytes() == edited
    assert (pull(REPO, folder=tmp_path / "back") / "README.md").read_bytes() == edited


def test_an_unchanged_network_makes_no_commit(
    hub: HubServer, network: nn.Module, staged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = push(staged, REPO)
    for arguments in ({}, {"create_pr": True}, {"revision": "next"}):
        hub.requests.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            again = push(staged, REPO, **arguments)  # type: ignore[arg-type]
        repository = hub.repositories["models", REPO]
        assert (again.oid, again.pr_url, again.commit_url) == (first.oid, None, first.commit_url)
        assert (len(repository.commits), repository.pull_requests) == (2, {})
        assert not [request for request in hub.requests if "commit" in request or "preupload" in request]
        assert f"{REPO} has this network already, verified, at {first.oid}" in caplog.text
        assert ("no pull request was opened" in caplog.text) == ("create_pr" in arguments)
        assert "Published" not in caplog.text


def test_another_network_leaves_nothing_of_the_last(
    hub: HubServer, staged: Path, network: nn.Module, tmp_path: Path
) -> None:
    HfApi(endpoint=hub.url).create_repo(REPO)
    HfApi(endpoint=hub.url).upload_file(path_or_fileobj=b"notes", path_in_repo="notes.txt", repo_id=REPO)
    first = push(staged, REPO)
    second = push(stage(network, tmp_path / "merged", merged=True), REPO)
    assert set(published(hub)) == {".gitattributes", "notes.txt", *FILES} - {"masks.png"}
    assert json.loads(published(hub)["config.json"])["architecture"] == "large_resnet18"
    assert json.loads(published(hub, first.oid)["config.json"])["architecture"] == "lp2_resnet18"
    assert second.oid != first.oid


def test_branches_and_pull_requests(hub: HubServer, staged: Path) -> None:
    first = push(staged, REPO)
    (staged / "README.md").write_text((staged / "README.md").read_text() + "\nNext.\n")
    branch = push(staged, REPO, revision="next")
    request = push(staged, REPO, create_pr=True)
    repository = hub.repositories["models", REPO]
    assert repository.branches == {"main": first.oid, "next": branch.oid}
    assert repository.pull_requests == {1: request.oid}
    assert request.pr_url == f"{hub.url}/{REPO}/discussions/1"
    assert (pull(REPO, revision="next").name, pull(REPO, revision="refs/pr/1").name) == (branch.oid, request.oid)


def test_a_preview_changes_nothing(hub: HubServer, staged: Path) -> None:
    assert {name: state for name, (_, state) in preview(staged, REPO).items()} == dict.fromkeys(FILES, "new")
    assert not hub.repositories
    push(staged, REPO)
    (staged / "README.md").write_text((staged / "README.md").read_text() + "\nNext.\n")
    states = {name: state for name, (_, state) in preview(staged, REPO).items()}
    assert states == {**dict.fromkeys(FILES, "same"), "README.md": "changed", "manifest.json": "changed"}
    assert preview(staged, REPO)["model.safetensors"][0] == (staged / "model.safetensors").stat().st_size
    assert len(hub.repositories["models", REPO].commits) == 2
    (staged / "README.md").write_text((staged / "README.md").read_text().removesuffix("\nNext.\n"))
    assert {state for _, state in preview(staged, REPO, revision="next").values()} == {"same"}  # it starts from main


def test_what_does_not_go_with_the_repository(hub: HubServer, pushed: str, staged: Path) -> None:
    HfApi(endpoint=hub.url).create_tag(REPO, tag="v1")
    (staged / "README.md").write_text((staged / "README.md").read_text() + "\nNext.\n")
    for arguments, message in (
        ({"tag": "v1"}, "`tag` must be new, got 'v1', which alice/network has"),
        ({"revision": "v1"}, "`revision` must be a branch, got 'v1', a tag"),
        ({"private": True}, "`private` must be False, got True: alice/network is public already"),
    ):
        for way in (preview, push):
            with pytest.raises(ValueError, match=message):
                way(staged, REPO, **arguments)  # type: ignore[operator]
    assert [*hub.repositories["models", REPO].commits][-1] == pushed


def test_a_preview_tells_what_is_removed(hub: HubServer, staged: Path) -> None:
    hub.seed(staged, REPO)
    hub.repositories["models", REPO].add_commit({"results.json": Blob.of("results.json", b"{}")}, title="Results")
    assert preview(staged, REPO)["results.json"] == (0, "stale")


def test_networks_are_listed(hub: HubServer, network: nn.Module, pushed: str) -> None:
    push(network, "alice/private", private=True)  # which is staged on the way
    HfApi(endpoint=hub.url).create_repo("alice/other")
    assert [row.id for row in list_networks()] == [REPO, "alice/private"]
    assert [row.id for row in list_networks("alice", token="hf_bob")] == [REPO]
    assert not list_networks("bob")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "network"}, "`repo_id` must be 'owner/name', got 'network'"),
        ({"repo_id": "a/../b"}, "`repo_id` must be 'owner/name', got 'a/../b'"),
        ({"revision": "refs/pr/1"}, "`revision` must be a branch"),
        ({"revision": "0" * 40}, "`revision` must be a branch, got '0000"),
        ({"revision": "../x"}, "`revision` must be a name of letters"),
        ({"tag": "v 1"}, "`tag` must be a name of letters"),
        ({"tag": "v1..2"}, "`tag` must be a name of letters"),
        ({"tag": "v1."}, "`tag` must be a name of letters"),
        ({"tag": "v1.lock"}, "`tag` must be a name of letters"),
        ({"create_pr": True, "tag": "v1"}, "`create_pr` must be False with a branch or a tag"),
        ({"create_pr": True, "revision": "next"}, "`create_pr` must be False with a branch or a tag"),
    ],
    ids=["name", "traversal", "request", "commit", "path", "tag", "dots", "end", "lock", "tagged", "branched"],
)
def test_names_are_checked_first(hub: HubServer, staged: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        push(staged, **{"repo_id": REPO, **arguments})
    assert not hub.requests
