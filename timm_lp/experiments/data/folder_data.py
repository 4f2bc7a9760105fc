"""A data set of the user's own: `train/<class>/` and `test/<class>/` images."""

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from .class_folders import class_images
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
    if (root / train_folder).is_dir() and (root / train_folder).samefile(root / test_folders[0]):
        raise ValueError(
            f"`dataset` must have other images to test on than to train on, got {str(root)!r}, whose {train_folder} "
            f"and {test_folders[0]} are one folder. Remove the link."
        )
    train, test = _images(root / train_folder), _images(root / test_folders[0])
    check_classes(train.class_names, test.class_names)
    name = root.resolve().name
    return DataSet(DataInfo(name, name, split=test_folders[0]), name, train, test, location=root)


def _images(root: Path) -> ImageSet:
    if not root.is_dir():
        raise ValueError(f"`dataset` must have images in each class folder: there is no folder {root}.")
    images = class_images(root, _EXTENSIONS, "dataset")
    paths = [path for own in images.values() for path in own]
    labels = [label for label, own in enumerate(images.values()) for _ in own]
    return ImageSet(paths, labels, list(images), range(len(paths)))
