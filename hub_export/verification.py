"""Verify a folder against its manifest; an error names what differs."""

import logging
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open

from timm_lp.files import file_digest

from .errors import VerificationError, naming
from .files import CARD, MANIFEST, WEIGHTS, check_regular_files, published_files
from .reference import (
    logits_differ,
    read_manifest,
    reference_logits,
    tensor_digest,
    tensor_digests,
)
from .weights import check_weights, clear_build_errors

_logger = logging.getLogger(__name__)

_LISTED = 3


def verify(folder: str | Path) -> None:
    """Check that a staged folder is whole, and that timm loads from it the network that was staged.

    Every file is compared with its sha256 in the manifest, which must list all that would be published, and after
    loading through timm's `local-dir:` each tensor, bit by bit, and the logits for a fixed image. Nothing large is
    allocated before names, shapes and types agree.

    Args:
        folder: What `stage` wrote or `pull` brought.

    Raises:
        VerificationError: If something differs, is not listed, or is no regular file; the message names it.
    """
    with naming(folder):
        _verify(Path(folder), _read_whole_manifest(Path(folder)))


def verify_edited(folder: Path) -> dict[str, Any]:
    """Check a folder as `verify` does, but let its card be edited, as cards are.

    Args:
        folder: The folder.

    Returns:
        The folder's manifest, with the card as it is now.

    Raises:
        VerificationError: If something else differs.
    """
    manifest = _read_whole_manifest(folder)
    card = folder / CARD
    if card.is_file() and file_digest(card) != manifest["files"].get(CARD):
        _logger.info("%s was edited since it was staged.", card)
        manifest["files"][CARD] = file_digest(card)
    _verify(folder, manifest)
    return manifest


def _read_whole_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest if it lists all that would be published."""
    check_regular_files(folder)
    manifest = read_manifest(folder)
    if added := sorted(published_files(folder).keys() - manifest["files"].keys() - {MANIFEST}):
        raise VerificationError(
            f"{_listed(added)} is not in {MANIFEST}, so it was not staged with the network. Remove it, or stage anew."
        )
    return manifest


def _verify(folder: Path, manifest: dict[str, Any]) -> None:
    _check_files(folder, manifest)
    check_weights(folder)
    with clear_build_errors():
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        tensors, logits = tensor_digests(model), reference_logits(model)
    if changed := _differing(tensors, manifest["tensors"]):
        raise VerificationError(f"timm must load what was saved, but changes {_listed(changed)}.")
    if difference := logits_differ(logits, manifest["logits"]):
        raise VerificationError(
            f"the network must compute what was staged, but gives {difference}. "
            "The tensors agree, so the architecture or its arguments do not."
        )


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    files = {name: folder / name for name in manifest["files"]}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise VerificationError(f"{_listed(missing)} is missing. Stage or pull it again.")
    if changed := _differing({name: file_digest(path) for name, path in files.items()}, manifest["files"]):
        where = _damaged_tensors(folder, manifest) if WEIGHTS in changed else ""
        raise VerificationError(f"{_listed(changed)} differs from what was staged{where}. Stage or pull it again.")


def _damaged_tensors(folder: Path, manifest: dict[str, Any]) -> str:
    """Return which tensors in a changed file differ, as a part of a sentence."""
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            digests = {name: tensor_digest(file.get_tensor(name)) for name in file.keys()}
    except SafetensorError as error:
        return f" ({error})"
    return f" ({_listed(_differing(digests, manifest['tensors']) or ['its header'])})"


def _differing(actual: dict[str, str], expected: dict[str, str]) -> list[str]:
    return sorted(name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
