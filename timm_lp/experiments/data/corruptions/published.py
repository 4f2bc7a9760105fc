"""Corrupted images as they are published: CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C, ImageNet-C and ImageNet-100-C."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ....files import UNREADABLE, file_digest, file_state
from ..digests import DigestCache, digest_key, image_digests
from ..folders import class_images, labelled
from . import NUM_SEVERITIES, SIZE, WHERE
from .functions import is_common
from .images import CorruptedPart, CorruptedSet, array_part

LABELS = "labels"
_MOST_BLANK = 0.01  # share of the images that may be of a single level
_FOLDERS = {  # of images, by their number of classes, and whether the images are cropped as networks see them
    200: ("Tiny-ImageNet-C", False),
    1000: ("ImageNet-C", True),
    100: ("ImageNet-100-C", True),
}
_IMAGES_OF_CLASS = 50  # in each of them
_ENDINGS = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class PublishedArrays:
    """A published set of arrays.

    Attributes:
        name: What it is called.
        url: Where it is.
        num_classes: Number of its classes.
        num_images: Images of each corruption at each severity.
        md5: Of its files, by their names without `.npy`.
    """

    name: str
    url: str
    num_classes: int
    num_images: int
    md5: dict[str, str]


_MD5 = {  # of the files of CIFAR-10-C and of CIFAR-100-C
    "gaussian_noise": ("ecaf8b9a2399ffeda7680934c33405fd", "ecc4d366eac432bdf25c024086f5e97d"),
    "shot_noise": ("3a7239bb118894f013d9bf1984be7f11", "b0a1fa6e1e465a747c1b204b1914048a"),
    "impulse_noise": ("2090e01c83519ec51427e65116af6b1a", "3b3c210ddfa0b5cb918ff4537a429fef"),
    "defocus_blur": ("7d1322666342a0702b1957e92f6254bc", "d923e3d9c585a27f0956e2f2ad832564"),
    "glass_blur": ("7361fb4019269e02dbf6925f083e8629", "0bf384f38e5ccbf8dd479d9059b913e1"),
    "motion_blur": ("fffa5f852ff7ad299cfe8a7643f090f4", "732a7e2e54152ff97c742d4c388c5516"),
    "zoom_blur": ("6ea8e63f1c5cdee1517533840641641b", "0204613400c034a81c4830d5df81cb82"),
    "snow": ("bb238de8555123da9c282dea23bd6e55", "0237be164583af146b7b144e73b43465"),
    "frost": ("31f6ab3bce1d9934abfb0cc13656f141", "3a39c6823bdfaa0bf8b12fe7004b8117"),
    "fog": ("7b397314b5670f825465fbcd1f6e9ccd", "4efc7ebd5e82b028bdbe13048e3ea564"),
    "brightness": ("0a81ef75e0b523c3383219c330a85d48", "f22d7195aecd6abb541e27fca230c171"),
    "contrast": ("3c8262171c51307f916c30a3308235a8", "322bb385f1d05154ee197ca16535f71e"),
    "elastic_transform": ("9421657c6cd452429cf6ce96cc412b5f", "a0792bd6581f6810878be71acedfc65a"),
    "pixelate": ("0f14f7e2db14288304e1de10df16832f", "96c00c60f144539e14cffb02ddbd0640"),
    "jpeg_compression": ("2b9cc4c864e0193bb64db8d7728f8187", "c851b7f1324e1d2ffddeb76920576d11"),
    "speckle_noise": ("ef00b87611792b00df09c0b0237a1e30", "e3f215b1a0f9fd9fd6f0d1cf94a7ce99"),
    "gaussian_blur": ("c33370155bc9b055fb4a89113d3c559d", "5204ba0d557839772ef5a4196a052c3e"),
    "spatter": ("8a5a3903a7f8f65b59501a6093b4311e", "12ccf41d62564d36e1f6a6ada5022728"),
    "saturate": ("1cfae0964219c5102abbb883e538cc56", "c0697e9fdd646916a61e9c312c77bf6b"),
    LABELS: ("c439b113295ed5254878798ffe28fd54", "bb4026e9ce52996b95f439544568cdb2"),
}
CIFAR_10_C, CIFAR_100_C = (
    PublishedArrays(name, url, num_classes, 10_000, {file: md5[column] for file, md5 in _MD5.items()})
    for column, (name, url, num_classes) in enumerate(
        [
            ("CIFAR-10-C", "https://zenodo.org/records/2535967", 10),
            ("CIFAR-100-C", "https://zenodo.org/records/3555552", 100),
        ]
    )
)
PUBLISHED = (CIFAR_10_C, CIFAR_100_C)
NAMES = tuple(name for name in _MD5 if name != LABELS)  # of the corruptions that are published
_COMMON = tuple(name for name in NAMES if is_common(name))


def read_published(
    folder: Path,
    severities: Sequence[int],
    *,
    check_md5: bool = True,
    published: Sequence[PublishedArrays] = PUBLISHED,
) -> CorruptedSet:
    """Return the corrupted images in a folder: arrays `<corruption>.npy`, or `<corruption>/<severity>/<class>/` images.

    Args:
        folder: The folder.
        severities: Which to read, from 1 to 5.
        check_md5: Whether to refuse files other than the published ones; if not, the set is not called by their name.
        published: The sets of arrays that are known by their md5.

    Raises:
        ValueError: If a file is missing, damaged, or another one than was published.
    """
    if (folder / f"{LABELS}.npy").is_file():
        read = _read_arrays(folder, severities, check_md5, published)
    elif any(_corruption_folders(folder)):
        read = _read_folders(folder, severities, check_md5)
    else:
        raise ValueError(
            f"`corruptions` must be a folder with {LABELS}.npy and {_COMMON[0]}.npy and so on, or with "
            f"{_COMMON[0]}/1/<class>/ images, got {folder}. {WHERE}."
        )
    _check_differ(folder, read.parts)
    return read


def _check_differ(folder: Path, parts: dict[tuple[str, int], CorruptedPart]) -> None:
    """Refuse one corruption's images under another's name, or at another severity."""
    titles: dict[str, str] = {}
    for (name, severity), part in parts.items():
        title = f"{name} at severity {severity}"
        first = titles.setdefault(part.sha256, title)
        if first != title:
            raise ValueError(
                f"`corruptions` must have images of its own for each corruption and severity, got {folder} with the "
                f"same for {first} and {title}. Unpack it again."
            )


def _read_arrays(
    folder: Path, severities: Sequence[int], check_md5: bool, published: Sequence[PublishedArrays]
) -> CorruptedSet:
    missing = [name for name in NAMES if not (folder / f"{name}.npy").is_file()]
    if missing:
        raise ValueError(
            f"`corruptions` must hold all {len(NAMES)} arrays, got {folder} without "
            f"{', '.join(f'{name}.npy' for name in missing)}. {WHERE}."
        )
    labels = _labels(folder / f"{LABELS}.npy")
    num_classes = int(labels.max()) + 1
    name, note = f"the arrays in {folder.name}", "md5 not checked, so that these may be other files than the published"
    arrays_of: PublishedArrays | None = None
    if check_md5:
        arrays_of = _which(folder, labels, num_classes, published)
        name, note = arrays_of.name, ""
    arrays = {name: _array(folder / f"{name}.npy", len(labels), SIZE if arrays_of else None) for name in NAMES}
    if arrays_of:
        _check_md5(folder, arrays_of)
    count, listed, names = len(labels) // NUM_SEVERITIES, labels.tolist(), [str(label) for label in range(num_classes)]
    for corruption, severity in product(NAMES, severities):
        images = arrays[corruption][(severity - 1) * count : severity * count]
        _check_not_blank(images, folder / f"{corruption}.npy", severity)
    parts = {
        (name, severity): array_part(arrays[name], listed, names, (severity - 1) * count, count)
        for name in NAMES
        for severity in severities
    }
    return CorruptedSet(name, note, parts, None, num_classes)


def _which(folder: Path, labels: np.ndarray, num_classes: int, published: Sequence[PublishedArrays]) -> PublishedArrays:
    """Return the published set that has so many classes and labels."""
    for arrays in published:
        if arrays.num_classes != num_classes:
            continue
        if len(labels) == NUM_SEVERITIES * arrays.num_images:
            return arrays
        raise ValueError(
            f"`corruptions` must hold {NUM_SEVERITIES} x {arrays.num_images} labels, got {len(labels)} in {folder}. "
            f"Unpack {arrays.url} again."
        )
    raise ValueError(
        f"`corruptions` must be {' or '.join(arrays.name for arrays in published)}, got {folder} with {num_classes} "
        "classes. Give --no-md5 to go on; every table then says so."
    )


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except UNREADABLE as error:
        raise ValueError(f"`corruptions` must hold arrays of NumPy, got {path}: {error}. Unpack it again.") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"`corruptions` must hold arrays of NumPy, got {path}, an archive. Unpack it again.")
    return array


def _labels(path: Path) -> np.ndarray:
    labels = np.asarray(_load(path))
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels) or labels.min() < 0:
        raise ValueError(f"`corruptions` must have classes in {path}, got {labels.dtype} of shape {labels.shape}.")
    rows = labels.reshape(NUM_SEVERITIES, -1) if len(labels) % NUM_SEVERITIES == 0 else labels[None, :0]
    if not rows.size or (rows != rows[0]).any():
        raise ValueError(
            f"`corruptions` must have the same classes {NUM_SEVERITIES} times, once for each severity, in {path}, got "
            f"{len(labels)} that do not repeat so. Unpack it again."
        )
    return labels.astype(np.int64)


def _array(path: Path, count: int, size: int | None) -> np.ndarray:
    array = _load(path)
    square = array.ndim == 4 and array.shape[0] == count and array.shape[3] == 3
    if array.dtype != np.uint8 or not square or (size is not None and array.shape[1:3] != (size, size)):
        expected = f"({count}, {size or 'H'}, {size or 'W'}, 3)"
        raise ValueError(
            f"`corruptions` must hold uint8 arrays of shape {expected}, got {array.dtype} of shape {array.shape} in "
            f"{path}. Unpack it again."
        )
    return array


def _check_not_blank(images: np.ndarray, path: Path, severity: int) -> None:
    """Refuse images that show nothing, as in a file whose end never arrived."""
    blank = np.count_nonzero((images == images[:, :1, :1, :1]).all(axis=(1, 2, 3)))
    if blank > len(images) * _MOST_BLANK:
        raise ValueError(
            f"`corruptions` must hold pictures, got {path} with {blank} of {len(images)} images of a single level at "
            f"severity {severity}. Unpack it again."
        )


def _check_md5(folder: Path, published: PublishedArrays) -> None:
    """Refuse a file that is not the published one; what was read once is not read again."""
    cache = DigestCache(folder.absolute())
    for name, expected in tqdm(published.md5.items(), desc=f"{published.name}: md5", unit="file", leave=False, delay=2):
        path = folder / f"{name}.npy"
        key = digest_key("md5", path.name, file_state(path))
        md5 = cache.get(key)
        if md5 is None:
            md5 = bytes.fromhex(file_digest(path, "md5")).ljust(32, b"\0")
            cache.put(key, md5)
        if md5[:16].hex() != expected:
            cache.save()
            raise ValueError(
                f"`corruptions` must be {published.name} as published, got {path} with md5 {md5[:16].hex()} instead of "
                f"{expected}. Unpack {published.url} again, or give --no-md5 to go on; every table then says so."
            )
    cache.save()


def _corruption_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each corruption, which may lie in one for its kind, as in `noise/gaussian_noise`."""
    found = {path.name: path for path in [*folder.glob("*/*/"), *folder.glob("*/")] if path.is_dir()}
    return {name: found[name] for name in NAMES if name in found}


def _read_folders(folder: Path, severities: Sequence[int], check_md5: bool) -> CorruptedSet:
    folders = _corruption_folders(folder)
    names = list(folders)
    missing = [name for name in _COMMON if name not in names]
    if missing:
        raise ValueError(
            f"`corruptions` must hold the {len(_COMMON)} common corruptions, got {folder} without "
            f"{', '.join(missing)}. {WHERE}."
        )
    cache = DigestCache(folder.absolute())
    files_of = {
        (name, severity): _of_classes(folders[name] / str(severity)) for name in names for severity in severities
    }
    first, files_of_first = next(iter(files_of.items()))
    class_names, counts_of_first = list(files_of_first), _counts(files_of_first)
    for part, files in files_of.items():
        if _counts(files) != counts_of_first:
            raise ValueError(
                f"`corruptions` must have as many images of each class in each folder, got {folder} with others in "
                f"{'/'.join(map(str, part))} than in {'/'.join(map(str, first))}. Unpack it again."
            )
    counts = set(counts_of_first.values())
    known, is_cropped = _FOLDERS.get(len(class_names), ("", False))
    if check_md5 and (not known or counts != {_IMAGES_OF_CLASS}):
        sets = " or ".join(f"{number} classes as {name}" for number, (name, _) in _FOLDERS.items())
        raise ValueError(
            f"`corruptions` must have {sets}, of {_IMAGES_OF_CLASS} images each, got {folder} with {len(class_names)} "
            f"of {min(counts)} to {max(counts)}. Give --no-md5 to go on; every table then says so."
        )
    parts = {
        part: _folder_part(files, class_names, cache, "/".join(map(str, part))) for part, files in files_of.items()
    }
    cache.save()
    name = known if check_md5 else f"the images in {folder.name}"
    note = "no md5 is published for its files" if check_md5 else "classes and counts not checked"
    return CorruptedSet(name, note, parts, class_names, len(class_names), is_cropped and check_md5)


def _of_classes(folder: Path) -> dict[str, list[str]]:
    """Return the images of each class."""
    if not folder.is_dir():
        raise ValueError(f"`corruptions` must have a folder for each severity, got none at {folder}. {WHERE}.")
    return class_images(folder, _ENDINGS, "corruptions")


def _counts(files: dict[str, list[str]]) -> dict[str, int]:
    return {name: len(of_class) for name, of_class in files.items()}


def _folder_part(files: dict[str, list[str]], class_names: list[str], cache: DigestCache, name: str) -> CorruptedPart:
    images = labelled(files)
    contents = b"".join(image_digests(images.sources, images.indices, cache, name))
    sha256 = hashlib.sha256(f"{class_names} {images.labels} ".encode() + contents).hexdigest()
    return CorruptedPart(images, sha256)
