"""The repository and branch that a push goes to: made where they are missing, removed again if the push fails."""

import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass

from huggingface_hub import GitRefs, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import HFValidationError, validate_repo_id

from .errors import first_line, retry, transport_error

_logger = logging.getLogger(__name__)

_PART = r"\w[\w-]*(\.[\w-]+)*(?<!\.lock)"  # git refuses ".." and what ends in "." or ".lock"
_REF = re.compile(f"{_PART}(/{_PART})*")


@dataclass(frozen=True)
class Target:
    """A branch at a known commit.

    Attributes:
        api: The client.
        repo_id: The repository.
        revision: The branch.
        parent: Hash of the commit that the new one is to follow.
        pull_requests: The refs of those that are open.
    """

    api: HfApi
    repo_id: str
    revision: str
    parent: str
    pull_requests: frozenset[str]


def check_repo_id(repo_id: str) -> None:
    """Refuse a repository's name that is not in its form.

    Raises:
        ValueError: If it is none.
    """
    try:
        validate_repo_id(repo_id)
        if not repo_id.isascii():  # which older clients do not check
            raise HFValidationError("it has letters beyond ASCII")
    except HFValidationError as error:
        raise ValueError(f"`repo_id` must be 'owner/name', got {repo_id!r}: {first_line(error)}.") from error
    if "/" not in repo_id:
        raise ValueError(f"`repo_id` must be 'owner/name', got {repo_id!r}. Put your user name before it.")


def check_names(repo_id: str, revision: str, create_pr: bool, tag: str | None) -> None:
    """Refuse names that the Hub would refuse later.

    Raises:
        ValueError: If one is not in its form, or two exclude each other.
    """
    check_repo_id(repo_id)
    for argument, name in (("revision", revision), ("tag", tag)):
        if name is not None and not _REF.fullmatch(name):
            raise ValueError(f"`{argument}` must be a name of letters, digits, '.', '-', '_' and '/', got {name!r}.")
    if re.fullmatch(r"[0-9a-f]{40}", revision) or revision.startswith("refs/"):
        raise ValueError(f"`revision` must be a branch, got {revision!r}. A commit cannot be changed.")
    if create_pr and (revision != "main" or tag is not None):
        raise ValueError("`create_pr` must be False with a branch or a tag, got True. It goes to main, untagged.")


def check_target(api: HfApi, repo_id: str, revision: str, private: bool, tag: str | None) -> GitRefs | None:
    """Return a repository's branches, tags and pull requests if a push may go there; None if there is no repository.

    Raises:
        ValueError: If the tag exists, a tag has the branch's name, or a public repository is to be private.
    """
    if not retry(lambda: api.repo_exists(repo_id)):
        return None
    if private:
        check_private(repo_id, retry(lambda: api.model_info(repo_id).private))
    refs = list_refs(api, repo_id)
    tags = {known.name for known in refs.tags}
    if tag in tags:
        raise ValueError(f"`tag` must be new, got {tag!r}, which {repo_id} has. Tags are not moved.")
    if revision in tags:
        raise ValueError(f"`revision` must be a branch, got {revision!r}, a tag of {repo_id}.")
    return refs


def check_private(name: str, is_private: bool | None) -> None:
    """Refuse to make private what is on the Hub and public.

    Raises:
        ValueError: If it is public.
    """
    if not is_private:
        raise ValueError(f"`private` must be False, got True: {name} is public already. Change it on the Hub first.")


def open_target(api: HfApi, repo_id: str, revision: str, private: bool, tag: str | None, undo: ExitStack) -> Target:
    """Return the branch to push to; it and its repository are made if they do not exist.

    Args:
        api: The client.
        repo_id: `owner/name`.
        revision: The branch.
        private: Whether a new repository is private.
        tag: Must not exist yet.
        undo: Gets the calls that remove what was made.

    Raises:
        ValueError: As `check_target` does.
    """
    refs = check_target(api, repo_id, revision, private, tag)
    if refs is None:
        undo.callback(_remove_repository, api, repo_id)  # told first: the answers may be lost
        retry(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        refs = list_refs(api, repo_id)
    branches = {branch.name: branch.target_commit for branch in refs.branches}
    if revision not in branches:
        branches[revision] = branches["main"]
        undo.callback(_remove_branch, api, repo_id, revision, branches["main"])
        retry(lambda: api.create_branch(repo_id, branch=revision, revision=branches["main"], exist_ok=True))
    pull_requests = frozenset(request.ref for request in refs.pull_requests or ())
    return Target(api, repo_id, revision, branches[revision], pull_requests)


def list_refs(api: HfApi, repo_id: str) -> GitRefs:
    """Return a repository's branches, tags and pull requests."""
    return retry(lambda: api.list_repo_refs(repo_id, include_pull_requests=True))


def _remove_repository(api: HfApi, repo_id: str) -> None:
    """Remove a repository that a failed push made, unless somebody has put something into it."""
    try:
        refs = list_refs(api, repo_id)
        heads = {branch.target_commit for branch in refs.branches}
        commits = {row.commit_id for row in retry(lambda: api.list_repo_commits(repo_id))}
        if heads == commits and not refs.pull_requests:
            retry(lambda: api.delete_repo(repo_id, missing_ok=True))
    except RepositoryNotFoundError:  # it was not made
        return
    except (HfHubHTTPError, transport_error()) as error:
        _logger.warning("%s may have been made, and stays then, empty: %s.", repo_id, first_line(error))


def _remove_branch(api: HfApi, repo_id: str, branch: str, start: str) -> None:
    """Remove a branch that a failed push made, unless somebody has put something onto it."""
    try:
        if retry(lambda: api.model_info(repo_id, revision=branch)).sha == start:
            retry(lambda: api.delete_branch(repo_id, branch=branch))
    except (RepositoryNotFoundError, RevisionNotFoundError):  # it was not made, or is removed
        return
    except (HfHubHTTPError, transport_error()) as error:
        _logger.warning("Branch %s of %s may have been made, and stays then: %s.", branch, repo_id, first_line(error))
