"""What goes wrong with a push: one sentence for each, and the Hub as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from hub_export import HubError, VerificationError, push

from ..hub_server import HubServer
from .conftest import REPO, WEIGHTS

COMMIT = "POST .*/commit/"


@pytest.fixture
def state(hub: HubServer) -> Callable[[], object]:
    """Return a function that tells what the Hub shows."""

    def show() -> object:
        return {
            name: (dict(repo.branches), dict(repo.tags), dict(repo.pull_requests), sorted(repo.commits))
            for name, repo in hub.repositories.items()
        }

    return show


def edit_card(staged: Path) -> None:
    (staged / "README.md").write_text((staged / "README.md").read_text() + "\nNext.\n")


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


IN_TROUBLE = r"alice/network: the Hub is in trouble\. Try again later \(status 503\)\."
BROKEN = r"The connection to http://127\.0\.0\.1:\d+ broke"


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize(
    ("request_", "effects", "is_new", "message"),
    [
        ("POST /api/repos/create", {"status": 503}, True, IN_TROUBLE),
        ("POST .*/preupload/", {"status": 503}, True, IN_TROUBLE),
        (COMMIT, {"status": 503}, True, IN_TROUBLE),
        ("PUT /lfs-storage/", {"status": 503}, True, IN_TROUBLE),
        ("PUT /lfs-storage/", {"lose_answer": True, "reset": True}, True, BROKEN),
        ("POST .*/objects/verify", {"status": 503}, False, IN_TROUBLE),
        ("POST .*/batch", {"status": 503}, False, IN_TROUBLE),
    ],
)
def test_a_push_that_fails_for_ever_leaves_nothing(
    hub: HubServer,
    staged: Path,
    state: Callable[[], object],
    pauses: list[float],
    request_: str,
    effects: dict[str, Any],
    is_new: bool,
    message: str,
) -> None:
    if not is_new:
        HfApi(endpoint=hub.url).create_repo(REPO)
    before = state()
    hub.inject(request_, **effects)
    with pytest.raises(HubError, match=message):
        push(staged, REPO, revision="next", tag="v1")
    assert state() == before
    if request_ in ("POST /api/repos/create", "POST .*/preupload/", COMMIT):
        assert 3 <= len(pauses) <= 5  # a request is repeated by the client, or here


def test_a_push_over_xet_that_fails(hub: HubServer, staged: Path, state: Callable[[], object]) -> None:
    pytest.importorskip("hf_xet")
    hub.inject("xet-write-token", status=403)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke: .* \(403 Forbidden\)"):
        push(staged, REPO)
    assert state() == {}


def test_an_upload_over_xet_that_fails(hub: HubServer, staged: Path, state: Callable[[], object]) -> None:
    pytest.importorskip("hf_xet")
    hub.inject("POST .*/preupload/", times=1, call=(staged / "masks.png").unlink)
    with pytest.raises(HubError, match=r"alice/network: the transfer failed: .*\. Try again\."):
        push(staged, REPO)
    assert state() == {}


@pytest.mark.parametrize("request_", ["POST /api/repos/create", "POST .*/branch/"])
def test_answers_that_are_all_lost_leave_nothing(
    hub: HubServer, staged: Path, state: Callable[[], object], request_: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.inject(request_, lose_answer=True)
    hub.inject("DELETE", times=1, lose_answer=True)
    with pytest.raises(HubError, match=r"The connection to http://127\.0\.0\.1:\d+ broke"):
        push(staged, REPO, revision="next")
    assert state() == {}
    assert "may have been made" not in caplog.text


@pytest.mark.parametrize("request_", ["POST /api/repos/create", COMMIT, "POST .*/tag/"])
def test_a_hub_that_asks_to_slow_down_is_waited_for(
    hub: HubServer, staged: Path, pauses: list[float], request_: str
) -> None:
    hub.inject(request_, times=2, status=429, headers={"Retry-After": "7"})
    commit = push(staged, REPO, revision="next", tag="v1")
    assert hub.repositories["models", REPO].tags["v1"] == commit.oid
    assert pauses == [7, 7]


def test_what_was_made_in_vain_and_cannot_be_removed_is_told(
    hub: HubServer, staged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.inject(COMMIT, status=500)
    hub.inject("DELETE", status=403)
    with pytest.raises(HubError, match="status 500"):
        push(staged, REPO, revision="next")
    assert "alice/network may have been made, and stays then, empty" in caplog.text
    assert "Branch next of alice/network may have been made, and stays then" in caplog.text


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


@pytest.mark.usefixtures("without_xet")
def test_what_comes_back_damaged_gets_no_tag(hub: HubServer, staged: Path) -> None:
    hub.inject(WEIGHTS, flip_byte=-1)
    with pytest.raises(VerificationError, match=r"Commit \w{40} is on the Hub, but what comes back differs: model"):
        push(staged, REPO, tag="v1")
    assert not hub.repositories["models", REPO].tags


@pytest.mark.parametrize(
    "effects", [{"status": 500, "times": 1}, {"lose_answer": True, "times": 1}, {"lose_answer": True}]
)
def test_a_tag_is_set_in_the_end(hub: HubServer, staged: Path, effects: dict[str, Any]) -> None:
    hub.inject("POST .*/tag/", **effects)
    assert push(staged, REPO, tag="v1").oid == hub.repositories["models", REPO].tags["v1"]


def test_a_tag_that_cannot_be_set_is_told(hub: HubServer, staged: Path) -> None:
    hub.inject("POST .*/tag/", status=403)
    with pytest.raises(HubError, match=r"Commit \w{40} is on the Hub and verified, but its tag was not set: alice"):
        push(staged, REPO, tag="v1")


@pytest.mark.usefixtures("without_xet")
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
