"""Push a network or a staged folder to the Hub as one verified commit, whole or not at all."""

import logging
import tempfile
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from torch import nn

from timm_lp.files import file_digest

from .cards.card import fill_repo_id
from .download import fetch, hub_api, read_published
from .errors import (
    HubError,
    VerificationError,
    clear_errors,
    clear_transfer_errors,
    naming,
    retry,
    transport_error,
)
from .files import CARD, MANIFEST, PUBLISHED, clear_disk_errors, find_staged, is_same
from .staging import stage
from .target import Target, check_names, check_target, list_refs, open_target
from .verification import seal_manifest, verify_edited

_logger = logging.getLogger(__name__)

_MESSAGE = "Upload a network with timm-lp"
_STALE = 412  # status: the branch is no longer at the commit's parent


def push(
    folder_or_model: nn.Module | str | Path,
    repo_id: str,
    *,
    revision: str = "main",
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
) -> CommitInfo:
    """Publish a network as one commit, then bring that commit back by its hash and verify it.

    Everything is verified here before the Hub is asked for anything. What fails before the commit leaves the Hub as
    it was; a repository or branch that was made for it is removed again. If the answer to the commit is lost, the
    Hub's history tells whether it was made. The tag is set last, on what was verified.

    Args:
        folder_or_model: What `stage` wrote, its card perhaps edited since; or what `stage` takes.
        repo_id: `owner/name`; made if there is none.
        revision: Branch; made from `main` if there is none.
        private: Whether a new repository is private. One that exists is not changed.
        create_pr: Whether to open a pull request to `main` instead.
        tag: Name of a new tag for the commit, or None.
        token: None for the one in HF_TOKEN or from `hf auth login`.

    Returns:
        The commit; `.oid` is its hash, which pins it. An unchanged network makes no new one, and no pull request.

    Raises:
        HubError: If the Hub, or the way to it, fails.
        ValueError: If the model cannot be staged, or names are not as they must be.
        VerificationError: If the folder, or what came back, is not what was staged.
    """
    check_names(repo_id, revision, create_pr, tag)
    api = hub_api(token)
    with tempfile.TemporaryDirectory() as work:
        files = _prepare(folder_or_model, repo_id, Path(work))
        with clear_errors(api.endpoint, repo_id, revision):
            commit, is_new = _publish(api, files, repo_id, revision, private, create_pr, tag)
        _verify_published(api, repo_id, commit.oid)
        if tag is not None:
            _set_tag(api, repo_id, commit.oid, tag)
    if is_new:
        _logger.info("Published and verified %s at %s.", repo_id, commit.oid)
    else:
        without = "; no pull request was opened" if create_pr else ""
        _logger.info("%s has this network already, verified, at %s%s.", repo_id, commit.oid, without)
    return commit


def preview(
    folder_or_model: nn.Module | str | Path,
    repo_id: str,
    *,
    revision: str = "main",
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
) -> dict[str, tuple[int, str]]:
    """Return what `push` would do, and change nothing: the size in bytes and the state of each file, by its name.

    A file is "new", "changed", "same", or "stale": one of an earlier network, which is removed. What `push` refuses is
    refused here too, but only the Hub knows whether the token may write. The arguments are those of `push`.
    """
    check_names(repo_id, revision, create_pr, tag)
    api = hub_api(token)
    with tempfile.TemporaryDirectory() as work:
        files = _prepare(folder_or_model, repo_id, Path(work))
        with clear_errors(api.endpoint, repo_id, revision):
            refs = check_target(api, repo_id, revision, private, tag)
            branches = {branch.name: branch.target_commit for branch in refs.branches} if refs else {}
            parent = branches.get(revision) or branches.get("main")  # which a new branch starts from
            states = _differing_files(api, repo_id, parent, files) if parent else dict.fromkeys(files, "new")
        sizes = {name: files[name].stat().st_size if name in files else 0 for name in files.keys() | states.keys()}
        return {name: (size, states.get(name, "same")) for name, size in sorted(sizes.items())}


def _prepare(folder_or_model: nn.Module | str | Path, repo_id: str, work: Path) -> dict[str, Path]:
    """Return the verified files of a network that is to be published, by name; new ones are written into `work`."""
    folder = find_staged(folder_or_model) or stage(folder_or_model, work / "staged")
    with naming(folder):
        manifest = verify_edited(folder)
    if others := sorted(path.name for path in folder.iterdir() if path.name not in PUBLISHED):
        _logger.info("Not published from %s: %s.", folder, ", ".join(others))
    files = {name: folder / name for name in manifest["files"]}
    card = fill_repo_id(_read_card(folder), repo_id)
    (work / CARD).write_text(card, encoding="utf-8")
    manifest["files"][CARD] = file_digest(work / CARD)
    seal_manifest(work, manifest)
    return {**files, CARD: work / CARD, MANIFEST: work / MANIFEST}


def _read_card(folder: Path) -> str:
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder / CARD} must be text in UTF-8, got {error}. Save it as such.") from error


def _publish(
    api: HfApi, files: dict[str, Path], repo_id: str, revision: str, private: bool, create_pr: bool, tag: str | None
) -> tuple[CommitInfo, bool]:
    """Return the commit, and whether it is a new one."""
    with ExitStack() as undo:
        target = open_target(api, repo_id, revision, private, tag, undo)
        commit = _commit_files(target, files, create_pr)
        undo.pop_all()
    return commit, commit.oid != target.parent


def _verify_published(api: HfApi, repo_id: str, oid: str) -> None:
    """Bring a commit back and verify it."""
    hint = f"Verify it later with `timm-lp-hub pull {repo_id} --revision {oid}`; no tag was set."
    try:
        with tempfile.TemporaryDirectory() as cache, clear_errors(api.endpoint, repo_id, oid):
            verify_edited(fetch(api, repo_id, oid, Path(cache)))
    except VerificationError as error:
        raise VerificationError(f"Commit {oid} is on the Hub, but what comes back differs: {error} {hint}") from error
    except HubError as error:
        raise HubError(f"Commit {oid} is on the Hub, but it could not be brought back: {error} {hint}") from error


def _set_tag(api: HfApi, repo_id: str, oid: str, tag: str) -> None:
    try:
        with clear_errors(api.endpoint, repo_id, oid):
            try:
                retry(lambda: api.create_tag(repo_id, tag=tag, revision=oid, exist_ok=True))
            except transport_error():  # its answers may be lost, too
                if oid not in [row.target_commit for row in list_refs(api, repo_id).tags if row.name == tag]:
                    raise
    except HubError as error:
        raise HubError(f"Commit {oid} is on the Hub and verified, but its tag was not set: {error}") from error


def _commit_files(target: Target, files: dict[str, Path], create_pr: bool) -> CommitInfo:
    """Make a commit with the files, and without those of an earlier network that are not among them.

    Where the answer to a commit is lost, the client does not know whether it was made; the Hub's history is asked
    before it is tried again.

    Returns:
        The commit; the branch's last one if it has all files already.
    """
    states = _differing_files(target.api, target.repo_id, target.parent, files)
    if not states:
        return _commit_info(target, target.parent, None)
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    deletions = [CommitOperationDelete(name) for name, state in states.items() if state == "stale"]
    _upload_large(target, additions, create_pr)

    def commit() -> CommitInfo:
        try:
            return target.api.create_commit(
                target.repo_id,
                [*additions, *deletions],
                commit_message=_MESSAGE,
                revision=target.revision,
                parent_commit=target.parent,
                create_pr=create_pr,
            )
        except (HfHubHTTPError, transport_error()) as error:
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if status == _STALE:
                raise HubError(
                    f"Somebody else pushed to {target.revision} of {target.repo_id} at the same time; nothing of this "
                    "push is there. Look at it, and push again."
                ) from error
            if (status is None or status >= 500) and (found := _find(target, files, create_pr)):
                _logger.warning("The Hub's answer was lost, but the commit is there: %s.", found.oid)
                return found
            raise

    return retry(commit)


def _differing_files(api: HfApi, repo_id: str, revision: str, files: dict[str, Path]) -> dict[str, str]:
    """Return how local files differ from published ones: "new", "changed", or "stale" for those that are not local."""
    published = read_published(api, repo_id, revision).files
    states = {name: "new" for name in files if name not in published}
    states |= {name: "stale" for name in published if name not in files}
    return states | {name: "changed" for name in files.keys() & published if not is_same(files[name], published[name])}


def _upload_large(target: Target, additions: list[CommitOperationAdd], create_pr: bool) -> None:
    """Upload what does not travel in the commit itself; nothing of it is visible before the commit."""
    with clear_disk_errors(f"{constants.HF_XET_CACHE}, the cache,"), clear_transfer_errors(target.repo_id):
        target.api.preupload_lfs_files(
            target.repo_id, additions, revision=target.revision, create_pr=create_pr, free_memory=False
        )


def _find(target: Target, files: dict[str, Path], create_pr: bool) -> CommitInfo | None:
    """Return the commit that has the files, if it was made since."""
    api, repo_id = target.api, target.repo_id
    if create_pr:
        refs = retry(lambda: api.list_repo_refs(repo_id, include_pull_requests=True))
        new = [request for request in refs.pull_requests or () if request.ref not in target.pull_requests]
        candidates = {request.target_commit: request.name for request in new}
    else:
        rows = retry(lambda: api.list_repo_commits(repo_id, revision=target.revision))
        candidates = dict.fromkeys(takewhile(lambda oid: oid != target.parent, (row.commit_id for row in rows)), "")
    for oid, pull_request in candidates.items():
        if not _differing_files(api, repo_id, oid, files):
            return _commit_info(target, oid, pull_request or None)
    return None


def _commit_info(target: Target, oid: str, pull_request: str | None) -> CommitInfo:
    page = f"{target.api.endpoint}/{target.repo_id}"
    return CommitInfo(
        commit_url=f"{page}/commit/{oid}",
        commit_message=_MESSAGE,
        commit_description="",
        oid=oid,
        pr_url=f"{page}/discussions/{pull_request}" if pull_request else None,
    )
