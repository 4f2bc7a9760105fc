"""Compute corrupted test images of a data set once, and keep them as arrays, as the published ones are.

Images of at most 32x32 pixels get CIFAR's severities, larger ones ImageNet-C's at the size that the networks see.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ....files import UNREADABLE, failures_name, write_json
from ....trials.record import versions_of
from ..decoding import ImageSet
from ..folders import IMAGE_ENDINGS
from ..images import DataSet
from ..pixels import eval_transform
from . import CLEAN, FROST, LARGE, SIZE
from .functions import computable, corrupt
from .images import CorruptedPart, CorruptedSet, array_part
from .published import LABELS, NAMES

_NOTE = "made_from.json"  # what the arrays were computed from, and their digests
_FROST_FROM = "frost"  # there, the digest of the photographs
_VERSION = 2  # of the functions; raise it when one returns other images, and all are computed anew
_CHUNK = 250 * SIZE**2  # pixels that are computed at once

_logger = logging.getLogger(__name__)


def compute_corruptions(
    data: DataSet,
    severities: Sequence[int],
    folder: Path,
    *,
    preprocessing: Callable[[], dict[str, Any]] = dict,
    frost: Path | None = None,
) -> CorruptedSet:
    """Return the test images of a data set with every corruption that can be computed.

    A folder within `folder`, named by the images' contents, keeps them: `<corruption>.npy` and `labels.npy` with the
    severities one after the other, from 1 to the largest that was asked for. A note beside them holds their digests,
    and what they were computed from. An array that does not agree with it is computed again; one that is missing, of a
    new corruption for instance, is computed, and the others are kept.

    Args:
        data: The data set; images smaller than 32x32 pixels are enlarged.
        severities: Which are asked for, from 1 to 5.
        folder: Where the arrays are kept.
        preprocessing: Returns how the networks see larger images; it is asked only where there are such.
        frost: A folder of photographs of frost, or the array of CIFAR-10-C or CIFAR-100-C that lies beside its
            `labels.npy`; without it frost is left out.

    Raises:
        ValueError: If the images are of another size than severities are published for, they do not fit on the disk, or
            there is no frost in `frost`.
        UnreadableImageError: If an image cannot be decoded.
    """
    clean, change = _test_images(data, preprocessing)
    labels, names = data.test.own_labels().tolist(), data.test.class_names
    sha256 = hashlib.sha256(f"{clean.shape} {labels} ".encode() + clean.tobytes()).hexdigest()
    kept_in = folder / sha256[:16]
    kept_in.mkdir(parents=True, exist_ok=True)
    origin = {"images": sha256, "functions": _VERSION, "libraries": versions_of("numpy", "scipy", "pillow")}
    photographs = _photographs(frost, clean.shape[1]) if frost and frost.is_dir() else []
    arrays = _arrays(clean, max(severities), kept_in, data.info.name, origin, photographs)
    if frost and not frost.is_dir():
        arrays[FROST] = _published_frost(frost, clean, labels, max(severities))
    _save(kept_in / f"{LABELS}.npy", np.tile(np.asarray(labels), max(severities)))
    parts: dict[tuple[str, int], CorruptedPart] = {(CLEAN, 0): array_part(clean, labels, names, 0, len(clean))}
    for name, array in arrays.items():
        repeated = labels * (len(array) // len(clean))
        for severity in severities:
            first = (severity - 1) * len(clean)
            parts[name, severity] = array_part(array, repeated, names, first, len(clean))
    without = ", ".join(name for name in NAMES if name not in arrays)
    note = f"computed here, not comparable with published results{f'; without {without}' if without else ''}"
    note += change
    is_cropped = clean.shape[1] != SIZE
    return CorruptedSet(f"corrupted {data.info.name}", note, parts, names, len(names), is_cropped)


def _test_images(data: DataSet, preprocessing: Callable[[], dict[str, Any]]) -> tuple[np.ndarray, str]:
    """Return the test images `(N, H, H, 3)`, and what was done with them."""
    if data.folds:
        raise ValueError(
            f"`dataset` must have test images that no trial was trained on, got {data.info.name}, which is "
            "cross-validated. Train with --test-share, and give that run."
        )
    test = data.test
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = set(pool.map(test.size, range(len(test))))
        if max(map(max, sizes)) > SIZE:
            finish, change = _as_seen(data.info.name, max(map(max, sizes)), preprocessing())
        else:
            finish, change = _enlarged, "" if sizes == {(SIZE, SIZE)} else f"; images enlarged to {SIZE}x{SIZE} pixels"
        return np.stack(list(pool.map(lambda position: finish(test.image(position)), range(len(test))))), change


def _enlarged(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _as_seen(name: str, largest: int, preprocessing: dict[str, Any]) -> tuple[Callable[[Image.Image], np.ndarray], str]:
    """Return what crops an image as the networks do, and the words for it."""
    size = preprocessing.get("input_size", (3, 0, 0))[1:]
    if size[0] != size[1] or size[0] < LARGE:
        raise ValueError(
            f"`networks` must see square images of at least {LARGE}x{LARGE} pixels, for which severities are "
            f"published, where images are larger than {SIZE}x{SIZE}, got {size[0]}x{size[1]} for {name} with images of "
            f"{largest} pixels. Use published corruptions with --corruptions."
        )
    transform = eval_transform(preprocessing)
    change = f"; ImageNet-C's severities, images cropped to {size[0]}x{size[1]} pixels as the networks see them"
    return lambda image: transform(image).permute(1, 2, 0).numpy(), change


def _photographs(folder: Path, size: int) -> list[np.ndarray]:
    """Return the photographs of frost in a folder."""
    paths = sorted(path for path in folder.iterdir() if path.name.lower().endswith(IMAGE_ENDINGS))
    images = ImageSet([str(path) for path in paths], [0] * len(paths), [FROST], range(len(paths)))
    photographs = [np.asarray(images.image(position)) for position in range(len(paths))]
    least = 5 * (size + 1) if size == SIZE else size + 1
    small = [path for path, image in zip(paths, photographs, strict=True) if min(image.shape[:2]) < least]
    if small or not paths:
        raise ValueError(
            f"`frost` must be a folder of photographs of at least {least}x{least} pixels, got "
            f"{small[0] if small else f'{folder} without one'}. Give others."
        )
    return photographs


def _published_frost(path: Path, clean: np.ndarray, labels: list[int], severities: int) -> np.ndarray:
    """Return an array of images with frost that belongs to the test images, as far as its shape and labels can tell."""
    try:
        array, its_labels = (np.load(file, mmap_mode="r") for file in (path, path.with_name(f"{LABELS}.npy")))
    except UNREADABLE as error:
        raise ValueError(
            f"`frost` must be a folder of photographs, or an array beside its {LABELS}.npy, got {path}: {error}."
        ) from error
    count = len(clean) * severities
    if array.dtype != np.uint8 or array.shape[1:] != clean.shape[1:] or len(array) < count:
        raise ValueError(
            f"`frost` must hold {count} images of {clean.shape[1]}x{clean.shape[1]} pixels, got {array.dtype} of shape "
            f"{array.shape} in {path}. Give photographs."
        )
    if its_labels[:count].tolist() != labels * severities:
        raise ValueError(f"`frost` must have the classes of the test images in their order, got {path} with others.")
    return array


def _arrays(
    clean: np.ndarray,
    severities: int,
    folder: Path,
    name: str,
    origin: dict[str, Any],
    photographs: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the array of each corruption; what is not kept yet is computed."""
    digests, size = _noted(folder, origin), clean.shape[1]
    frost = [hashlib.sha256(image.tobytes()).hexdigest() for image in photographs]
    if digests.get(_FROST_FROM) != frost:
        digests.pop(FROST, None)
    digests[_FROST_FROM] = frost
    kept = {
        corruption: _kept(folder / f"{corruption}.npy", clean.shape, digests.get(corruption, []))
        for corruption in computable(size, with_frost=bool(photographs))
    }
    missing = {corruption: range(len(array) // len(clean), severities) for corruption, array in kept.items()}
    total = len(clean) * sum(map(len, missing.values()))
    _check_room(folder, clean.nbytes * sum(severities for steps in missing.values() if steps))
    chunk = max(1, _CHUNK // size**2)
    with (
        tqdm(total=total, desc=f"{name}: corruptions", unit="image", disable=not total, dynamic_ncols=True) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for corruption, steps in missing.items():
            if not steps:
                continue
            bar.set_postfix_str(corruption)
            path = folder / f"{corruption}.npy"
            array = np.lib.format.open_memmap(
                path.with_suffix(".partial"), "w+", np.uint8, (severities * len(clean), *clean.shape[1:])
            )
            done = len(kept[corruption])
            array[:done] = kept[corruption]
            for severity in steps:
                chunks = [clean[start : start + chunk] for start in range(0, len(clean), chunk)]
                make = partial(corrupt, corruption=corruption, severity=severity + 1, photographs=photographs)
                for made in pool.map(make, chunks):
                    array[done : done + len(made)] = made
                    done += len(made)
                    bar.update(len(made))
            array.flush()
            os.replace(path.with_suffix(".partial"), path)
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


def _check_room(folder: Path, num_bytes: int) -> None:
    """Refuse arrays for which the disk has no room, before hours are spent on them.

    Raises:
        ValueError: If it has none.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"`output_dir` must have room for the corrupted images, {num_bytes / 2**30:.1f} GiB, got {folder} with "
            f"{free / 2**30:.1f} GiB free. Ask for fewer --severities, or choose another folder."
        )


def _kept(path: Path, shape: tuple[int, ...], digests: Sequence[str]) -> np.ndarray:
    """Return the severities of an array that are kept; none where the file is not the one that was written here."""
    count, nothing = shape[0], np.empty((0, *shape[1:]), dtype=np.uint8)
    if not path.is_file() or not digests:
        return nothing
    try:
        array = np.load(path, mmap_mode="r")
        if array.dtype == np.uint8 and array.shape[1:] == nothing.shape[1:] and _digests(array, count) == digests:
            return array
        fault = "is not the array that was computed here"
    except UNREADABLE as error:
        fault = f"cannot be read ({error})"
    _logger.warning("%s %s, and is computed again.", path, fault)
    return nothing


def _digests(array: np.ndarray, count: int) -> list[str]:
    """Return the sha256 of each severity's images, of which there are `count`."""
    return [
        hashlib.sha256(np.ascontiguousarray(array[start : start + count]).data).hexdigest()
        for start in range(0, len(array), count)
    ]


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array that is complete or not there, whenever the process ends."""
    partial = path.with_suffix(".partial")
    with failures_name(path), partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
