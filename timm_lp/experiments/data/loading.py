"""Load a data set by its name: a preset, a folder, a split file, or a repository on the Hub."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from .decoding import ImageSet
from .images import FOLDER_HOLDS, DataInfo, DataSet
from .presets import DIGITS, PRESETS, ReadOptions

_logger = logging.getLogger(__name__)

_FOR_FOLDERS = ("train_split", "test_split")
_FOR_PARQUET = (*_FOR_FOLDERS, "image_column", "label_column", "dataset_config")
_FOR_THE_HUB = (*_FOR_PARQUET, "dataset_revision")
_FOR_UNSPLIT = ("test_share",)
_FOR_ANY = (*_FOR_THE_HUB, *_FOR_UNSPLIT)
_NUM_DIGITS_TRAIN = 1000
_NO_OPTIONS = ReadOptions()
_NAMES = (DIGITS, *PRESETS)
_PRESET = "preset:"  # before a preset's name, where a folder or a file has it too


def load_data(dataset: str, options: ReadOptions = _NO_OPTIONS) -> DataSet:
    """Return a data set; the images themselves are not read yet.

    Args:
        dataset: A preset's name, with or without `preset:`, a folder of images or of parquet files, a split file of
            CoOp's, or a Hub id.
        options: How to read it.

    Raises:
        ValueError: If there is no such data set or two of that name, a package that reads it is not installed, or its
            splits, columns or classes are not as they must be.
    """
    try:
        data, read = _load(dataset, options)
    except ImportError as error:
        raise ValueError(
            f"`dataset` must be readable, got {dataset!r}: {error}. "
            '`pip install "timm-lp[experiments]"` brings all that data sets need.'
        ) from error
    _check_several_classes(data, dataset)
    unread = [_flag(name) for name in _FOR_ANY if getattr(options, name) is not None and name not in read]
    if unread:
        _logger.warning("%s: %s say nothing about a data set of this kind.", data.info.name, ", ".join(unread))
    return replace(data if data.location is None else _not_as_a_preset(data), argument=dataset)


def _not_as_a_preset(data: DataSet) -> DataSet:
    """Return a user's data set under a name that no preset has, in tables, cards and among the results."""
    presets = {name.casefold() for name in (*_NAMES, *(preset.name for preset in PRESETS.values()))}
    folder, id, name = (
        f"local-{title}" if title.casefold() in presets else title
        for title in (data.folder, data.info.id, data.info.name)
    )
    return replace(data, folder=folder, info=replace(data.info, id=id, name=name))


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _load(dataset: str, options: ReadOptions) -> tuple[DataSet, tuple[str, ...]]:
    """Return a data set, and the settings that data sets of its kind read."""
    _refuse_readers(dataset)
    path = Path(os.path.abspath(os.path.expanduser(dataset)))
    preset = dataset.removeprefix(_PRESET)
    if dataset in _NAMES and path.exists() and not any(path.glob("*/*-seed*")):  # a run's trials may lie there
        raise ValueError(
            f"`dataset` must name one data set, got {dataset!r}, which is a preset and {path} too. Give ./{dataset} "
            f"for what lies there, or {_PRESET}{dataset} for the preset."
        )
    if preset == DIGITS:
        return _digits(), ()
    if preset in PRESETS:
        from .hub_data import load_hub_data

        return load_hub_data(PRESETS[preset].id, preset, options, PRESETS[preset]), _FOR_THE_HUB
    if path.is_file():
        from .folders import load_split_file

        return load_split_file(path), ()
    from .hub_data import is_table

    if (path / "train").is_dir() and not is_table(path):
        from .folders import load_folder

        return load_folder(path, options), _FOR_FOLDERS
    if path.is_dir():
        from .splitting import is_unsplit, split_folder

        if is_unsplit(path):
            return split_folder(path, options.test_share), _FOR_UNSPLIT
    if path.is_dir() or _is_hub_id(dataset):
        from .hub_data import load_hub_data

        if path.is_dir():
            return load_hub_data(str(path), path.resolve().name, options), _FOR_PARQUET
        return load_hub_data(dataset, dataset.replace("/", "--"), options), _FOR_THE_HUB
    if any(mark in dataset for mark in "/\\") or dataset.startswith((".", "~")):
        raise ValueError(
            f"`dataset` must be a folder or a split file that is there, got {dataset!r}. There is no {path}."
        )
    raise ValueError(
        f"`dataset` must be one of {', '.join(_NAMES)}, a Hub id (org/name), a folder or a split file, "
        f"got {dataset!r}. A folder holds {FOLDER_HOLDS}."
    )


def _refuse_readers(dataset: str) -> None:
    """Refuse a name with the prefix of a reader of timm's.

    Raises:
        ValueError: If it has one.
    """
    reader, _, name = dataset.partition("/")
    if reader == "hfids" and name:
        raise ValueError(
            f"`dataset` must be read in any order, got {dataset!r}, timm's name for a stream: each trial draws its "
            "images by class, and goes on from any update after a restart, with the same images. Give "
            f"{name}, which is downloaded once, or a folder with its parquet files or shards, as `hf download "
            f"--repo-type dataset {name} --local-dir FOLDER` leaves them."
        )
    if reader == "hfds" and name:
        raise ValueError(f"`dataset` must be the Hub's name, without a reader of timm's, got {dataset!r}. Give {name}.")


def _is_hub_id(dataset: str) -> bool:
    """Tell whether a name is org/name, and no path that starts at a folder or at home."""
    return dataset.count("/") == 1 and "\\" not in dataset and dataset[0] not in "./~" and not dataset.endswith("/")


def _check_several_classes(data: DataSet, dataset: str) -> None:
    """Refuse a data set on which any network is right.

    Raises:
        ValueError: If the training images have fewer than two classes; names alone do not count.
    """
    classes = [data.train.class_names[label] for label in np.unique(data.train.own_labels())]
    if len(classes) < 2:
        raise ValueError(
            f"`dataset` must have training images of at least two classes, got {dataset!r} with "
            f"{', '.join(classes) or 'none'}."
        )


def _digits() -> DataSet:
    """Return the digits, in the order of their writers, so that test writers are mostly not training writers."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).astype(np.uint8)
    names = [str(name) for name in digits.target_names]
    train = ImageSet(pixels, digits.target.tolist(), names, range(_NUM_DIGITS_TRAIN))
    test = replace(train, indices=range(_NUM_DIGITS_TRAIN, len(pixels)))
    return DataSet(DataInfo(DIGITS, "digits"), DIGITS, train, test)
