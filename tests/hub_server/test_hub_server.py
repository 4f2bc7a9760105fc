"""The loopback Hub, as the unmodified client sees it."""

import os
import re
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import _runtime

from . import HubServer, environment, serve

REPO = "alice/network"
WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\ntags:\n- timm-lp\n---\nA network.\n"


@pytest.fixture(autouse=True)
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))  # of hf_xet's log


@pytest.fixture(params=["xet", "lfs"])
def transfer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test over Xet, and over LFS as where `hf_xet` is not installed."""
    if request.param == "lfs":
        monkeypatch.setitem(_runtime._package_versions, "hf_xet", "N/A")
    else:
        pytest.importorskip("hf_xet")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serve() as server:
        yield server


@pytest.fixture
def alice(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_alice")


@pytest.fixture
def first(alice: HfApi) -> str:
    """Make a repository with a card and weights, and return its commit's hash."""
    alice.create_repo(REPO)
    return commit(alice, {"README.md": CARD.encode(), "model.safetensors": WEIGHTS, "a/b/c.txt": b"c"})


def commit(api: HfApi, files: dict[str, bytes | None], **kwargs: object) -> str:
    operations = [
        CommitOperationDelete(path) if content is None else CommitOperationAdd(path, content)
        for path, content in files.items()
    ]
    return api.create_commit(REPO, operations, commit_message="Upload", **kwargs).oid


def read(api: HfApi, path: str, folder: Path, revision: str | None = None) -> bytes:
    return Path(api.hf_hub_download(REPO, path, revision=revision, cache_dir=folder)).read_bytes()


def get(url: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response, response.read()


@pytest.mark.usefixtures("transfer")
def test_what_was_committed_comes_back(alice: HfApi, first: str, tmp_path: Path) -> None:
    assert alice.whoami()["name"] == "alice"
    info = alice.model_info(REPO, files_metadata=True)
    assert info.sha == first
    assert info.card_data.license == "mit"
    assert info.tags == ["timm-lp"]
    files = {file.rfilename: file for file in info.siblings}
    assert set(files) == {".gitattributes", "README.md", "model.safetensors", "a/b/c.txt"}
    assert files["model.safetensors"].lfs.size == len(WEIGHTS)
    assert files["README.md"].lfs is None
    assert read(alice, "model.safetensors", tmp_path) == WEIGHTS
    assert read(alice, "a/b/c.txt", tmp_path) == b"c"
    assert alice.verify_repo_checksums(REPO, cache_dir=tmp_path, revision=first).mismatches == []


@pytest.mark.usefixtures("transfer")
def test_old_commits_stay(alice: HfApi, first: str, tmp_path: Path) -> None:
    second = commit(alice, {"d.txt": b"new", "a/b/c.txt": None}, parent_commit=first)
    assert read(alice, "d.txt", tmp_path) == b"new"
    assert read(alice, "README.md", tmp_path, first) == CARD.encode()
    assert [row.commit_id for row in alice.list_repo_commits(REPO)][:2] == [second, first]
    with pytest.raises(EntryNotFoundError, match=r"no such file: a/b/c\.txt"):
        read(alice, "a/b/c.txt", tmp_path)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        commit(alice, {"d.txt": b"newer"}, parent_commit=first)


@pytest.mark.usefixtures("transfer")
def test_an_unchanged_push_makes_no_commit(alice: HfApi, first: str) -> None:
    assert commit(alice, {"README.md": CARD.encode(), "model.safetensors": WEIGHTS}) == first


def test_listings_come_in_pages(hub: HubServer, alice: HfApi, first: str) -> None:
    hub.page_size = 2
    paths = {row.path for row in alice.list_repo_tree(REPO, recursive=True)}
    assert paths == {".gitattributes", "README.md", "a", "a/b", "a/b/c.txt", "model.safetensors"}
    assert {row.path for row in alice.list_repo_tree(REPO, "a")} == {"a/b"}
    assert len(alice.list_repo_commits(REPO)) == 2
    assert [row.path for row in alice.get_paths_info(REPO, ["README.md", "nothing"])] == ["README.md"]
    assert [model.id for model in alice.list_models(author="alice", filter="timm-lp")] == [REPO]
    assert not list(alice.list_models(filter="other"))


def test_branches_tags_and_pull_requests(alice: HfApi, first: str, tmp_path: Path) -> None:
    alice.create_branch(REPO, branch="next")
    alice.create_tag(REPO, tag="v1")
    second = commit(alice, {"d.txt": b"next"}, revision="next")
    pull_request = alice.create_commit(REPO, [CommitOperationAdd("x", b"x")], commit_message="x", create_pr=True)
    assert pull_request.pr_revision == "refs/pr/1"
    refs = alice.list_repo_refs(REPO, include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "next": second}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert [ref.target_commit for ref in refs.pull_requests] == [pull_request.oid]
    assert read(alice, "x", tmp_path, "refs/pr/1") == b"x"
    with pytest.raises(HfHubHTTPError, match="409"):
        alice.create_tag(REPO, tag="v1")
    alice.delete_tag(REPO, tag="v1")
    alice.delete_branch(REPO, branch="next")
    with pytest.raises(RevisionNotFoundError):
        alice.model_info(REPO, revision="next")
    assert alice.model_info(REPO, revision=second).sha == second


def test_who_may_do_what(hub: HubServer, alice: HfApi, first: str, tmp_path: Path) -> None:
    bob, nobody = HfApi(endpoint=hub.url, token="hf_bob"), HfApi(endpoint=hub.url, token=False)
    assert read(nobody, "README.md", tmp_path) == CARD.encode()
    for stranger, status in ((bob, "403"), (nobody, "401")):
        with pytest.raises(HfHubHTTPError, match=status):
            commit(stranger, {"d.txt": b"mine"})
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_repo("alice/other")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub.url, token="hf_wrong").model_info(REPO)
    hub.repositories["models", REPO].gated = True
    with pytest.raises(GatedRepoError):
        read(bob, "model.safetensors", tmp_path)
    hub.repositories["models", REPO].private = True
    for stranger in (bob, nobody):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info(REPO)
    assert alice.model_info(REPO).private
    assert not list(nobody.list_models())


def test_a_repository_is_made_once_and_deleted(alice: HfApi) -> None:
    assert alice.create_repo(REPO, private=True).repo_id == REPO
    assert alice.create_repo(REPO, exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="409"):
        alice.create_repo(REPO)
    alice.delete_repo(REPO)
    assert not alice.repo_exists(REPO)


def test_collections(hub: HubServer, alice: HfApi, first: str) -> None:
    alice.create_repo("alice/data", repo_type="dataset")
    slug = alice.create_collection("Networks, all", description="Some.").slug
    assert re.fullmatch("alice/networks-all-[0-9a-f]{24}", slug)
    with pytest.raises(HfHubHTTPError, match="409"):
        alice.create_collection("Networks, all")
    assert alice.create_collection("Networks, all", exists_ok=True).slug == slug
    alice.add_collection_item(slug, REPO, "model", note="first")
    with pytest.raises(HfHubHTTPError, match="409"):
        alice.add_collection_item(slug, REPO, "model")
    with pytest.raises(HfHubHTTPError, match="404"):
        alice.add_collection_item(slug, "alice/nothing", "model")
    network, data = alice.add_collection_item(slug, "alice/data", "dataset").items
    assert (network.item_id, network.note, data.item_type, data.note) == (REPO, "first", "dataset", None)
    alice.update_collection_item(slug, data.item_object_id, note="second", position=0)
    alice.update_collection_metadata(slug, title="All")
    shown = alice.get_collection(slug)
    assert (shown.title, shown.description) == ("All", "Some.")
    assert [(item.item_id, item.note) for item in shown.items] == [("alice/data", "second"), (REPO, "first")]
    alice.delete_collection_item(slug, data.item_object_id)
    assert [item.item_id for item in alice.get_collection(slug).items] == [REPO]
    alice.delete_collection(slug)
    assert not hub.collections


def test_collections_are_listed_and_guarded(hub: HubServer, alice: HfApi) -> None:
    hub.page_size = 2
    bob = HfApi(endpoint=hub.url, token="hf_bob")
    slugs = [alice.create_collection(title, private=title == "c").slug for title in "abc"]
    for number in range(5):
        alice.create_repo(f"alice/{number}")
        alice.add_collection_item(slugs[0], f"alice/{number}", "model")
    assert [known.slug for known in alice.list_collections(owner="alice")] == slugs
    assert [len(known.items) for known in bob.list_collections()] == [4, 0]  # of a listing's items the first ones
    assert not list(bob.list_collections(owner="bob"))
    for refused in (
        lambda: bob.create_collection("mine", namespace="alice"),
        lambda: bob.add_collection_item(slugs[0], "alice/0", "model"),
        lambda: bob.delete_collection(slugs[0]),
    ):
        with pytest.raises(HfHubHTTPError, match="403"):
            refused()
    with pytest.raises(HfHubHTTPError, match="404"):
        bob.get_collection(slugs[2])
    with pytest.raises(BadRequestError, match="length must be less than or equal to 59"):
        alice.create_collection(60 * "a")


def test_a_card_is_checked(alice: HfApi, first: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(alice, {"README.md": b"---\na: [\n---\n"})
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        commit(alice, {"README.md": b"nothing"})


def test_a_branch_that_is_none_gets_no_commit(alice: HfApi, first: str) -> None:
    alice.create_tag(REPO, tag="v1")
    with pytest.raises(BadRequestError, match="v1 is no branch"):
        commit(alice, {"d.txt": b"x"}, revision="v1")


def test_ranges(hub: HubServer, first: str) -> None:
    url = f"{hub.url}/{REPO}/resolve/main/model.safetensors"
    response, body = get(url, Range="bytes=100-199")
    assert (response.status, body) == (206, WEIGHTS[100:200])
    assert response.headers["Content-Range"] == f"bytes 100-199/{len(WEIGHTS)}"
    assert get(url, Range="bytes=10000-")[1] == WEIGHTS[10000:]
    with pytest.raises(HTTPError, match="416"):
        get(url, Range="bytes=99999-")


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        ({"status": 503}, "503"),
        ({"close_after": 100}, "100 bytes read, 10140 more expected"),
        ({"close_after": 100, "reset": True}, "reset by peer"),
        ({"lose_answer": True}, "closed connection without response"),
    ],
    ids=["status", "close", "reset", "lose_answer"],
)
def test_faults(hub: HubServer, first: str, effects: dict[str, object], message: str) -> None:
    url = f"{hub.url}/{REPO}/resolve/main/model.safetensors"
    hub.inject(r"GET .*/model\.safetensors", times=1, **effects)
    with pytest.raises((OSError, HTTPException), match=message):
        get(url)
    assert get(url)[1] == WEIGHTS


def test_a_flipped_byte(hub: HubServer, first: str) -> None:
    hub.inject("safetensors", times=1, flip_byte=7)
    _, body = get(f"{hub.url}/{REPO}/resolve/main/model.safetensors")
    assert [i for i in range(len(WEIGHTS)) if body[i] != WEIGHTS[i]] == [7]


def test_a_lost_answer_to_a_commit_that_was_made(hub: HubServer, alice: HfApi, first: str) -> None:
    hub.inject("POST .*/commit/", times=1, lose_answer=True)
    with pytest.raises(Exception, match="disconnected without sending a response"):
        commit(alice, {"README.md": CARD.encode() + b"more"})
    assert hub.commit(REPO) != first


def answer_one_that_hung_up(hub: HubServer, request: bytes, reset: bool) -> None:
    """Let the Hub handle a client that sent this and closed the connection, or reset it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = listener.accept()
            client.sendall(request)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
    hub.process_request_thread(connection, address)


def test_a_client_may_hang_up_in_silence_and_mistakes_are_printed(
    hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = (
        "Content-Length: 9\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n",
    )
    for rest, reset in (("\r\n", True), *((rest, False) for rest in cut)):
        answer_one_that_hung_up(hub, f"GET /api/models HTTP/1.1\r\n{rest}".encode(), reset)
    assert capsys.readouterr().err == ""
    hub.inject("GET /api/models", call=lambda: 1 / 0)
    with pytest.raises(HTTPException, match="closed connection without response"):
        get(f"{hub.url}/api/models")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_data_set_is_loaded(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "root" / "datasets" / "alice" / "numbers"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    datasets.Dataset.from_dict({"x": [1, 2, 3]}).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    load = "datasets.load_dataset('alice/numbers', revision=sys.argv[1])"
    script = f"import datasets, sys; print({load}['train']['x'][:])"
    with serve(tmp_path / "root") as hub:
        command = [sys.executable, "-c", script, hub.commit("alice/numbers", "datasets")]
        variables = {**os.environ, **environment(hub, tmp_path / "home")}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "[1, 2, 3]", done.stderr


def test_a_command_with_a_hub() -> None:
    url = "os.environ['HF_ENDPOINT'] + '/api/models'"
    script = f"import os, urllib.request; print(urllib.request.urlopen({url}).read().decode())"
    command = [sys.executable, "-m", "tests.hub_server", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "[]", done.stderr
