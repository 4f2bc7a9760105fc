"""The files of a folder that `datasets` reads: parquet files, WebDataset's shards, tables."""

import os
from pathlib import Path

_END_OF_TAR = 1024  # zero bytes with which an archive ends


class DamagedFileError(ValueError):
    """A file of a data set is not whole."""


def data_files(folder: str, name: str | None) -> list[Path]:
    """Return the files from which `datasets` would read a folder."""
    from datasets import load_dataset_builder

    files = load_dataset_builder(folder, name).config.data_files or {}
    return [Path(file) for of_split in files.values() for file in of_split]


def check_whole(files: list[Path]) -> None:
    """Refuse files that were cut off: of shards, the images before would be read without a word.

    Raises:
        DamagedFileError: If there is one.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    for file in files:
        try:
            if file.suffix == ".parquet":
                read_schema(file)
            elif file.suffix == ".tar":
                _check_end_of_tar(file)
        except (OSError, ValueError, ArrowException) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise DamagedFileError(
                f"`dataset` must have whole files, got {file}: {reason}. Download it again."
            ) from error


def _check_end_of_tar(file: Path) -> None:
    with file.open("rb") as archive:
        archive.seek(-min(_END_OF_TAR, file.stat().st_size), os.SEEK_END)
        if archive.read() != bytes(_END_OF_TAR):
            raise ValueError("it ends early, or is no tar archive")


def check_class_order(files: list[Path], column: str, class_names: list[str]) -> None:
    """Refuse files that number their classes in different ways: `datasets` reads all with the names of the first."""
    from datasets import Features
    from pyarrow.parquet import read_schema

    for file in files:
        if file.suffix != ".parquet":
            continue
        names = getattr(Features.from_arrow_schema(read_schema(file)).get(column), "names", None)
        if names is not None and list(names) != class_names:
            raise ValueError(
                f"`dataset` must number its classes alike in all files, got {file} with {', '.join(names)} and another "
                f"with {', '.join(class_names)} in {column!r}. Write them with one ClassLabel."
            )
