"""Data sets on the Hub, and folders with the Hub's layout, read through `datasets`."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...files import file_state
from .decoding import ImageSet
from .digests import StoredColumn
from .hub_files import CLASS_IN_SHARDS, DamagedFileError, check_class_order, check_whole, data_files, odd_file
from .images import FOLDER_HOLDS, DataInfo, DataSet, check_classes, check_splits, split_names
from .presets import Preset, ReadOptions

_logger = logging.getLogger(__name__)

_TEST_SPLITS = ("test", "validation", "valid", "val")
_LISTS = ("metadata.csv", "metadata.jsonl")  # of images' names with their classes
_SAVED = "state.json"  # in the folder of each split that `save_to_disk` wrote


def is_table(folder: Path) -> bool:
    """Tell whether a folder with a folder `train` holds tables that `datasets` reads, and no class folders."""
    train = folder / "train"
    if (train / _SAVED).is_file() or any(train.glob("*.parquet")):
        return True
    is_listed = any((parent / name).is_file() for parent in (folder, train) for name in _LISTS)
    return is_listed and not any(path.is_dir() and path.name[0] != "." for path in train.iterdir())


def load_hub_data(source: str, folder: str, options: ReadOptions, preset: Preset | None = None) -> DataSet:
    """Return a data set of images; `datasets` downloads it and keeps it in its cache.

    Args:
        source: Its id on the Hub, or the absolute path of a folder that `datasets` reads: of parquet files in the
            Hub's layout, of images with a table of their classes, or as `save_to_disk` writes it.
        folder: Name of its folder among the results.
        options: Revision, columns and splits; what they leave open, the preset gives, or the data set itself.
        preset: The preset, if the data set has one.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If `datasets` cannot load it, or splits, columns or classes are not as they must be.
    """
    local = Path(source).is_absolute()
    if not local and Path(source).is_dir():  # `datasets` would read it in place of the revision
        raise ValueError(f"`dataset` must be on the Hub, got {source!r}, which is a folder here. Start elsewhere.")
    revision, files = None, []
    with _reading(source, local, preset):
        if local:
            if Path(source, _SAVED).is_file() or any(Path(source).glob(f"*/{_SAVED}")):
                parts = _load_saved(source)
            else:
                files = data_files(source, options.dataset_config)
                parts = _load_local(source, options.dataset_config, files)
        else:
            revision = _commit(source, options.dataset_revision or getattr(preset, "revision", None))
            parts = _load(source, options.dataset_config, revision)
    train_split = options.train_split or (preset.train_split if preset else "train")
    test_split = options.test_split or (preset.test_split if preset else _first_of(_TEST_SPLITS, parts, source))
    check_splits(train_split, test_split)
    train, test = (_join(parts, split, source) for split in (train_split, test_split))
    image_column, label_column = (
        _column(getattr(options, setting) or getattr(preset, setting, None), setting, kind, train)
        for setting, kind in (("image_column", "Image"), ("label_column", "ClassLabel"))
    )
    train_names, train_labels = _labels(train, label_column)
    test_names, test_labels = _labels(test, label_column)
    check_classes(train_names, test_names)
    if train_names != test_names:  # each saved split has its own
        raise ValueError(
            f"`dataset` must number its classes alike in all splits, got {source!r} with {', '.join(train_names)} in "
            f"{train_split} and {', '.join(test_names)} in {test_split}. Write them with one ClassLabel."
        )
    if local:
        check_class_order(files, label_column, train_names)
    clips = (preset.clip_columns, preset.frame_column) if preset else ((), None)
    id, name = (Path(source).resolve().name,) * 2 if local else (source, preset.name if preset else source)
    of_train = _images(train, train_labels, train_names, image_column, train_split, *clips)
    of_test = _images(test, test_labels, train_names, image_column, test_split, *clips)
    if not local:  # a commit fixes the images, and reading them all might take hours
        origin = [source, revision, options.dataset_config, image_column]
        of_train, of_test = (
            replace(images, pinned=json.dumps([*origin, split]))
            for images, split in ((of_train, train_split), (of_test, test_split))
        )
    info = DataInfo(id, name, revision, test_split, options.dataset_config)
    return DataSet(info, folder, of_train, of_test, location=Path(source) if local else None)


@contextmanager
def _reading(source: str, local: bool, preset: Preset | None) -> Iterator[None]:
    """Turn any error of reading a data set into one sentence."""
    try:
        yield
    except (ImportError, DamagedFileError):
        raise
    except Exception as error:  # those of the Hub, its HTTP client, pyarrow and `datasets` share no base class
        cause = error.__cause__ if type(error).__name__ == "DatasetGenerationError" else None  # it says nothing itself
        reason = " ".join(str(cause or error).split())
        if local:
            start = f"be a folder that holds {FOLDER_HOLDS}, got {source!r}: "
        elif preset:
            start = f"be readable, got {source!r}: "
        else:
            missing = f"There is no folder {Path(source).absolute()}, and the Hub's cannot be read: "
            start = f"be a folder or a data set on the Hub (org/name), got {source!r}. {missing}"
        raise ValueError(f"`dataset` must {start}{reason}") from error


def _commit(source: str, revision: str | None) -> str | None:
    """Return the commit that a revision names now; a whole hash needs no request."""
    if revision is not None and len(revision) == 40:
        return revision
    from huggingface_hub import dataset_info

    return dataset_info(source, revision=revision).sha


def _load(source: str, name: str | None, revision: str | None) -> Any:
    from datasets import load_dataset

    return load_dataset(source, name, revision=revision)


def _load_local(folder: str, name: str | None, files: list[Path]) -> Any:
    """Load a folder into a cache for this state of its files.

    `datasets` tells files apart by path and time alone: it would not read other files that replace them.
    """
    from datasets import config, load_dataset
    from datasets.exceptions import DatasetGenerationError

    states = json.dumps([[str(file), file_state(file)] for file in files])
    cache = Path(config.HF_DATASETS_CACHE, "timm-lp", hashlib.sha256(states.encode()).hexdigest()[:16])
    if not cache.is_dir():
        check_whole(files)
    try:
        return load_dataset(folder, name, cache_dir=str(cache))
    except (DatasetGenerationError, ValueError) as error:
        if odd := odd_file(files):
            raise DamagedFileError(f"`dataset` must have files of one kind, got {odd}.") from error
        raise


def _load_saved(folder: str) -> Any:
    """Load what `DatasetDict.save_to_disk` wrote, or the folders of single splits beside each other."""
    from datasets import DatasetDict, load_from_disk

    if Path(folder, _SAVED).is_file():
        raise ValueError("it is a single set that `save_to_disk` wrote. Save a DatasetDict with train and test there")
    if Path(folder, "dataset_dict.json").is_file():
        return load_from_disk(folder)
    return DatasetDict(
        {path.parent.name: load_from_disk(str(path.parent)) for path in Path(folder).glob(f"*/{_SAVED}")}
    )


def _first_of(names: tuple[str, ...], parts: Any, source: str) -> str:
    for name in names:
        if name in parts:
            return name
    advice = f"A folder holds {FOLDER_HOLDS}" if Path(source).is_absolute() and len(parts) == 1 else "Give --test-split"
    raise ValueError(
        f"`test_split` must name a split of {source}, got none of {', '.join(names)} among {', '.join(parts)}. "
        f"{advice}."
    )


def _join(parts: Any, split: str, source: str) -> Any:
    """Return a split, or several joined by a plus."""
    names = split_names(split)
    missing = [name for name in names if name not in parts]
    if missing:
        raise ValueError(
            f"`train_split` and `test_split` must name splits of {source}, got {missing[0]!r}. "
            f"It has {', '.join(parts)}."
        )
    if len(names) == 1:
        return parts[names[0]]
    from datasets import concatenate_datasets

    return concatenate_datasets([parts[name] for name in names])


def _column(name: str | None, setting: str, kind: str, data: Any) -> str:
    """Return a column's name: the given one, or the only one of its kind."""
    if name is None:
        columns = [column for column, feature in data.features.items() if type(feature).__name__ == kind]
        if not columns and kind == "ClassLabel" and CLASS_IN_SHARDS in data.features:
            return CLASS_IN_SHARDS
        if len(columns) == 1:
            return columns[0]
        raise ValueError(
            f"`{setting}` must be given for this data set, got {len(columns)} columns of type {kind} among "
            f"{', '.join(data.column_names)}."
        )
    if name not in data.column_names:
        raise ValueError(f"`{setting}` must be a column, got {name!r}. There are {', '.join(data.column_names)}.")
    return name


def _labels(data: Any, column: str) -> tuple[list[str], np.ndarray]:
    """Return the names of the classes, and the index of each image's class among them.

    Raises:
        ValueError: If an image has no class; test sets of competitions have none, or -1.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = getattr(data.features[column], "names", None)
    stored = data.data.column(column).type
    if pa.types.is_nested(stored) or pa.types.is_binary(stored) or pa.types.is_large_binary(stored):
        raise ValueError(
            f"`label_column` must hold one class for each image, got {column!r} of {data.features[column]}. Choose "
            f"another of {', '.join(data.column_names)}, or write one class a row."
        )
    missing = pc.is_null(data.data.column(column)).to_numpy()
    values = np.asarray(data.with_format("numpy")[column][:]) if not missing.any() else np.empty(0)
    if names is not None and len(values):
        missing = (values < 0) | (values >= len(names))
    elif values.dtype.kind == "f" and len(values):
        missing = np.isnan(values)
    if missing.any():
        raise ValueError(
            f"`label_column` must have a class for every image, got {column!r} with {missing.sum()} of {len(data)} "
            f"images of {data.split or 'a split'} without one, row {missing.argmax()} first. Choose other splits or "
            "another column."
        )
    if names is not None:
        return list(names), values
    if values.dtype.kind == "f" and (values % 1).any():
        raise ValueError(
            f"`label_column` must hold classes, got {column!r} with {values[values % 1 > 0][0]:g} among its numbers. "
            f"Choose another of {', '.join(data.column_names)}, or write classes."
        )
    classes, labels = np.unique(values, return_inverse=True)
    return [str(name) for name in classes], labels


def _images(
    data: Any,
    labels: np.ndarray,
    class_names: list[str],
    image_column: str,
    split: str,
    clip_columns: tuple[str, ...],
    frame_column: str | None,
) -> ImageSet:
    indices: Any = range(len(data))
    if clip_columns and frame_column:
        indices = _middle_frames(data, clip_columns, frame_column)
    return ImageSet(_sources(data, image_column, split), labels.tolist(), class_names, indices)


def _sources(data: Any, image_column: str, split: str) -> Sequence[Any]:
    """Return the images as they are stored: in the rows of the table, or in files that the rows name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = data.data.column(image_column)
    parts = {field.name for field in column.type} if pa.types.is_struct(column.type) else set()
    if not parts >= {"bytes", "path"}:
        raise ValueError(
            f"`image_column` must hold images, got {image_column!r} of {data.features[image_column]}. "
            f"There are {', '.join(data.column_names)}."
        )
    elsewhere = pc.and_(pc.is_null(pc.struct_field(column, "bytes")), pc.is_valid(pc.struct_field(column, "path")))
    if not pc.any(elsewhere).as_py():
        return StoredColumn(column, image_column, [file["filename"] for file in data.cache_files], split)
    return [row["path"] if row and row["bytes"] is None else row for row in column.to_pylist()]


def _middle_frames(data: Any, clip_columns: tuple[str, ...], frame_column: str) -> list[int]:
    """Return the index of each clip's middle frame, clips in the order of their first frames."""
    columns = data.select_columns([*clip_columns, frame_column]).with_format("numpy")
    frames = np.asarray(columns[frame_column][:])
    clips: dict[tuple[Any, ...], list[int]] = {}
    for index, clip in enumerate(zip(*(columns[name][:].tolist() for name in clip_columns), strict=True)):
        clips.setdefault(clip, []).append(index)
    _logger.info("Taking the middle frames of %d clips from %d frames.", len(clips), len(frames))
    return [sorted(indices, key=lambda index: frames[index])[len(indices) // 2] for indices in clips.values()]
