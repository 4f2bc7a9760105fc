"""List the networks on the Hub, and download one to a verified folder."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoSibling

from timm_lp import __version__

from .cards.templates import TAG
from .errors import (
    HubError,
    VerificationError,
    clear_errors,
    clear_transfer_errors,
    is_unreachable,
    naming,
    retry,
    transport_error,
)
from .files import (
    CONFIG,
    MANIFEST,
    PUBLISHED,
    WEIGHTS,
    check_new_folder,
    check_regular_file,
    clear_disk_errors,
    is_same,
    new_folder,
    published_files,
)
from .target import check_repo_id
from .verification import seal_manifest, verify_edited

_logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0  # the client itself waits for ever


def hub_api(token: str | None) -> HfApi:
    """Return a client of the Hub; None takes the token from HF_TOKEN or the log-in, if there is one."""
    return HfApi(token=token, library_name="timm-lp", library_version=__version__)


def pull(
    repo_id: str, *, revision: str | None = None, folder: str | Path | None = None, token: str | None = None
) -> Path:
    """Download a published network and check it: each file against the hash that the Hub states, then `verify`.

    A damaged file is downloaded once more; one that stays damaged is named, and leaves the cache. Without a way to the
    Hub, a commit in the cache is taken and checked against its manifest; a warning says so.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag, or hash of a commit, which pins it; None for `main`.
        folder: Where to put it, new or empty; None for the client's cache.
        token: None for the one in HF_TOKEN or from `hf auth login`.

    Returns:
        The folder, for `timm.create_model(f"local-dir:{folder}", pretrained=True)`.

    Raises:
        FileExistsError: If something is in the folder.
        HubError: If the Hub does not give it.
        VerificationError: If what came is not what was published.
        OSError: If it cannot be written.
        ValueError: If `repo_id` is not in its form.
    """
    check_repo_id(repo_id)
    if folder is not None:
        check_new_folder(Path(folder).expanduser())
    api = hub_api(token)
    with clear_errors(api.endpoint, repo_id, revision):
        snapshot = fetch(api, repo_id, revision)
    where = f"{repo_id} at {snapshot.name}"
    if folder is None:
        with naming(where):
            verify_edited(snapshot)
        return snapshot
    with naming(where), new_folder(Path(folder).expanduser()) as partial:
        for name, path in published_files(snapshot).items():
            shutil.copyfile(path, partial / name)
        seal_manifest(partial, verify_edited(partial))
    return Path(folder).expanduser()


@dataclass(frozen=True)
class Published:
    """What the Hub says of a commit.

    Attributes:
        commit: Its hash.
        files: Those of a network, by name, with their hashes.
    """

    commit: str
    files: dict[str, RepoSibling]


def read_published(api: HfApi, repo_id: str, revision: str | None) -> Published:
    """Return what the Hub says of the commit at a branch or tag, or of a commit; None for `main`."""
    info = retry(lambda: api.model_info(repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT_S))
    files = {row.rfilename: row for row in info.siblings or () if row.rfilename in PUBLISHED}
    return Published(info.sha or "", files)


def fetch(api: HfApi, repo_id: str, revision: str | None, cache_dir: Path | None = None) -> Path:
    """Return the cache's folder of a commit, with all files downloaded and equal to the hashes that the Hub states.

    Args:
        api: The client.
        repo_id: `owner/name`.
        revision: Branch, tag or commit; None for `main`.
        cache_dir: None for the client's.

    Raises:
        HubError: If the repository holds no network of ours.
        VerificationError: If a file is damaged, and again when downloaded anew, or the cache links to another place.
    """
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    try:
        known = read_published(api, repo_id, revision)
    except (OfflineModeIsEnabled, transport_error()) as error:
        if not is_unreachable(error):
            raise
        return _find_cached(api, repo_id, revision, cache, error)
    if missing := [name for name in (MANIFEST, CONFIG, WEIGHTS) if name not in known.files]:
        raise HubError(
            f"{repo_id} at {known.commit} has no {missing[0]}: it was not pushed by this package. Load it with timm."
        )
    snapshot = {_download(api, repo_id, known, name, cache).parent for name in known.files}.pop()
    if revision != known.commit:  # the cache learns which commit a branch is at
        _download_once(api, repo_id, revision, MANIFEST, cache)
    return snapshot


def _find_cached(api: HfApi, repo_id: str, revision: str | None, cache: Path, reason: Exception) -> Path:
    """Return the cache's folder of a commit when there is no way to the Hub."""
    try:
        snapshot = Path(api.snapshot_download(repo_id, revision=revision, cache_dir=cache, local_files_only=True))
    except LocalEntryNotFoundError:
        raise HubError(
            f"{api.endpoint} cannot be reached, and {repo_id} is not in the cache. Check the connection."
        ) from reason
    _logger.warning("%s cannot be reached; %s is from the cache, at %s.", api.endpoint, repo_id, snapshot.name)
    return snapshot


def _download(api: HfApi, repo_id: str, known: Published, name: str, cache: Path) -> Path:
    """Return a file in the cache that is equal to the published one; a damaged one is downloaded once more."""
    for _ in range(2):
        path = _download_once(api, repo_id, known.commit, name, cache)
        if path is not None:
            with naming(path.parent):
                check_regular_file(path)
            if is_same(path, known.files[name]):
                return path
            _remove_cached(path)
        _logger.warning("%s of %s is damaged or cut short.", name, repo_id)
    raise VerificationError(
        f"{name} of {repo_id} at {known.commit} came damaged twice, unlike the hash that the Hub states. "
        "It was taken out of the cache; try again, over another connection."
    )


def _download_once(api: HfApi, repo_id: str, revision: str | None, name: str, cache: Path) -> Path | None:
    """Return a file in the cache, downloaded if it is not there; None if not all of it came."""
    with clear_disk_errors(f"{cache}, the cache,"):
        with clear_transfer_errors(repo_id):
            try:
                return Path(retry(lambda: api.hf_hub_download(repo_id, name, revision=revision, cache_dir=cache)))
            except OSError as error:
                if not str(error).startswith("Consistency check failed"):
                    raise
                return None


def _remove_cached(link: Path) -> None:
    """Remove a file from the cache: its content, and each link that leads to it."""
    while link.is_symlink():
        target = link.parent / link.readlink()
        link.unlink()
        link = target
    link.unlink(missing_ok=True)


def list_networks(author: str | None = None, *, token: str | None = None) -> list[ModelInfo]:
    """Return the repositories that were published by this package, as their cards' tags say.

    Args:
        author: Only this user's or organization's.
        token: None for the one in HF_TOKEN or from `hf auth login`; private repositories are listed with it.

    Raises:
        HubError: If the Hub does not answer.
    """
    api = hub_api(token)
    with clear_errors(api.endpoint, author or "the list", None):
        return retry(lambda: list(api.list_models(author=author, filter=TAG)))
