"""Download a network from the Hub to a verified folder."""

import logging
import os
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled

from timm_lp import __version__

from .errors import HubError, VerificationError, clear_errors, is_unreachable, naming, retry, transport_error
from .files import (
    CONFIG,
    MANIFEST,
    PUBLISHED,
    WEIGHTS,
    check_new_folder,
    check_regular_files,
    clear_disk_errors,
    new_folder,
    published_files,
)
from .reference import seal_manifest
from .target import check_repo_id
from .verification import verify_edited

_logger = logging.getLogger(__name__)

_TIMEOUT_S = 30.0  # the client itself waits for ever


def hub_api(token: str | None) -> HfApi:
    """Return a client of the Hub; None takes the token from HF_TOKEN or the log-in, if there is one."""
    return HfApi(token=token, library_name="timm-lp", library_version=__version__)


def pull(
    repo_id: str, *, revision: str | None = None, folder: str | Path | None = None, token: str | None = None
) -> Path:
    """Bring a published network here, and check it: each file against the hash that the Hub states, then `verify`.

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

    def download(wanted: str) -> Path:
        def attempt() -> str:
            return api.snapshot_download(repo_id, revision=wanted, allow_patterns=list(PUBLISHED), cache_dir=cache_dir)

        with clear_disk_errors(f"{cache_dir or constants.HF_HUB_CACHE}, the cache,"):
            snapshot = Path(retry(attempt))
        with naming(snapshot):
            check_regular_files(snapshot)
        return snapshot

    try:
        commit = retry(lambda: api.model_info(repo_id, revision=revision, timeout=_TIMEOUT_S).sha) or ""
    except (OfflineModeIsEnabled, transport_error()) as error:
        if not is_unreachable(error):
            raise
        snapshot = download(revision or "main")
        _logger.warning("%s cannot be reached; %s is from the cache, at %s.", api.endpoint, repo_id, snapshot.name)
        return snapshot
    snapshot = download(revision or "main")  # by its name, so that the cache knows it
    if snapshot.name != commit:  # the client fell back on its cache, or the branch has moved
        snapshot = download(commit)
    if missing := [name for name in (MANIFEST, CONFIG, WEIGHTS) if not (snapshot / name).is_file()]:
        raise HubError(
            f"{repo_id} at {commit} has no {missing[0]}: it was not pushed by this package. Load it with timm."
        )
    _repair(api, repo_id, commit, cache_dir)
    return snapshot


def _repair(api: HfApi, repo_id: str, commit: str, cache_dir: Path | None) -> None:
    """Download damaged files once more, and take those that stay damaged out of the cache."""
    for damaged in (damage := _damage(api, repo_id, commit, cache_dir)):
        _logger.warning("%s of %s is damaged; it is downloaded once more.", damaged, repo_id)
        retry(
            lambda name=damaged: api.hf_hub_download(  # type: ignore[misc]
                repo_id, name, revision=commit, cache_dir=cache_dir, force_download=True
            )
        )
    if not damage or not (damage := _damage(api, repo_id, commit, cache_dir)):
        return
    for path in damage.values():
        blob = Path(os.path.realpath(path))
        path.unlink()
        blob.unlink(missing_ok=True)
    raise VerificationError(
        f"{', '.join(damage)} of {repo_id} at {commit} came damaged twice, unlike the hash that the Hub states. "
        "It was taken out of the cache; try again, over another connection."
    )


def _damage(api: HfApi, repo_id: str, commit: str, cache_dir: Path | None) -> dict[str, Path]:
    """Return the files in the cache that differ from the hash that the Hub states, by name."""
    found = retry(lambda: api.verify_repo_checksums(repo_id, revision=commit, cache_dir=cache_dir))
    paths = [mismatch["path"] for mismatch in found.mismatches]
    return {path: found.verified_path / path for path in paths if path in PUBLISHED}
