"""What goes wrong with a pull: one sentence for each, and nothing left behind."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from torch import nn

from hub_export import HubError, VerificationError, list_networks, pull, push, stage

from ..hub_server import HubServer, environment
from ..hub_server.repository import Blob
from .conftest import REPO, WEIGHTS, use
from .test_verification import Change, make_hostile


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "refs"
    )


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
