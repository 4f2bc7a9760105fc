"""What goes wrong with a pull: one sentence for each, and nothing left behind."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from torch import nn

from hub_export import HubError, VerificationError, list_networks, pull, push, stage, verify
from hub_export.files import PUBLISHED

from ..hub_server import HubServer, environment
from ..hub_server.repository import Blob
from ..processes import WarmPython
from .conftest import REPO, WEIGHTS, silent_address, use
from .test_verification import make_hostile


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "refs"
    )


INFO = "GET /api/models/[^/]*/[^/]*(/revision.*)?$"


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize(
    ("request_", "effects"),
    [
        (WEIGHTS, {"close_after": 100_000}),
        (WEIGHTS, {"close_after": 100_000, "reset": True}),
        (WEIGHTS, {"status": 500}),
        (WEIGHTS, {"cut_to": 100_000}),
        (WEIGHTS, {"flip_byte": 50}),
        ("GET .*/README.md", {"flip_byte": 50}),
        (INFO, {"status": 503}),
        (INFO, {"delay_s": 2.0}),
        ("HEAD .*/config", {"status": 500}),
        ("HEAD .*/resolve/main/", {"status": 503}),
    ],
)
def test_a_fault_that_passes(
    hub: HubServer,
    pushed: str,
    request_: str,
    effects: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if "delay_s" in effects:
        monkeypatch.setattr("hub_export.download.TIMEOUT_S", 1.0)
    fault = hub.inject(request_, times=1, **effects)
    folder = pull(REPO)
    assert (folder.name, fault.times) == (pushed, 0)
    published = hub.repositories["models", REPO].head.files
    for path in folder.iterdir():
        assert path.read_bytes() == published[path.name].content
    assert (f"of {REPO} is damaged or cut short" in caplog.text) or "flip_byte" not in effects


IN_TROUBLE = r"alice/network: the Hub is in trouble\. Try again later \(status 50[03]\)\."
BROKEN = r"The connection to http://127\.0\.0\.1:\d+ broke: .*\. Try again\."
DAMAGED = r"(model\.safetensors|config\.json) of alice/network at \w{40} came damaged twice.* try again"


@pytest.mark.parametrize(
    ("request_", "effects", "message", "pauses_made"),
    [
        (WEIGHTS, {"status": 500}, IN_TROUBLE, range(3, 6)),
        (INFO, {"status": 503}, IN_TROUBLE, range(3, 6)),
        ("HEAD .*/config", {"status": 503}, IN_TROUBLE, range(3, 6)),
        ("GET .*/xet-read-token/", {"status": 503}, IN_TROUBLE, range(3, 6)),
        (WEIGHTS, {"status": 429}, "the Hub asks to slow down", range(3, 6)),
        (INFO, {"status": 429}, r"slow down\. Try again later \(status 429\)\.", range(3, 6)),
        (INFO, {"status": 429, "headers": {"Retry-After": "3600"}}, r"Try again in 3600 s \(status 429\)\.", range(1)),
        (INFO, {"status": 418}, r"alice/network: injected fault \(status 418\)\.", range(1)),
        (WEIGHTS, {"close_after": 1000}, BROKEN, range(3, 6)),
        (WEIGHTS, {"close_after": 1000, "reset": True}, BROKEN, range(3, 6)),
        (WEIGHTS, {"flip_byte": 50}, DAMAGED, range(1)),
        ("GET .*/config.json", {"flip_byte": 50}, DAMAGED, range(1)),
        (WEIGHTS, {"cut_to": 100_000}, DAMAGED, range(6)),
    ],
)
def test_a_fault_that_stays(
    hub: HubServer,
    pushed: str,
    pauses: list[float],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    request_: str,
    effects: dict[str, Any],
    message: str,
    pauses_made: range,
) -> None:
    if "xet" not in request_:
        request.getfixturevalue("without_xet")
    hub.inject(request_, **effects)
    with pytest.raises((HubError, VerificationError), match=message) as caught:
        pull(REPO, folder=tmp_path / "back")
    assert isinstance(caught.value, VerificationError) == (message == DAMAGED)
    assert len(pauses) in pauses_made  # a request is repeated by the client, or here
    assert not [path for path in tmp_path.iterdir() if "back" in path.name]
    left = cached_files(tmp_path)
    assert not [name for name in left if name.endswith(".incomplete")]
    assert message != DAMAGED or str(caught.value).split(" of ")[0].split(": ")[-1] not in left
    hub.faults.clear()
    assert pull(REPO).name == pushed


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


def test_a_cache_on_another_disk(hub: HubServer, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def unplug(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function after which nobody answers where the Hub was."""
    with silent_address() as address:
        yield lambda: use(address, monkeypatch)


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


def test_a_full_disk(hub: HubServer, pushed: str, tmp_path: Path, python: WarmPython) -> None:
    done = python("-c", LIMITED, tmp_path / "back", **environment(hub, tmp_path / "home", "hf_alice"))
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
