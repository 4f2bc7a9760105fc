"""Compute corrupted test images of a data set once, and keep them as arrays, as the published ones are."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ....files import failures_name, write_json
from ....trials.record import versions_of
from ..images import DataSet
from . import CLEAN, SIZE
from .functions import computable, corrupt
from .images import CorruptedPart, CorruptedSet, array_part
from .published import LABELS, NAMES

_NOTE = "made_from.json"  # what the arrays were computed from, and their digests
_VERSION = 2  # of the functions; raise it when one returns other images, and all are computed anew
_CHUNK = 250  # images that are computed at once

_logger = logging.getLogger(__name__)


def compute_corruptions(data: DataSet, severities: Sequence[int], folder: Path) -> CorruptedSet:
    """Return the test images of a data set with every corruption that can be computed.

    A folder within `folder`, named by the images' contents, keeps them: `<corruption>.npy` and `labels.npy` with the
    severities one after the other, from 1 to the largest that was asked for. A note beside them holds their digests,
    and what they were computed from. An array that does not agree with it is computed again; one that is missing, of a
    new corruption for instance, is computed, and the others are kept.

    Args:
        data: The data set; images smaller than 32x32 pixels are enlarged.
        severities: Which are asked for, from 1 to 5.
        folder: Where the arrays are kept.

    Raises:
        ValueError: If the images are larger than those that the severities are published for.
        UnreadableImageError: If an image cannot be decoded.
    """
    clean, enlarged = _test_images(data)
    labels, names = data.test.own_labels().tolist(), data.test.class_names
    sha256 = hashlib.sha256(f"{clean.shape} {labels} ".encode() + clean.tobytes()).hexdigest()
    kept_in = folder / sha256[:16]
    kept_in.mkdir(parents=True, exist_ok=True)
    origin = {"images": sha256, "functions": _VERSION, "libraries": versions_of("numpy", "scipy", "pillow")}
    arrays = _arrays(clean, max(severities), kept_in, data.info.name, origin)
    _save(kept_in / f"{LABELS}.npy", np.tile(np.asarray(labels), max(severities)))
    parts: dict[tuple[str, int], CorruptedPart] = {(CLEAN, 0): array_part(clean, labels, names, 0, len(clean))}
    for name, array in arrays.items():
        repeated = labels * (len(array) // len(clean))
        for severity in severities:
            first = (severity - 1) * len(clean)
            parts[name, severity] = array_part(array, repeated, names, first, len(clean))
    without = ", ".join(name for name in NAMES if name not in arrays)
    note = f"computed here, not comparable with published results{f'; without {without}' if without else ''}"
    note += f"; images enlarged to {SIZE}x{SIZE} pixels" if enlarged else ""
    return CorruptedSet(f"corrupted {data.info.name}", note, parts, names, len(names))


def _test_images(data: DataSet) -> tuple[np.ndarray, bool]:
    """Return the test images `(N, 32, 32, 3)`, and whether any was enlarged."""
    if data.folds:
        raise ValueError(
            f"`dataset` must have test images that no trial was trained on, got {data.info.name}, which is "
            "cross-validated. Train with --test-share, and give that run."
        )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(data.test.image, range(len(data.test))))
    largest = max(max(image.size) for image in decoded)
    if largest > SIZE:
        raise ValueError(
            f"`dataset` must have images of at most {SIZE}x{SIZE} pixels for --compute, for which the severities are "
            f"published, got {data.info.name} with {largest} pixels. Use published corruptions with --corruptions."
        )
    enlarged = any(image.size != (SIZE, SIZE) for image in decoded)
    scaled = [image.resize((SIZE, SIZE), Image.Resampling.BICUBIC) for image in decoded]
    return np.stack([np.asarray(image) for image in scaled]), enlarged


def _arrays(
    clean: np.ndarray, severities: int, folder: Path, name: str, origin: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return the array of each corruption; what is not kept yet is computed."""
    digests = _noted(folder, origin)
    kept = {
        corruption: _kept(folder / f"{corruption}.npy", len(clean), digests.get(corruption, []))
        for corruption in computable()
    }
    missing = {corruption: range(len(array) // len(clean), severities) for corruption, array in kept.items()}
    total = len(clean) * sum(map(len, missing.values()))
    with (
        tqdm(total=total, desc=f"{name}: corruptions", unit="image", disable=not total, dynamic_ncols=True) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for corruption, steps in missing.items():
            if not steps:
                continue
            bar.set_postfix_str(corruption)
            rows = [kept[corruption]]
            for severity in steps:
                chunks = [clean[start : start + _CHUNK] for start in range(0, len(clean), _CHUNK)]
                for made in pool.map(partial(corrupt, corruption=corruption, severity=severity + 1), chunks):
                    rows.append(made)
                    bar.update(len(made))
            array = np.concatenate(rows)
            _save(folder / f"{corruption}.npy", array)
            digests[corruption] = _digests(array, len(clean))
            write_json(folder / _NOTE, {**origin, "digests": digests})
    return {corruption: np.load(folder / f"{corruption}.npy", mmap_mode="r") for corruption in kept}


def _noted(folder: Path, origin: dict[str, Any]) -> dict[str, list[str]]:
    """Return the digests of the arrays in a folder; none where they were not computed from what they would be now."""
    path = folder / _NOTE
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if {name: note[name] for name in origin} == origin:
            return {corruption: list(of_steps) for corruption, of_steps in note["digests"].items()}
        fault = "says that the images, the functions or the libraries were others"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = f"cannot be read ({type(error).__name__})"
    _logger.warning("%s %s: the corruptions beside it are computed again.", path, fault)
    return {}


def _kept(path: Path, count: int, digests: Sequence[str]) -> np.ndarray:
    """Return the severities of an array that are kept; none where the file is not the one that was written here."""
    nothing = np.empty((0, SIZE, SIZE, 3), dtype=np.uint8)
    if not path.is_file() or not digests:
        return nothing
    try:
        array = np.load(path, mmap_mode="r")
        if array.dtype == np.uint8 and array.shape[1:] == nothing.shape[1:] and _digests(array, count) == digests:
            return array
        fault = "is not the array that was computed here"
    except (ValueError, EOFError) as error:
        fault = f"cannot be read ({error})"
    _logger.warning("%s %s, and is computed again.", path, fault)
    return nothing


def _digests(array: np.ndarray, count: int) -> list[str]:
    """Return the sha256 of each severity's images, of which there are `count`."""
    return [hashlib.sha256(array[start : start + count].tobytes()).hexdigest() for start in range(0, len(array), count)]


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array that is complete or not there, whenever the process ends."""
    partial = path.with_suffix(".partial")
    with failures_name(path), partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
