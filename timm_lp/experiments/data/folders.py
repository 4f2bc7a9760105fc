"""Images in the user's folders: folders of classes, and the split files of CoOp that lie beside their images."""

import json
import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torchvision.datasets.folder import IMG_EXTENSIONS

from .decoding import ImageSet
from .images import FOLDER_HOLDS, DataInfo, DataSet, check_classes, check_splits
from .presets import ReadOptions

_TEST_FOLDERS = ("test", "val", "validation")
IMAGE_ENDINGS = (*IMG_EXTENSIONS, ".gif", ".jfif", ".jp2", ".avif")

_logger = logging.getLogger(__name__)

_Id = tuple[int, int]  # of a folder on this machine, whatever path leads there


def class_images(root: Path, endings: Collection[str], argument: str) -> dict[str, list[str]]:
    """Return the paths of the images of each class: those in `root/<class>/` and in all folders in it.

    Hidden folders and files are left out: `.ipynb_checkpoints` is no class, and `._1.jpg` no image. A link to a file is
    an image. Each folder is read once, however many links lead to it; a link to a folder above itself is left out.

    Args:
        root: Holds the classes' folders.
        endings: How images' names end, in small letters.
        argument: What messages call the user's argument.

    Raises:
        ValueError: If there is no class, a class without images, a folder in two classes, or a folder or a file that
            cannot be read.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(root) if _is_dir(entry) and entry.name[0] != ".")
        owners = {_id(folder): "" for folder in (root.resolve(), *root.resolve().parents)}
        # The classes' folders are taken first: a link in one class may lead to the folder of another.
        taken = {name for name in classes if _take(str(root / name), name, owners, argument)}
        left_out: list[str] = []
        images = {
            name: _images(str(root / name), name, owners, endings, argument, left_out)
            for name in classes
            if name in taken
        }
    except OSError as error:
        raise ValueError(
            f"`{argument}` must have folders that can be read, got {error.filename}: {error.strerror}."
        ) from error
    if left_out:
        _logger.info(
            "%s: %d files are left out, whose names end otherwise than images': %s", root, len(left_out), left_out[0]
        )
    empty = [str(root / name) for name in classes if not images.get(name)]
    if empty or not classes:
        raise ValueError(
            f"`{argument}` must have images in each class folder: there is "
            f"{f'none in {empty[0]}' if empty else f'no class folder in {root}'}. Images are told by their endings, "
            f"{', '.join(endings)}."
        )
    return images


def _images(
    folder: str, name: str, owners: dict[_Id, str], endings: Collection[str], argument: str, left_out: list[str]
) -> list[str]:
    """Return the images in a class's folder, folder by folder, in the order of their names; note other files."""
    images: dict[str, list[str]] = {}
    folders: list[str] = [folder]
    links: list[str] = []
    while folders or links:  # links last: they may lead to a folder in this one
        current = folders.pop() if folders else links.pop(0)
        if current != folder and not _take(current, name, owners, argument):
            continue
        images[current] = []
        for entry in sorted(os.scandir(current), key=lambda entry: entry.name):
            if entry.name[0] == ".":
                continue
            if _is_dir(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif entry.name.lower().endswith(tuple(endings)):
                _check_file(entry.path, argument)
                images[current].append(entry.path)
            else:
                left_out.append(entry.path)
    return [path for current in sorted(images) for path in images[current]]


def _take(folder: str, name: str, owners: dict[_Id, str], argument: str) -> bool:
    """Tell whether to read a folder for a class, and note that it was read; it is read once."""
    key = _id(folder)
    owner = owners.get(key)
    if owner is None:
        owners[key] = name
        return True
    if owner not in ("", name):
        raise ValueError(
            f"`{argument}` must have each image in one class, got {folder}, which leads to a folder of class "
            f"{owner!r}. Remove the link."
        )
    _logger.warning("%s is left out: it leads to a folder that is read already.", folder)
    return False


def _id(folder: str | Path) -> _Id:
    state = os.stat(folder)
    return state.st_dev, state.st_ino


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_file(path: str, argument: str) -> None:
    """Refuse a path that is named as an image and is no file: a reader would wait for a pipe for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ValueError(
            f"`{argument}` must have images that can be read, got {path}: {error.strerror}. Remove it, or mend the "
            "link."
        ) from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"`{argument}` must have images that are files, got {path}, which is none. Remove it.")


def load_folder(root: Path, options: ReadOptions) -> DataSet:
    """Return the images of a folder.

    Args:
        root: Holds `train/<class>/` and `test/<class>/` (or `val`, `validation`) images.
        options: May name other folders, as splits.

    Raises:
        ValueError: If there is no such folder, a class without images, or if the two are one or have different classes.
    """
    names = (options.test_split,) if options.test_split else _TEST_FOLDERS
    test_folders = [name for name in names if (root / name).is_dir()]
    if not test_folders:
        raise ValueError(
            f"`dataset` must be a folder that holds {FOLDER_HOLDS}, got {str(root)!r} without {' or '.join(names)}. "
            f"Give {root / 'train'} to have its images split."
        )
    train_folder = options.train_split or "train"
    check_splits(train_folder, test_folders[0])
    if (root / train_folder).is_dir() and (root / train_folder).samefile(root / test_folders[0]):
        raise ValueError(
            f"`dataset` must have other images to test on than to train on, got {str(root)!r}, whose {train_folder} "
            f"and {test_folders[0]} are one folder. Remove the link."
        )
    train, test = _class_folders(root / train_folder), _class_folders(root / test_folders[0])
    check_classes(train.class_names, test.class_names)
    name = root.resolve().name
    return DataSet(DataInfo(name, name, split=test_folders[0]), name, train, test, location=root)


def _class_folders(root: Path) -> ImageSet:
    if not root.is_dir():
        raise ValueError(f"`dataset` must have images in each class folder: there is no folder {root}.")
    return labelled(class_images(root, IMAGE_ENDINGS, "dataset"))


def labelled(images: dict[str, list[str]]) -> ImageSet:
    """Return the images of classes as a set, from their paths by class."""
    paths = [path for of_class in images.values() for path in of_class]
    labels = [label for label, of_class in enumerate(images.values()) for _ in of_class]
    return ImageSet(paths, labels, list(images), range(len(paths)))


def load_split_file(path: Path) -> DataSet:
    """Return the images that one of CoOp's split files lists.

    Args:
        path: The JSON file, `split_zhou_<data set>.json`: `{"train" | "val" | "test": [[path, label, class name],
            ...]}`. The paths start at its folder or at one of the folders in it (`images`, `jpg`, `UCF-101-midframes`).

    Raises:
        ValueError: If it is no such file, its images are not there, its splits have different classes, or a class has
            several numbers, or a number several classes.
    """
    splits = _read_splits(path)
    root = _image_root(path, splits["train"][0][0])
    names = _names(path, splits)
    class_names = [names.get(label, str(label)) for label in range(max(names) + 1)]
    train, val, test = (_listed(splits[split], root, class_names) for split in ("train", "val", "test"))
    check_classes(*({class_names[label] for label in images.labels} for images in (train, test)))  # type: ignore[arg-type]
    name = path.stem.removeprefix("split_zhou_")
    info = DataInfo(path.name, f"{name} (CoOp's split)")
    return DataSet(info, path.stem, train, test, val, location=path)


def _read_splits(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())  # with a byte order mark, or in another of JSON's encodings
        splits = {split: [(str(file), int(label), name) for file, label, name in content[split]] for split in content}
        complete = splits.keys() >= {"train", "val", "test"} and splits["train"] and splits["test"]
    except (OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise ValueError(f"`dataset` must be a split file of CoOp's, got {str(path)!r}: {error}") from error
    if not complete:
        raise ValueError(
            f"`dataset` must be a split file of CoOp's with train, val and test, got {str(path)!r} with images in "
            f"{', '.join(name for name in splits if splits[name]) or 'none'}."
        )
    return splits


def _names(path: Path, splits: dict[str, list[Any]]) -> dict[int, str]:
    """Return the name of each class by its number."""
    names: dict[int, str] = {}
    for label, name in ((label, str(name)) for rows in splits.values() for _, label, name in rows):
        if label < 0 or names.setdefault(label, name) != name:
            fault = "a negative number" if label < 0 else f"the number of {names[label]!r}"
            raise ValueError(
                f"`dataset` must give each class one number from 0 on, got {str(path)!r} with {name!r} of {fault}, "
                f"{label}. Mend the file."
            )
    return names


def _image_root(path: Path, first: str) -> Path:
    """Return the folder from which the paths count."""
    candidates = [path.parent, *sorted(folder for folder in path.parent.iterdir() if folder.is_dir())]
    for folder in candidates:
        if (folder / first).is_file():
            return folder
    raise ValueError(
        f"`dataset` must lie beside its images, got {str(path)!r} without {first} in {path.parent} or a folder in it. "
        "Unpack the original images there."
    )


def _listed(rows: list[Any], root: Path, class_names: list[str]) -> ImageSet:
    return ImageSet([str(root / file) for file, _, _ in rows], [row[1] for row in rows], class_names, range(len(rows)))
