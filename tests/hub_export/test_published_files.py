"""What is published is what was staged: nothing that was added, and nothing that is not a file of the folder."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hub_export import VerificationError, pull, push, verify
from hub_export.cli import main
from hub_export.files import PUBLISHED
from hub_export.upload import preview
from timm_lp.files import file_digest

from ..hub_server import HubServer
from ..hub_server.repository import Blob
from .conftest import REPO
from .test_verification import reseal

Check = Callable[[Path], object]
CHECKS: dict[str, Check] = {
    "verify": verify,
    "verify command": lambda folder: main(["verify", str(folder)]),
    "push": lambda folder: push(folder, REPO),
    "preview": lambda folder: preview(folder, REPO),
    "push command": lambda folder: main(["push", str(folder), REPO]),
}


Refused = Callable[[Path, str], None]


@pytest.fixture
def refused(hub: HubServer) -> Refused:
    """Return a function that asserts that a folder is refused, before the Hub is asked for anything."""

    def check(folder: Path, message: str, ways: tuple[str, ...] = ("verify", "push")) -> None:
        for way in ways:
            with pytest.raises((VerificationError, SystemExit), match=message):
                CHECKS[way](folder)
        assert not hub.requests

    return check


def test_a_published_name_that_was_added(refused: Refused, staged: Path) -> None:
    (staged / "results.json").write_text("{}")
    message = r"network: results\.json is not in manifest\.json, so it was not staged with the network\. Remove"
    refused(staged, message, tuple(CHECKS))


@pytest.mark.parametrize("name", ["README.md", "masks.png"])
def test_a_published_name_that_the_manifest_leaves_out(name: str, refused: Refused, staged: Path) -> None:
    reseal(staged, lambda manifest: manifest["files"].pop(name))
    refused(staged, r"manifest\.json is damaged" if name == "README.md" else r"masks\.png is not in manifest\.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_symbolic_link(name: str, refused: Refused, staged: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((staged / name).read_bytes() if (staged / name).exists() else b"{}")
    (staged / name).unlink(missing_ok=True)
    (staged / name).symlink_to(secret)
    refused(staged, rf"{name} must be a regular file, got a symbolic link")


@pytest.mark.parametrize("target", ["nowhere", ".", "results.json"], ids=["dangling", "directory", "itself"])
def test_a_symbolic_link_to_no_file(target: str, refused: Refused, staged: Path) -> None:
    (staged / "results.json").symlink_to(target)
    refused(staged, r"results\.json must be a regular file, got a symbolic link")


@pytest.mark.parametrize("name", ["README.md", "results.json"])
def test_a_directory(name: str, refused: Refused, staged: Path) -> None:
    (staged / name).unlink(missing_ok=True)
    (staged / name).mkdir()
    refused(staged, rf"{name} must be a regular file, got something else")


def test_a_pipe_is_not_waited_for(refused: Refused, staged: Path) -> None:
    (staged / "config.json").unlink()
    os.mkfifo(staged / "config.json")
    refused(staged, r"config\.json must be a regular file, got something else")


def test_a_folder_behind_a_link(hub: HubServer, staged: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(staged, target_is_directory=True)
    verify(tmp_path / "link")
    assert push(tmp_path / "link", REPO).oid == hub.commit(REPO)


def test_other_names_are_not_published(hub: HubServer, staged: Path, caplog: pytest.LogCaptureFixture) -> None:
    (staged / ".git").mkdir()
    (staged / "notes.txt").symlink_to("/etc/hostname")
    verify(staged)
    with caplog.at_level(logging.INFO):
        push(staged, REPO)
    assert f"Not published from {staged}: .git, notes.txt." in caplog.messages
    assert not {".git", "notes.txt"} & hub.repositories["models", REPO].head.files.keys()


def test_a_card_that_is_no_text(hub: HubServer, staged: Path) -> None:
    (staged / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"README\.md must be text in UTF-8, got .* Save it as such"):
        push(staged, REPO)
    assert not hub.requests


@pytest.mark.parametrize("folder", [None, "back"], ids=["cache", "folder"])
def test_a_file_that_was_added_on_the_hub(hub: HubServer, pushed: str, tmp_path: Path, folder: str | None) -> None:
    added = hub.repositories["models", REPO].add_commit({"results.json": Blob.of("results.json", b"{}")}, title="Add")
    with pytest.raises(VerificationError, match=rf"{REPO} at {added.oid}: results\.json is not in manifest\.json"):
        pull(REPO, folder=folder and tmp_path / folder)
    assert not (tmp_path / "back").exists()
    assert pull(REPO, revision=pushed).name == pushed


def test_the_cache_is_made_of_links_to_its_blobs(hub: HubServer, pushed: str, tmp_path: Path, transfer: str) -> None:
    snapshot = pull(REPO)
    assert (snapshot / "config.json").is_symlink()
    verify(snapshot)
    (tmp_path / "link").symlink_to(snapshot, target_is_directory=True)
    verify(tmp_path / "link")
    assert push(snapshot, "alice/again").oid == hub.commit("alice/again")


@pytest.mark.parametrize("place", ["outside", "../../refs/file"])
def test_a_link_that_leads_out_of_the_cache(hub: HubServer, pushed: str, tmp_path: Path, place: str) -> None:
    snapshot = pull(REPO)
    target = tmp_path / place if place == "outside" else snapshot / place
    shutil.copyfile(snapshot / "config.json", target)
    digest = file_digest(target)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(target)
    for check in (lambda: pull(REPO), lambda: pull(REPO, folder=tmp_path / "back"), lambda: verify(snapshot)):
        with pytest.raises(VerificationError, match=rf"{pushed}: config\.json must be a regular file, got a symbolic"):
            check()
    assert file_digest(target) == digest
    assert not (tmp_path / "back").exists()


def test_a_damaged_link_does_not_remove_what_it_leads_to(hub: HubServer, pushed: str, tmp_path: Path) -> None:
    snapshot = pull(REPO)
    (tmp_path / "mine.txt").write_text("mine")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tmp_path / "mine.txt")
    hub.inject("GET .*/config.json", flip_byte=50)
    with pytest.raises(VerificationError, match=r"config\.json"):
        pull(REPO)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "moment"), [("model.safetensors", "POST /api/repos/create"), ("config.json", "POST .*/preupload/")]
)
def test_a_file_that_changes_between_the_check_and_the_upload(
    name: str, moment: str, hub: HubServer, staged: Path
) -> None:
    def change() -> None:
        content = bytearray((staged / name).read_bytes())
        content[-3] ^= 0x01
        (staged / name).write_bytes(content)

    hub.inject(moment, times=1, call=change)
    with pytest.raises(VerificationError, match=rf"Commit \w{{40}} is on the Hub, but what comes back differs: {name}"):
        push(staged, REPO, tag="v1")
    assert not hub.repositories["models", REPO].tags


def test_a_file_that_is_added_between_the_check_and_the_upload(hub: HubServer, staged: Path) -> None:
    hub.inject("POST /api/repos/create", times=1, call=lambda: (staged / "results.json").write_text("{}"))
    push(staged, REPO)
    assert "results.json" not in hub.repositories["models", REPO].head.files
    listed = json.loads(hub.repositories["models", REPO].head.files["manifest.json"].content)["files"]
    assert listed.keys() == set(PUBLISHED) - {"manifest.json", "results.json"}
