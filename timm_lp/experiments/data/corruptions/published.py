"""Corrupted images as they are published: CIFAR-10-C, CIFAR-100-C and Tiny-ImageNet-C."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ....files import file_state
from ..class_folders import class_images
from ..digests import DigestCache, image_digests
from ..images import ImageSet
from .images import CorruptedPart, CorruptedSet, array_part
from .names import COMMON, CORRUPTIONS, NUM_SEVERITIES, SIZE, WHERE

LABELS = "labels"
_MOST_BLANK = 0.01  # share of the images that may be of a single level
_TINY_CLASSES, _TINY_IMAGES = 200, 50  # of each class
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


CIFAR_10_C = PublishedArrays(
    "CIFAR-10-C",
    "https://zenodo.org/records/2535967",
    10,
    10_000,
    {
        "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
        "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
        "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
        "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
        "glass_blur": "7361fb4019269e02dbf6925f083e8629",
        "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
        "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
        "snow": "bb238de8555123da9c282dea23bd6e55",
        "frost": "31f6ab3bce1d9934abfb0cc13656f141",
        "fog": "7b397314b5670f825465fbcd1f6e9ccd",
        "brightness": "0a81ef75e0b523c3383219c330a85d48",
        "contrast": "3c8262171c51307f916c30a3308235a8",
        "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
        "pixelate": "0f14f7e2db14288304e1de10df16832f",
        "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
        "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
        "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
        "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
        "saturate": "1cfae0964219c5102abbb883e538cc56",
        LABELS: "c439b113295ed5254878798ffe28fd54",
    },
)
CIFAR_100_C = PublishedArrays(
    "CIFAR-100-C",
    "https://zenodo.org/records/3555552",
    100,
    10_000,
    {
        "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
        "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
        "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
        "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
        "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
        "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
        "zoom_blur": "0204613400c034a81c4830d5df81cb82",
        "snow": "0237be164583af146b7b144e73b43465",
        "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
        "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
        "brightness": "f22d7195aecd6abb541e27fca230c171",
        "contrast": "322bb385f1d05154ee197ca16535f71e",
        "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
        "pixelate": "96c00c60f144539e14cffb02ddbd0640",
        "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
        "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
        "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
        "spatter": "12ccf41d62564d36e1f6a6ada5022728",
        "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
        LABELS: "bb4026e9ce52996b95f439544568cdb2",
    },
)
PUBLISHED = (CIFAR_10_C, CIFAR_100_C)


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
        published: The sets of arrays that there are.

    Raises:
        ValueError: If a file is missing, damaged, or another one than was published.
    """
    if (folder / f"{LABELS}.npy").is_file():
        read = _read_arrays(folder, severities, check_md5, published)
    elif (folder / COMMON[0]).is_dir():
        read = _read_folders(folder, severities, check_md5)
    else:
        raise ValueError(
            f"`corruptions` must be a folder with {LABELS}.npy and {COMMON[0]}.npy and so on, or with "
            f"{COMMON[0]}/1/<class>/ images, got {folder}. {WHERE}."
        )
    _check_differ(folder, read.parts)
    return read


def _check_differ(folder: Path, parts: dict[tuple[str, int], CorruptedPart]) -> None:
    """Refuse one corruption's images under another's name, or at another severity."""
    places: dict[str, str] = {}
    for (name, severity), part in parts.items():
        place = f"{name} at severity {severity}"
        first = places.setdefault(part.sha256, place)
        if first != place:
            raise ValueError(
                f"`corruptions` must have images of its own for each corruption and severity, got {folder} with the "
                f"same for {first} and {place}. Unpack it again."
            )


def _read_arrays(
    folder: Path, severities: Sequence[int], check_md5: bool, published: Sequence[PublishedArrays]
) -> CorruptedSet:
    missing = [name for name in CORRUPTIONS if not (folder / f"{name}.npy").is_file()]
    if missing:
        raise ValueError(
            f"`corruptions` must hold all {len(CORRUPTIONS)} arrays, got {folder} without "
            f"{', '.join(f'{name}.npy' for name in missing)}. {WHERE}."
        )
    labels = _labels(folder / f"{LABELS}.npy")
    num_classes = int(labels.max()) + 1
    name, note = f"the arrays in {folder.name}", "md5 not checked, so that these may be other files than the published"
    size: int | None = None
    if check_md5:
        known = next((own for own in published if own.num_classes == num_classes), None)
        if known is None:
            raise ValueError(
                f"`corruptions` must be {' or '.join(own.name for own in published)}, got {folder} with {num_classes} "
                "classes. Give --no-md5 to go on; every table then says so."
            )
        if len(labels) != NUM_SEVERITIES * known.num_images:
            raise ValueError(
                f"`corruptions` must hold {NUM_SEVERITIES} x {known.num_images} labels, got {len(labels)} in {folder}. "
                f"Unpack {known.url} again."
            )
        size, name, note, num_classes = SIZE, known.name, "", known.num_classes
    arrays = {name: _array(folder / f"{name}.npy", len(labels), size) for name in CORRUPTIONS}
    if check_md5 and known is not None:
        _check_md5(folder, known)
    count, listed, names = len(labels) // NUM_SEVERITIES, labels.tolist(), [str(label) for label in range(num_classes)]
    for corruption, severity in product(CORRUPTIONS, severities):
        images = arrays[corruption][(severity - 1) * count : severity * count]
        _check_not_blank(images, folder / f"{corruption}.npy", severity)
    parts = {
        (name, severity): array_part(arrays[name], listed, names, (severity - 1) * count, count)
        for name in CORRUPTIONS
        for severity in severities
    }
    return CorruptedSet(name, note, parts, None, num_classes)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"`corruptions` must hold arrays of NumPy, got {path}: {error}. Unpack it again.") from error


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
    """Refuse images that nothing can be seen on, as those of a file whose end never arrived."""
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
        key, state = f"md5 of {path.name}", file_state(path)
        found = cache.get(key, state)
        if found is None:
            found = _md5(path)
            cache.put(key, state, found)
        if found.hex() != expected:
            cache.save()
            raise ValueError(
                f"`corruptions` must be {published.name} as published, got {path} with md5 {found.hex()} instead of "
                f"{expected}. Unpack {published.url} again, or give --no-md5 to go on; every table then says so."
            )
    cache.save()


def _md5(path: Path) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.digest()


def _read_folders(folder: Path, severities: Sequence[int], check_md5: bool) -> CorruptedSet:
    names = [name for name in CORRUPTIONS if (folder / name).is_dir()]
    missing = [name for name in COMMON if name not in names]
    if missing:
        raise ValueError(
            f"`corruptions` must hold the {len(COMMON)} common corruptions, got {folder} without {', '.join(missing)}. "
            f"{WHERE}."
        )
    cache = DigestCache(folder.absolute())
    found = {(name, severity): _of_classes(folder / name / str(severity)) for name in names for severity in severities}
    first_place, first = next(iter(found.items()))
    class_names = list(first)
    for place, files in found.items():
        if {name: len(own) for name, own in files.items()} != {name: len(own) for name, own in first.items()}:
            raise ValueError(
                f"`corruptions` must have as many images of each class in each folder, got {folder} with others in "
                f"{'/'.join(map(str, place))} than in {'/'.join(map(str, first_place))}. Unpack it again."
            )
    counts = {len(own) for own in first.values()}
    if check_md5 and (len(class_names) != _TINY_CLASSES or counts != {_TINY_IMAGES}):
        raise ValueError(
            f"`corruptions` must have {_TINY_CLASSES} classes of {_TINY_IMAGES} images, as Tiny-ImageNet-C has, got "
            f"{folder} with {len(class_names)} of {min(counts)} to {max(counts)}. Give --no-md5 to go on; every table "
            "then says so."
        )
    parts = {
        place: _folder_part(files, class_names, cache, "/".join(map(str, place))) for place, files in found.items()
    }
    cache.save()
    name = "Tiny-ImageNet-C" if check_md5 else f"the images in {folder.name}"
    note = "no md5 is published for its files" if check_md5 else "classes and counts not checked"
    return CorruptedSet(name, note, parts, class_names, len(class_names))


def _of_classes(folder: Path) -> dict[str, list[str]]:
    """Return the images of each class."""
    if not folder.is_dir():
        raise ValueError(f"`corruptions` must have a folder for each severity, got none at {folder}. {WHERE}.")
    return class_images(folder, _ENDINGS, "corruptions")


def _folder_part(files: dict[str, list[str]], class_names: list[str], cache: DigestCache, name: str) -> CorruptedPart:
    paths = [path for own in files.values() for path in own]
    labels = [label for label, own in enumerate(files.values()) for _ in own]
    contents = b"".join(image_digests(paths, range(len(paths)), cache, name))
    sha256 = hashlib.sha256(f"{class_names} {labels} ".encode() + contents).hexdigest()
    return CorruptedPart(ImageSet(paths, labels, class_names, range(len(paths))), sha256)
