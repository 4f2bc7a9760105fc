"""What goes wrong with a pull: one sentence for each, and nothing left behind."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from torch import nn

from hub_export import HubError, VerificationError, list_networks, pull, push, stage, verify
from hub_export.files import PUBLISHED

from ..hub_server import HubServer, environment
from ..hub_server.repository import Blob
from .conftest import REPO, WEIGHTS, use
from .test_verification import make_hostile


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "refs"
    )


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize(
    "effects",
    [
        {"close_after": 100_000},
        {"close_after": 100_000, "reset": True},
        {"status": 500},
        {"status": 503},
        {"cut_to": 100_000},
    ],
    ids=["closed", "reset", "500", "503", "short"],
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
    ("request_", "status"), [(INFO, 500), (INFO, 503), ("HEAD .*/config", 500), ("HEAD .*/resolve/main/", 503)]
)
def test_an_answer_that_fails_once_is_asked_for_again(hub: HubServer, pushed: str, request_: str, status: int) -> None:
    fault = hub.inject(request_, times=1, status=status)
    assert pull(REPO).name == pushed
    assert fault.times == 0


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize(
    ("request_", "status"),
    [(WEIGHTS, 500), (INFO, 503), ("HEAD .*/config", 503)],
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
    monkeypatch.setattr("hub_export.download._TIMEOUT_S", 1.0)
    hub.inject(INFO, times=1, delay_s=2.0)
    assert pull(REPO).name == pushed


@pytest.mark.usefixtures("without_xet")
def test_a_connection_that_always_breaks_is_given_up(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    hub.inject(WEIGHTS, close_after=1000, reset=True)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke: .*\. Try again\."):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not [name for name in cached_files(tmp_path) if name.endswith(".incomplete")]


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_a_byte_that_is_flipped_once_is_repaired(
    hub: HubServer, pushed: str, staged: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.inject(f"GET .*/{name}", times=1, flip_byte=50)
    folder = pull(REPO)
    assert (folder / name).read_bytes() == hub.repositories["models", REPO].head.files[name].content
    assert f"{name} of {REPO} is damaged or cut short" in caplog.text


@pytest.mark.usefixtures("without_xet")
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


@pytest.mark.usefixtures("without_xet")
def test_a_file_that_is_always_short_is_named_and_not_kept(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    hub.inject(WEIGHTS, cut_to=100_000)
    with pytest.raises(
        VerificationError, match=r"model\.safetensors of alice/network at \w+ came damaged .* try again"
    ):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert "model.safetensors" not in cached_files(tmp_path)


def flip_last_byte(path: Path) -> None:
    path.chmod(0o644)  # the client's blobs that all share are read-only
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 0xFF]))


def test_a_pull_by_each_way(hub: HubServer, pushed: str, staged: Path, tmp_path: Path, transfer: str) -> None:
    snapshot, folder = pull(REPO), pull(REPO, folder=tmp_path / "back")
    verify(snapshot)
    for name in PUBLISHED:
        content = (staged / name).read_bytes() if (staged / name).exists() else None
        assert [(place / name).exists() and (place / name).read_bytes() == content for place in (snapshot, folder)] == (
            [content is not None] * 2
        )
    assert not [path for path in folder.iterdir() if path.is_symlink()]
    blob = (snapshot / "model.safetensors").resolve()
    shared = transfer == "xet" and hasattr(constants, "HF_HUB_DISABLE_SHARED_BLOBS")
    assert blob.is_relative_to(tmp_path / "cache" / ("blobs" if shared else "models--alice--network/blobs"))
    assert bool([line for line in hub.requests if re.search(WEIGHTS, line)]) == (transfer == "lfs")


def test_repositories_share_what_is_equal(hub: HubServer, pushed: str, staged: Path, transfer: str) -> None:
    hub.seed(staged, "alice/second")
    first, second = pull(REPO), pull("alice/second")
    flip_last_byte((second / "model.safetensors").resolve())
    for again in (pull("alice/second"), pull(REPO)):
        verify(again)
    assert push(first, "alice/third").oid == hub.commit("alice/third")


def test_a_cache_that_was_pruned_is_filled_again(
    hub: HubServer, pushed: str, transfer: str, unplug: Callable[[], None]
) -> None:
    snapshot = pull(REPO)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(VerificationError, match=r"model\.safetensors is missing"):
        verify(snapshot)
    assert pull(REPO) == snapshot
    (snapshot / "model.safetensors").resolve().unlink()
    unplug()
    with pytest.raises(VerificationError, match=r"model\.safetensors is missing\. Stage or pull it again"):
        pull(REPO)


def test_a_cache_on_another_disk(
    hub: HubServer, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "link"))
    verify(pull(REPO))
    verify(pull(REPO, folder=tmp_path / "back"))


def xorbs(hub: HubServer) -> list[Path]:
    """Return the files that hold the content in the Hub's Xet storage."""
    return [path for path in hub.xet.folder.rglob("xorbs/default.*") if path.suffix != ".tagset"]  # type: ignore[union-attr]


def test_xet_that_gives_other_bytes(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    pull(REPO, folder=tmp_path / "first")  # the storage is filled now
    shutil.rmtree(tmp_path / "cache")
    for path in xorbs(hub):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(VerificationError, match=r"\w+\.\w+ of alice/network at \w+ came damaged twice"):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not list((tmp_path / "cache").rglob("blobs/??/*[0-9a-f]"))


def test_xet_that_has_lost_a_file(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    pull(REPO, folder=tmp_path / "first")
    shutil.rmtree(tmp_path / "cache")
    for path in xorbs(hub):
        path.unlink()
    with pytest.raises(HubError, match=r"alice/network: the transfer failed: .*\. Try again\."):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=6', "RateLimit-Policy": '"fixed window";"api";q=5;w=9'}],
)
@pytest.mark.parametrize("request_", [INFO, WEIGHTS])
@pytest.mark.usefixtures("without_xet")
def test_a_hub_that_asks_to_slow_down_is_waited_for(
    hub: HubServer, pushed: str, pauses: list[float], request_: str, headers: dict[str, str]
) -> None:
    hub.inject(request_, times=2, status=429, headers=headers)
    assert pull(REPO).name == pushed
    assert pauses in ([7, 7], [8, 8])  # the client's own pauses are a second longer


def test_a_hub_that_asks_to_wait_for_long_is_not_waited_for(hub: HubServer, pushed: str, pauses: list[float]) -> None:
    hub.inject(INFO, status=429, headers={"Retry-After": "3600"})
    with pytest.raises(HubError, match=r"the Hub asks to slow down\. Try again in 3600 s \(status 429\)\."):
        pull(REPO)
    assert not pauses


@pytest.mark.parametrize(
    ("request_", "effects"),
    [
        (INFO, {"status": 503}),
        ("HEAD .*/config", {"status": 503}),
        (WEIGHTS, {"status": 503}),
        (WEIGHTS, {"status": 429}),
        (WEIGHTS, {"close_after": 1000}),
        (WEIGHTS, {"close_after": 1000, "reset": True}),
        ("GET .*/xet-read-token/", {"status": 503}),
    ],
    ids=["info", "head", "file", "slow", "closed", "reset", "token"],
)
def test_a_request_is_repeated_by_the_client_or_here(
    hub: HubServer, pushed: str, pauses: list[float], request: pytest.FixtureRequest, request_: str, effects: Any
) -> None:
    if request_ == WEIGHTS:
        request.getfixturevalue("without_xet")
    hub.inject(request_, **effects)
    with pytest.raises(HubError):
        pull(REPO)
    assert 3 <= len(pauses) <= 5


@pytest.mark.parametrize("page_size", [1000, 1])
def test_a_list_is_repeated_by_the_client_or_here(
    hub: HubServer, pushed: str, staged: Path, pauses: list[float], page_size: int
) -> None:
    hub.seed(staged, "alice/second")
    hub.page_size = page_size
    if page_size == 1:
        hub.inject("GET /api/models$", times=1)  # the first page comes
    hub.inject("GET /api/models$", status=503)
    with pytest.raises(HubError, match="the list: the Hub is in trouble"):
        list_networks()
    assert 3 <= len(pauses) <= 5
    hub.faults.clear()
    assert len(list_networks()) == 2


def test_a_cache_that_was_damaged_is_repaired(hub: HubServer, pushed: str, staged: Path, transfer: str) -> None:
    path = pull(REPO) / "model.safetensors"
    flip_last_byte(path.resolve())
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


def test_a_hostile_repository_is_refused(hub: HubServer, staged: Path, tmp_path: Path) -> None:
    make_hostile(staged, lambda config: config.update(architecture="../../../etc/passwd"))
    hub.seed(staged, REPO)
    with pytest.raises(VerificationError, match="unknown architecture"):
        pull(REPO, folder=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_other_files_are_not_downloaded(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    repository = hub.repositories["models", REPO]
    paths = "../../../evil.txt", "/evil.txt", "evil.bin", "a/config.json"
    repository.add_commit({path: Blob.of(path, b"evil") for path in paths}, title="Evil")
    folder = pull(REPO, folder=tmp_path / "back")
    assert {path.name for path in folder.iterdir()} == repository.find(pushed).files.keys()  # type: ignore[union-attr]
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and b"evil" == found.read_bytes()]


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
    with pytest.raises(VerificationError, match=r"config\.json differs from what was staged"):
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
        timeout=600,
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
