"""CoOp's split files: `split_zhou_<data set>.json` beside the original images."""

import json
from pathlib import Path
from typing import Any

from .images import DataInfo, DataSet, ImageSet, check_classes


def load_split_file(path: Path) -> DataSet:
    """Return the images that one of CoOp's split files lists.

    Args:
        path: The JSON file, `{"train" | "val" | "test": [[path, label, class name], ...]}`. The paths start at its
            folder or at one of the folders in it (`images`, `jpg`, `UCF-101-midframes`).

    Raises:
        ValueError: If it is no such file, its images are not there, its splits have different classes, or a class is
            not told by one number.
    """
    splits = _read(path)
    root = _image_root(path, splits["train"][0][0])
    names = _names(path, splits)
    class_names = [names.get(label, str(label)) for label in range(max(names) + 1)]
    train, val, test = (_images(splits[split], root, class_names) for split in ("train", "val", "test"))
    check_classes(*({class_names[label] for label in images.labels} for images in (train, test)))  # type: ignore[arg-type]
    name = path.stem.removeprefix("split_zhou_")
    info = DataInfo(path.name, f"{name} (CoOp's split)")
    return DataSet(info, path.stem, train, test, val, location=path)


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())  # with a byte order mark, or in another of JSON's encodings
        splits = {split: [(str(file), int(label), name) for file, label, name in content[split]] for split in content}
        complete = splits.keys() >= {"train", "val", "test"} and splits["train"] and splits["test"]
    except (OSError, ValueError, TypeError, LookupError) as error:
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


def _images(rows: list[Any], root: Path, class_names: list[str]) -> ImageSet:
    return ImageSet([str(root / file) for file, _, _ in rows], [row[1] for row in rows], class_names, range(len(rows)))
