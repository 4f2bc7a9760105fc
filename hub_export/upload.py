"""Push a network or a staged folder to the Hub, as one verified commit."""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from torch import nn

from timm_lp.files import file_digest

from .cards.card import fill_repo_id
from .commit import commit_files, differing_files
from .download import fetch, hub_api
from .errors import HubError, VerificationError, clear_errors, naming, retry, transport_error
from .files import CARD, MANIFEST, PUBLISHED, is_staged
from .reference import seal_manifest
from .staging import stage
from .target import check_names, check_target, list_refs, open_target
from .verification import verify_edited

_logger = logging.getLogger(__name__)


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
        files = prepare(folder_or_model, repo_id, Path(work))
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
    """Return what `push` would do, and change nothing: by file name, the size in bytes, and what becomes of the file.

    That is "new", "changed", "same", or "stale" for one of an earlier network that is removed. What `push` refuses is
    refused here, too; but whether the token may write is known only to the Hub.

    Args:
        folder_or_model: As `push` takes it, and so are the others.
        repo_id: `owner/name`.
        revision: Branch.
        private: Whether a new repository is private.
        create_pr: Whether to open a pull request.
        tag: Name of a new tag.
        token: None for the one in HF_TOKEN or from `hf auth login`.
    """
    check_names(repo_id, revision, create_pr, tag)
    api = hub_api(token)
    with tempfile.TemporaryDirectory() as work:
        files = prepare(folder_or_model, repo_id, Path(work))
        with clear_errors(api.endpoint, repo_id, revision):
            refs = check_target(api, repo_id, revision, private, tag)
            branches = {branch.name: branch.target_commit for branch in refs.branches} if refs else {}
            parent = branches.get(revision) or branches.get("main")  # which a new branch starts from
            states = differing_files(api, repo_id, parent, files) if parent else dict.fromkeys(files, "new")
        sizes = {name: files[name].stat().st_size if name in files else 0 for name in files.keys() | states.keys()}
        return {name: (size, states.get(name, "same")) for name, size in sorted(sizes.items())}


def prepare(folder_or_model: nn.Module | str | Path, repo_id: str, work: Path) -> dict[str, Path]:
    """Return the verified files of a network that is to be published, by name.

    Args:
        folder_or_model: As `push` takes it.
        repo_id: Goes into the card.
        work: An empty folder for what has to be written.
    """
    if isinstance(folder_or_model, nn.Module) or not is_staged(Path(folder_or_model).expanduser()):
        folder = stage(folder_or_model, work / "staged")
    else:
        folder = Path(folder_or_model).expanduser()
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
        commit = commit_files(target, files, create_pr)
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
