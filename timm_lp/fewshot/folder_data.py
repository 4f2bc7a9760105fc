"""A data set of the user's own: `train/<class>/` and `test/<class>/` images."""

from pathlib import Path

from torchvision.datasets import ImageFolder

from .data import DataInfo, DataSet, ImageSet, check_classes

_TEST_FOLDERS = ("test", "val", "validation")


def load_folder(root: Path) -> DataSet:
    """Return the images of a folder.

    Args:
        root: Holds `train/<class>/` and `test/<class>/` (or `val`, `validation`) images.

    Raises:
        ValueError: If there is no test folder, a class without images, or if the two have different classes.
    """
    test_folders = [name for name in _TEST_FOLDERS if (root / name).is_dir()]
    if not test_folders:
        raise ValueError(
            f"`dataset` must be a folder with train/<class>/ and test/<class>/ images, got {str(root)!r}. "
            f"(The test images may also be in {' or '.join(_TEST_FOLDERS[1:])}.)"
        )
    train, test = _images(root / "train"), _images(root / test_folders[0])
    check_classes(train.class_names, test.class_names)
    name = root.resolve().name
    return DataSet(DataInfo(name, name, split=test_folders[0]), name, train, test)


def _images(root: Path) -> ImageSet:
    try:
        folder = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise ValueError(f"`dataset` must have images in each class folder: {error}") from error
    paths = [path for path, _ in folder.samples]
    return ImageSet(paths, folder.targets, folder.classes, range(len(paths)))
