"""Verify a staged folder against its manifest: its files, its tensors, and what the network computes."""

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import get_model_input_config
from torch import Tensor, nn

from timm_lp.files import file_digest, parse_json
from timm_lp.models.sudoku import SudokuNet, is_sudoku, load_sudoku
from timm_lp.reporting import listed

from .errors import VerificationError, naming
from .files import CARD, CONFIG, MANIFEST, PUBLISHED, WEIGHTS, check_regular_files, published_files
from .untrusted import check_weights, clear_build_errors

_logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3  # of the largest logit: float32 rounding differs between machines, another network by far more
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
    manifest = _read_manifest(folder)
    if added := sorted(published_files(folder).keys() - manifest["files"].keys() - {MANIFEST}):
        raise VerificationError(
            f"{listed(added)} is not in {MANIFEST}, so it was not staged with the network. Remove it, or stage anew."
        )
    return manifest


def _verify(folder: Path, manifest: dict[str, Any]) -> None:
    _check_files(folder, manifest)
    check_weights(folder)
    with clear_build_errors():
        model = load_sudoku(folder) if is_sudoku(folder) else timm.create_model(f"local-dir:{folder}", pretrained=True)
        model = model.eval()
        tensors, logits = tensor_digests(model), reference_logits(model)
    if changed := _differing(tensors, manifest["tensors"]):
        raise VerificationError(f"timm must load what was saved, but changes {listed(changed)}.")
    if difference := _logits_differ(logits, manifest["logits"]):
        raise VerificationError(
            f"the network must compute what was staged, but gives {difference}. "
            "The tensors agree, so the architecture or its arguments do not."
        )


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    files = {name: folder / name for name in manifest["files"]}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise VerificationError(f"{listed(missing)} is missing. Stage or pull it again.")
    if changed := _differing({name: file_digest(path) for name, path in files.items()}, manifest["files"]):
        where = _damaged_tensors(folder, manifest) if WEIGHTS in changed else ""
        raise VerificationError(f"{listed(changed)} differs from what was staged{where}. Stage or pull it again.")


def _damaged_tensors(folder: Path, manifest: dict[str, Any]) -> str:
    """Return which tensors in a changed file differ, as a part of a sentence."""
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            digests = {name: _tensor_digest(file.get_tensor(name)) for name in file.keys()}
    except SafetensorError as error:
        return f" ({error})"
    return f" ({listed(_differing(digests, manifest['tensors']) or ['its header'])})"


def _differing(actual: dict[str, str], expected: dict[str, str]) -> list[str]:
    return sorted(name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name))


def _tensor_digest(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's type, shape and elements."""
    head = f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
    elements = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(head + elements.numpy().tobytes()).hexdigest()


def tensor_digests(model: nn.Module) -> dict[str, str]:
    """Return the digest of each tensor of a network's state dict."""
    return {name: _tensor_digest(tensor) for name, tensor in model.state_dict().items()}


def _reference_image(input_size: tuple[int, ...]) -> Tensor:
    """Return the image that the logits are compared on, shape `(1, C, H, W)`; the same on every machine."""
    count = torch.Size(input_size).numel()
    return torch.arange(1, count + 1, dtype=torch.float64).mul(12.9898).sin().float().reshape(1, *input_size)


def reference_logits(model: nn.Module) -> list[float]:
    """Return a network's output for the reference image or board, in evaluation mode and on the CPU."""
    if isinstance(model, SudokuNet):
        example = torch.arange(81).remainder(10).reshape(1, 9, 9)
    else:
        example = _reference_image(tuple(get_model_input_config(model)["input_size"]))
    with torch.no_grad():
        return model(example).flatten().tolist()


def _logits_differ(actual: list[float], expected: list[float]) -> str | None:
    """Return how two outputs differ, or None if they do not."""
    if len(actual) != len(expected):
        return f"{len(actual)} logits instead of {len(expected)}"
    computed, staged = (torch.tensor(logits, dtype=torch.float64) for logits in (actual, expected))
    error, largest = (computed - staged).abs().max(), staged.abs().max()
    if error <= _TOLERANCE * largest:
        return None
    return f"logits that are off by {error / largest:.2g} of the largest"


def write_manifest(folder: Path, model: nn.Module, logits: list[float]) -> None:
    """Write the digests of a folder's other files and of the network's tensors, and the logits.

    Args:
        folder: With all other files in it.
        model: The network that was saved.
        logits: What it computed before it was saved.
    """
    content = {
        "files": {name: file_digest(path) for name, path in published_files(folder).items() if name != MANIFEST},
        "tensors": tensor_digests(model),
        "logits": logits,
    }
    seal_manifest(folder, content)


def seal_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest, `files`, `tensors` and `logits`, with a hash of itself."""
    (folder / MANIFEST).write_text(_sealed(content), encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest.

    Raises:
        VerificationError: If the manifest is missing or was altered.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise VerificationError(f"there is no {MANIFEST}: this was not staged by this package, or is not whole.")
    content = _unsealed(path.read_bytes().decode("utf-8", errors="replace"))
    if content is None or not _is_manifest(content):
        raise VerificationError(f"{MANIFEST} is damaged. Stage or pull it again.")
    return content


def _is_manifest(content: dict[str, Any]) -> bool:
    """Tell whether a manifest has digests and logits, and names no files but those that are published."""
    files, tensors, logits = (content.get(key) for key in ("files", "tensors", "logits"))
    return (
        isinstance(files, dict)
        and {CARD, CONFIG, WEIGHTS} <= files.keys() <= set(PUBLISHED) - {MANIFEST}
        and isinstance(tensors, dict)
        and all(_is_digest(digest) for digest in (*files.values(), *tensors.values()))
        and isinstance(logits, list)
        and bool(logits)
        and all(isinstance(logit, float) for logit in logits)
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _unsealed(text: str) -> dict[str, Any] | None:
    """Return a manifest's content, or None if it was altered."""
    try:
        content = parse_json(text)
        del content["sha256"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return content if _sealed(content) == text else None


def _sealed(content: dict[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": seal}, indent=1, sort_keys=True) + "\n"
