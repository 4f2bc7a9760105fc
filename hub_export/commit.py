"""Push one commit, whole or not at all, and confirm that it is there."""

import logging
import time
from itertools import takewhile
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from timm_lp.files import file_digest

from .errors import HubError, first_line, is_transient, is_unreachable, retry, transport_error
from .files import PUBLISHED
from .target import Target

_logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_MESSAGE = "Upload a network with timm-lp"
_STALE = 412  # status: the branch is no longer at the commit's parent


def commit_files(target: Target, files: dict[str, Path], create_pr: bool) -> CommitInfo:
    """Make a commit with some files, and without those of an earlier network that are not among them.

    The client does not know whether a commit was made whose answer was lost; the Hub's history is asked then, before
    it is tried again.

    Args:
        target: Where.
        files: By name.
        create_pr: Whether it goes into a pull request.

    Raises:
        HubError: If somebody else pushed in between, or the Hub fails for good. The branch is as it was then.
    """
    states = differing_files(target.api, target.repo_id, target.parent, files)
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    stale = [name for name, state in states.items() if state == "stale"]
    _upload_large(target, additions, create_pr)
    attempt = 0
    while True:
        attempt += 1
        try:
            return target.api.create_commit(
                target.repo_id,
                [*additions, *map(CommitOperationDelete, stale)],
                commit_message=_MESSAGE,
                revision=target.revision,
                parent_commit=target.parent,
                create_pr=create_pr,
            )
        except (HfHubHTTPError, transport_error()) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code == _STALE:
                raise HubError(
                    f"Somebody else pushed to {target.revision} of {target.repo_id} at the same time; nothing of this "
                    "push is there. Look at it, and push again."
                ) from error
            if not (is_transient(error) or is_unreachable(error)):
                raise
            if commit := _find(target, files, create_pr):
                _logger.warning("The Hub's answer was lost, but the commit is there: %s.", commit.oid)
                return commit
            if attempt == _ATTEMPTS:
                raise
            _logger.warning("Attempt %d of %d to commit failed: %s", attempt, _ATTEMPTS, first_line(error))
            time.sleep(2 ** (attempt - 1))


def differing_files(api: HfApi, repo_id: str, revision: str, files: dict[str, Path]) -> dict[str, str]:
    """Return how local files differ from published ones: "new", "changed", or "stale" for those that are not local.

    Args:
        api: The client.
        repo_id: The repository.
        revision: Of the published ones.
        files: The local ones, by name.
    """
    rows = retry(lambda: list(api.list_repo_tree(repo_id, revision=revision)))
    published = {row.path: row for row in rows if isinstance(row, RepoFile) and row.path in PUBLISHED}
    states = {name: "new" for name in files if name not in published}
    states |= {name: "stale" for name in published if name not in files}
    return states | {name: "changed" for name in files.keys() & published if not _same(files[name], published[name])}


def _same(path: Path, published: RepoFile) -> bool:
    if published.lfs is not None:
        return file_digest(path) == published.lfs.sha256
    return git_hash(path.read_bytes()) == published.blob_id


def _upload_large(target: Target, additions: list[CommitOperationAdd], create_pr: bool) -> None:
    """Upload what does not travel in the commit itself; nothing of it is visible before the commit."""
    try:
        target.api.preupload_lfs_files(
            target.repo_id, additions, revision=target.revision, create_pr=create_pr, free_memory=False
        )
    except RuntimeError as error:
        if isinstance(error.__cause__, (HfHubHTTPError, transport_error())):
            raise error.__cause__ from error
        raise


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
        if not differing_files(api, repo_id, oid, files):
            page = f"{api.endpoint}/{repo_id}"
            url = f"{page}/discussions/{pull_request}" if create_pr else None
            return CommitInfo(
                commit_url=f"{page}/commit/{oid}", commit_message=_MESSAGE, commit_description="", oid=oid, pr_url=url
            )
    return None
