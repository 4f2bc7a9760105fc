"""The images in folders of classes: through links too, but each folder once."""

import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path

_logger = logging.getLogger(__name__)

_Id = tuple[int, int]  # of a folder on this machine, whatever path leads there


def class_images(root: Path, endings: Collection[str], argument: str) -> dict[str, list[str]]:
    """Return the paths of the images of each class: those in `root/<class>/` and in all folders in it.

    Hidden folders and files are left alone: `.ipynb_checkpoints` is no class, and `._1.jpg` no image. A link to a file
    is an image. Each folder is looked into once, whatever links lead there, and none that a link leads back to.

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
        # All classes' own folders are taken first: a link in one class may lead to that of another.
        taken = {name for name in classes if _take(str(root / name), name, owners, argument)}
        images = {name: _images(str(root / name), name, owners, endings, argument) for name in classes if name in taken}
    except OSError as error:
        raise ValueError(
            f"`{argument}` must have folders that can be read, got {error.filename}: {error.strerror}."
        ) from error
    empty = [str(root / name) for name in classes if not images.get(name)]
    if empty or not classes:
        raise ValueError(
            f"`{argument}` must have images in each class folder: there is "
            f"{f'none in {empty[0]}' if empty else f'no class folder in {root}'}. Images are told by their endings, "
            f"{', '.join(endings)}."
        )
    return images


def _images(folder: str, name: str, owners: dict[_Id, str], endings: Collection[str], argument: str) -> list[str]:
    """Return the images in a class's folder, folder by folder, in the order of their names."""
    found: dict[str, list[str]] = {}
    folders: list[str] = [folder]
    links: list[str] = []
    while folders or links:  # links last: what they lead to may lie here itself
        place = folders.pop() if folders else links.pop(0)
        if place != folder and not _take(place, name, owners, argument):
            continue
        found[place] = []
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            if entry.name[0] == ".":
                continue
            if _is_dir(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif entry.name.lower().endswith(tuple(endings)):
                _check_file(entry.path, argument)
                found[place].append(entry.path)
    return [path for place in sorted(found) for path in found[place]]


def _take(folder: str, name: str, owners: dict[_Id, str], argument: str) -> bool:
    """Tell whether to look into a folder for a class, and note that it was; it is looked into once."""
    own = _id(folder)
    owner = owners.get(own)
    if owner is None:
        owners[own] = name
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
    """Refuse what has the name of an image and is no file: a reader would wait for a pipe for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ValueError(
            f"`{argument}` must have images that can be read, got {path}: {error.strerror}. Remove it, or mend the "
            "link."
        ) from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"`{argument}` must have images that are files, got {path}, which is none. Remove it.")
