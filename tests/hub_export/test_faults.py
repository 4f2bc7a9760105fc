"""What goes wrong between here and the Hub: one sentence for each, and both sides as they were."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from torch import nn

from hub_export import HubError, VerificationError, list_networks, pull, push, stage
from hub_export.reference import file_digest

from ..hub_server import HubServer, environment
from ..hub_server.repository import Blob
from .conftest import REPO, use
from .test_verification import Change, make_hostile

WEIGHTS = r"GET .*/model\.safetensors"
COMMIT = "POST .*/commit/"


@pytest.fixture
def pushed(hub: HubServer, staged: Path) -> str:
    """Put a network on the Hub, and return its commit's hash; the client's cache is empty."""
    return hub.seed(staged, REPO).oid


@pytest.fixture
def state(hub: HubServer) -> Callable[[], object]:
    """Return a function that tells what the Hub shows."""

    def show() -> object:
        return {
            name: (dict(repo.branches), dict(repo.tags), dict(repo.pull_requests), sorted(repo.commits))
            for name, repo in hub.repositories.items()
        }

    return show


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "refs"
    )


def edit_card(staged: Path) -> None:
    (staged / "README.md").write_text((staged / "README.md").read_text() + "\nNext.\n")


# Downloads


@pytest.mark.parametrize(
    "effects",
    [{"close_after": 100_000}, {"close_after": 100_000, "reset": True}, {"status": 500}, {"status": 503}],
    ids=["closed", "reset", "500", "503"],
)
def test_a_download_that_breaks_once_is_taken_up_again(
    hub: HubServer, pushed: str, staged: Path, effects: dict[str, int]
) -> None:
    fault = hub.inject(WEIGHTS, times=1, **effects)
    folder = pull(REPO)
    assert fault.times == 0
    assert (folder / "model.safetensors").read_bytes() == (staged / "model.safetensors").read_bytes()


INFO = "GET /api/models/[^/]*/[^/]*(/revision.*)?$"


@pytest.mark.parametrize(
    ("request_", "status"), [(INFO, 500), (INFO, 503), ("GET .*/tree/", 503), ("HEAD .*/config", 500)]
)
def test_an_answer_that_fails_once_is_asked_for_again(hub: HubServer, pushed: str, request_: str, status: int) -> None:
    fault = hub.inject(request_, times=1, status=status)
    assert pull(REPO).name == pushed
    assert fault.times == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [(WEIGHTS, 500), (WEIGHTS, 503), (INFO, 503), ("GET .*/tree/", 500), ("HEAD .*/config", 503)],
)
def test_a_hub_that_fails_for_ever_is_given_up(
    hub: HubServer, pushed: str, tmp_path: Path, request_: str, status: int
) -> None:
    hub.inject(request_, status=status)
    with pytest.raises(
        HubError, match=rf"alice/network: the Hub is in trouble\. Try again later \(status {status}\)\."
    ):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".back")]


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, "the Hub asks to slow down. Try again later (status 429)."), (418, "injected fault (status 418).")],
)
def test_other_refusals(hub: HubServer, pushed: str, status: int, message: str) -> None:
    hub.inject(INFO, status=status)
    with pytest.raises(HubError, match=re.escape(f"alice/network: {message}")):
        pull(REPO)


def test_a_hub_that_hangs_is_asked_again(hub: HubServer, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_export.download._TIMEOUT_S", 0.2)
    hub.inject(INFO, times=1, delay_s=1.0)
    assert pull(REPO).name == pushed


def test_a_connection_that_always_breaks_is_given_up(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    hub.inject(WEIGHTS, close_after=1000, reset=True)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke: .*\. Try again\."):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not [name for name in cached_files(tmp_path) if name.endswith(".incomplete")]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_a_byte_that_is_flipped_once_is_repaired(
    hub: HubServer, pushed: str, staged: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.inject(f"GET .*/{name}", times=1, flip_byte=50)
    folder = pull(REPO)
    assert (folder / name).read_bytes() == hub.repositories["models", REPO].head.files[name].content
    assert f"{name} of {REPO} is damaged; it is downloaded once more" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_byte_that_is_always_flipped_is_named_and_not_kept(
    hub: HubServer, pushed: str, tmp_path: Path, name: str
) -> None:
    hub.inject(f"GET .*/{name}", flip_byte=50)
    with pytest.raises(VerificationError, match=rf"{name} of alice/network at {pushed} came damaged twice"):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert name not in cached_files(tmp_path)
    hub.faults.clear()
    assert pull(REPO).name == pushed


def test_a_cache_that_was_damaged_is_repaired(hub: HubServer, pushed: str, staged: Path) -> None:
    path = pull(REPO) / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 0xFF
    path.write_bytes(damaged)
    assert pull(REPO) == path.parent
    assert path.read_bytes() == (staged / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "alice/nothing"}, r"has no repository alice/nothing, or it is private"),
        ({"repo_id": REPO, "revision": "nothing"}, r"alice/network has no revision 'nothing'\. Name a branch"),
        ({"repo_id": REPO, "token": "hf_wrong"}, r"the Hub does not accept the token\. .* \(status 401\)"),
        ({"repo_id": "alice/private", "token": "hf_bob"}, "has no repository alice/private, or it is private"),
        ({"repo_id": "alice/gated", "token": "hf_bob"}, "alice/gated is gated. Ask for access at http"),
        ({"repo_id": "alice/other"}, r"alice/other at \w+ has no manifest\.json: it was not pushed by this package"),
    ],
    ids=["repository", "revision", "token", "private", "gated", "foreign"],
)
def test_what_the_hub_does_not_give(
    hub: HubServer, pushed: str, staged: Path, tmp_path: Path, arguments: dict[str, str], message: str
) -> None:
    hub.seed(staged, "alice/private", private=True)
    hub.seed(staged, "alice/gated")
    hub.repositories["models", "alice/gated"].gated = True
    HfApi(endpoint=hub.url).create_repo("alice/other")
    with pytest.raises(HubError, match=message):
        pull(**arguments, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_private_network_with_the_right_token(hub: HubServer, staged: Path) -> None:
    hub.seed(staged, "alice/private", private=True)
    assert pull("alice/private", token="hf_alice").name == hub.commit("alice/private")


HOSTILE: dict[str, tuple[Change, str]] = {
    "unknown": (lambda config: config.update(architecture="evil_net"), "unknown architecture 'evil_net'"),
    "traversal": (lambda config: config.update(architecture="../../../etc/passwd"), "unknown architecture"),
    "huge": (lambda config: config["model_args"].update(channels=[2**20] * 4), r"instead of \(1048576,"),
    "elsewhere": (lambda config: config["pretrained_cfg"].update(file="../../x"), "where else weights are"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_repository_is_refused(hub: HubServer, staged: Path, tmp_path: Path, kind: str) -> None:
    change, message = HOSTILE[kind]
    make_hostile(staged, change)
    hub.seed(staged, REPO)
    with pytest.raises(VerificationError, match=message):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("path", ["../../../evil.txt", "/evil.txt", "evil.bin", "a/config.json"])
def test_other_files_are_not_downloaded(hub: HubServer, pushed: str, tmp_path: Path, path: str) -> None:
    repository = hub.repositories["models", REPO]
    repository.add_commit({path: Blob.of(path, b"evil")}, title="Evil")
    folder = pull(REPO, folder=tmp_path / "back")
    assert {path.name for path in folder.iterdir()} == repository.find(pushed).files.keys()  # type: ignore[union-attr]
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and b"evil" == found.read_bytes()]


# Without a network


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which nobody answers where the Hub was."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    return lambda: use(url, monkeypatch)


def test_no_network_and_nothing_in_the_cache(hub: HubServer, pushed: str, unplug: Callable[[], None]) -> None:
    unplug()
    with pytest.raises(HubError, match=r"127\.0\.0\.1:\d+ cannot be reached, and alice/network is not in the cache"):
        pull(REPO)
    with pytest.raises(HubError, match=r"127\.0\.0\.1:\d+ cannot be reached\. Check the connection"):
        list_networks()


def test_no_network_and_a_warm_cache(
    hub: HubServer, pushed: str, unplug: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = pull(REPO)
    unplug()
    assert pull(REPO) == pull(REPO, revision=pushed) == snapshot
    assert f"cannot be reached; alice/network is from the cache, at {pushed}" in caplog.text
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"must hold what was staged, but config\.json differs"):
        pull(REPO)


def test_offline_mode(hub: HubServer, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = pull(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pull(REPO) == snapshot
    with pytest.raises(HubError, match="cannot be reached, and alice/nothing is not in the cache"):
        pull("alice/nothing")


def test_no_network_for_a_push(hub: HubServer, staged: Path, unplug: Callable[[], None]) -> None:
    unplug()
    with pytest.raises(HubError, match=r"cannot be reached\. Check the connection"):
        push(staged, REPO)


# Uploads


@pytest.mark.parametrize(("times", "status"), [(1, 500), (2, 503)])
def test_a_commit_that_fails_is_tried_again(hub: HubServer, staged: Path, times: int, status: int) -> None:
    hub.inject(COMMIT, times=times, status=status)
    oid = push(staged, REPO).oid
    repository = hub.repositories["models", REPO]
    assert repository.head.oid == oid
    assert len(repository.commits) == 2


@pytest.mark.parametrize(
    ("create_pr", "reset"), [(False, False), (False, True), (True, False)], ids=["closed", "reset", "pull_request"]
)
def test_a_commit_whose_answer_is_lost_is_found(
    hub: HubServer, pushed: str, staged: Path, create_pr: bool, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    edit_card(staged)
    hub.inject(COMMIT, times=1, lose_answer=True, reset=reset)
    commit = push(staged, REPO, create_pr=create_pr)
    repository = hub.repositories["models", REPO]
    assert len(repository.commits) == 2
    assert commit.oid == (repository.pull_requests[1] if create_pr else repository.branches["main"])
    assert commit.pr_url == (f"{hub.url}/{REPO}/discussions/1" if create_pr else None)
    assert "answer was lost, but the commit is there" in caplog.text


@pytest.mark.parametrize(
    "request_",
    ["POST .*/commit/", "POST .*/preupload/", "PUT /lfs-storage/", "POST .*/objects/verify", "POST .*/batch"],
)
@pytest.mark.parametrize("new", [True, False], ids=["new", "known"])
def test_an_upload_that_fails_for_ever_leaves_nothing(
    hub: HubServer, staged: Path, state: Callable[[], object], request_: str, new: bool
) -> None:
    if not new:
        HfApi(endpoint=hub.url).create_repo(REPO)
    before = state()
    hub.inject(request_, status=503)
    with pytest.raises(HubError, match=r"alice/network: the Hub is in trouble\. Try again later \(status 503\)\."):
        push(staged, REPO, revision="next", tag="v1")
    assert state() == before


def test_a_lost_connection_in_the_upload(hub: HubServer, staged: Path, state: Callable[[], object]) -> None:
    hub.inject("PUT /lfs-storage/", lose_answer=True, reset=True)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke"):
        push(staged, REPO)
    assert state() == {}


@pytest.fixture
def xet(hub: HubServer, staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the client upload over Xet, its default, to a folder that the Hub has the same files of."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.xet_folder = tmp_path / "xet"
    hub.lfs = {file_digest(path): path.read_bytes() for path in staged.iterdir()}
    return hub.xet_folder


def test_a_push_over_xet(hub: HubServer, staged: Path, xet: Path) -> None:
    assert push(staged, REPO).oid == hub.commit(REPO)
    assert not [request for request in hub.requests if "lfs-storage" in request]
    stored = sum(path.stat().st_size for path in xet.rglob("*") if path.is_file())
    assert stored > (staged / "model.safetensors").stat().st_size


def test_a_push_over_xet_that_fails(hub: HubServer, staged: Path, xet: Path, state: Callable[[], object]) -> None:
    hub.inject("xet-write-token", status=403)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke: .* \(403 Forbidden\)"):
        push(staged, REPO)
    assert state() == {}


def test_what_was_made_in_vain_and_cannot_be_removed_is_told(
    hub: HubServer, staged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.inject(COMMIT, status=500)
    hub.inject("DELETE", status=403)
    with pytest.raises(HubError, match="status 500"):
        push(staged, REPO, revision="next")
    assert "alice/network was made and stays, empty" in caplog.text
    assert "The branch next of alice/network was made and stays" in caplog.text


def test_two_pushes_at_once(hub: HubServer, pushed: str, staged: Path) -> None:
    edit_card(staged)
    api = HfApi(endpoint=hub.url)
    rival = [CommitOperationAdd("rival.txt", b"first")]
    hub.inject(COMMIT, times=1, call=lambda: api.create_commit(REPO, rival, commit_message="Rival"))
    with pytest.raises(HubError, match="Somebody else pushed to main of alice/network at the same time; nothing"):
        push(staged, REPO)
    repository = hub.repositories["models", REPO]
    assert repository.head.title == "Rival"
    assert len(repository.commits) == 2
    push(staged, REPO)
    assert {"rival.txt", "model.safetensors"} <= repository.head.files.keys()


def test_two_first_pushes_at_once(hub: HubServer, staged: Path) -> None:
    api = HfApi(endpoint=hub.url)
    rival = [CommitOperationAdd("rival.txt", b"first")]
    hub.inject(COMMIT, times=1, call=lambda: api.create_commit(REPO, rival, commit_message="Rival"))
    with pytest.raises(HubError, match="Somebody else pushed"):
        push(staged, REPO)
    assert "rival.txt" in hub.repositories["models", REPO].head.files  # it is not ours to remove any more


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": "hf_wrong"}, r"the Hub does not accept the token.* \(status 401\)"),
        ({"token": "hf_bob"}, r"the token may not do this.* \(status 403\)"),
        ({"token": "hf_bob", "repo_id": "alice/new"}, r"the token may not do this.* \(status 403\)"),
    ],
    ids=["wrong", "other", "namespace"],
)
def test_who_may_not_push(
    hub: HubServer, pushed: str, staged: Path, state: Callable[[], object], arguments: dict[str, str], message: str
) -> None:
    edit_card(staged)
    before = state()
    with pytest.raises(HubError, match=message):
        push(staged, **{"repo_id": REPO, **arguments})
    assert state() == before


def test_a_push_without_a_token(hub: HubServer, staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"the Hub does not accept the token\. Set HF_TOKEN, or log in"):
        push(staged, REPO)


def test_what_comes_back_damaged_gets_no_tag(hub: HubServer, staged: Path) -> None:
    hub.inject(WEIGHTS, flip_byte=-1)
    with pytest.raises(VerificationError, match=r"Commit \w{40} is on the Hub, but what comes back differs: model"):
        push(staged, REPO, tag="v1")
    assert not hub.repositories["models", REPO].tags


@pytest.mark.parametrize("effects", [{"status": 500}, {"lose_answer": True}], ids=["500", "lost"])
def test_a_tag_is_set_in_the_end(hub: HubServer, staged: Path, effects: dict[str, Any]) -> None:
    hub.inject("POST .*/tag/", times=1, **effects)
    assert push(staged, REPO, tag="v1").oid == hub.repositories["models", REPO].tags["v1"]


def test_a_tag_that_cannot_be_set_is_told(hub: HubServer, staged: Path) -> None:
    hub.inject("POST .*/tag/", status=403)
    with pytest.raises(HubError, match=r"Commit \w{40} is on the Hub and verified, but its tag was not set: alice"):
        push(staged, REPO, tag="v1")


def test_what_cannot_be_brought_back_is_told(hub: HubServer, staged: Path) -> None:
    hub.inject(WEIGHTS, status=503)
    with pytest.raises(HubError, match=r"Commit (\w{40}) is on the Hub, but it could not be .* --revision \1`; no tag"):
        push(staged, REPO, tag="v1")
    assert not hub.repositories["models", REPO].tags


def test_a_damaged_folder_is_not_pushed(hub: HubServer, staged: Path) -> None:
    (staged / "config.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"config\.json differs"):
        push(staged, REPO)
    assert not hub.requests


# Disks

LIMITED = """
import json
import sys
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

from hub_export import pull, stage

target = sys.argv[1]
messages = []


def attempt(call, *args, **kwargs):
    setrlimit(RLIMIT_FSIZE, (200_000, RLIM_INFINITY))  # bytes
    try:
        call(*args, **kwargs)
    except OSError as error:
        messages.append(str(error))
    setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))


attempt(pull, "alice/network", folder=target)
snapshot = pull("alice/network")
attempt(pull, "alice/network", folder=target)
attempt(stage, snapshot, target)
print(json.dumps(messages))
"""


def test_a_full_disk(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, str(tmp_path / "back")],
        env={**os.environ, **environment(hub, tmp_path / "home", "hf_alice")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cache, copy, weights = json.loads(done.stdout.splitlines()[-1])
    assert cache.endswith("home/hub, the cache, cannot be written: File too large.")
    assert copy.endswith("back cannot be written: File too large.")
    assert "back cannot be written: " in weights
    assert not (tmp_path / "back").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".back")]
    assert not [path for path in (tmp_path / "home").rglob("*") if path.name.endswith(".incomplete")]


def test_a_read_only_target(hub: HubServer, pushed: str, network: nn.Module) -> None:
    for write in (lambda folder: pull(REPO, folder=folder), lambda folder: stage(network, folder)):
        with pytest.raises(OSError, match=r"/sys/network cannot be written: (Read-only|Operation not|Permission)"):
            write("/sys/network")


def test_a_read_only_cache(hub: HubServer, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/sys/cache")
    with pytest.raises(
        OSError, match=r"/sys/cache, the cache, cannot be written: (Read-only|Operation not|Permission)"
    ):
        pull(REPO)
