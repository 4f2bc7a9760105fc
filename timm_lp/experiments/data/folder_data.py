"""A data set of the user's own: `train/<class>/` and `test/<class>/` images."""

import os
from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from .images import FOLDER_HOLDS, DataInfo, DataSet, ImageSet, check_classes, check_splits
from .options import ReadOptions

_TEST_FOLDERS = ("test", "val", "validation")
_EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".jfif", ".jp2", ".avif")


def load_folder(root: Path, options: ReadOptions) -> DataSet:
    """Return the images of a folder.

    Args:
        root: Holds `train/<class>/` and `test/<class>/` (or `val`, `validation`) images.
        options: May name the two folders otherwise, as splits.

    Raises:
        ValueError: If there is no such folder, a class without images, or if the two are one or have different classes.
    """
    names = (options.test_split,) if options.test_split else _TEST_FOLDERS
    test_folders = [name for name in names if (root / name).is_dir()]
    if not test_folders:
        raise ValueError(
            f"`dataset` must be a folder that holds {FOLDER_HOLDS}, got {str(root)!r} without {' or '.join(names)}."
        )
    train_folder = options.train_split or "train"
    check_splits(train_folder, test_folders[0])
    train, test = _images(root / train_folder), _images(root / test_folders[0])
    check_classes(train.class_names, test.class_names)
    name = root.resolve().name
    return DataSet(DataInfo(name, name, split=test_folders[0]), name, train, test, location=root)


class _VisibleFolder(ImageFolder):
    """Leaves hidden folders and files alone: `.ipynb_checkpoints` is no class, and `._1.jpg` no image."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name[0] != ".")
        if not classes:
            raise FileNotFoundError(f"There is no class folder in {directory}.")
        return classes, {name: label for label, name in enumerate(classes)}


def _images(root: Path) -> ImageSet:
    def is_image(path: str) -> bool:
        shown = not any(part.startswith(".") for part in Path(path).relative_to(root).parts)
        return shown and path.lower().endswith(_EXTENSIONS)

    try:
        folder = _VisibleFolder(str(root), is_valid_file=is_image)
    except FileNotFoundError as error:
        raise ValueError(f"`dataset` must have images in each class folder: {error}") from error
    paths = [path for path, _ in folder.samples]
    return ImageSet(paths, folder.targets, folder.classes, range(len(paths)))
