"""Push one commit, whole or not at all, and confirm that it is there."""

import logging
from itertools import takewhile
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from .download import read_published
from .errors import HubError, clear_transfer_errors, retry, transport_error
from .files import clear_disk_errors, is_same
from .target import Target

_logger = logging.getLogger(__name__)

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

    Returns:
        The commit; that which is there if it has all files already.
    """
    states = differing_files(target.api, target.repo_id, target.parent, files)
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


def differing_files(api: HfApi, repo_id: str, revision: str, files: dict[str, Path]) -> dict[str, str]:
    """Return how local files differ from published ones: "new", "changed", or "stale" for those that are not local.

    Args:
        api: The client.
        repo_id: The repository.
        revision: Of the published ones.
        files: The local ones, by name.
    """
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
        if not differing_files(api, repo_id, oid, files):
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
