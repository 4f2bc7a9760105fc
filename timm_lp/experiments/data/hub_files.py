"""The files of a folder that `datasets` reads: parquet files, WebDataset's shards, tables."""

import tarfile
from pathlib import Path
from typing import Any

_END_OF_TAR = 1024  # zero bytes with which an archive ends
CLASS_IN_SHARDS = "cls"  # as WebDataset calls it


class DamagedFileError(ValueError):
    """A file of a data set is not whole."""


def data_files(folder: str, name: str | None) -> list[Path]:
    """Return the files from which `datasets` would read a folder."""
    from datasets import load_dataset_builder

    files = load_dataset_builder(folder, name).config.data_files or {}
    return [Path(file) for of_split in files.values() for file in of_split]


def check_whole(files: list[Path]) -> None:
    """Refuse files that were cut off or damaged: of shards, the images before would be read without a word.

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
                _read_names(file)
        except (OSError, ValueError, ArrowException) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise DamagedFileError(
                f"`dataset` must have whole files, got {file}: {reason}. Download it again."
            ) from error


def _read_names(file: Path) -> None:
    """Go through an archive from name to name, to its end: at a damaged one, readers stop as if it were the end."""
    try:
        with tarfile.open(file, "r:") as archive:
            archive.getmembers()
            end = archive.offset
    except tarfile.TarError:
        end = file.stat().st_size
    with file.open("rb") as content:
        content.seek(end)
        if content.read(_END_OF_TAR) != bytes(_END_OF_TAR):
            raise ValueError("it ends early, is damaged, or is no tar archive")


def odd_file(files: list[Path]) -> str | None:
    """Return which file is not as `datasets` must have it, and why; None if there is none. It reads all shards.

    Shards must number their classes, and parquet files must have the same columns.
    """
    from pyarrow.parquet import read_schema

    for file in files:
        if file.suffix == ".tar":
            with tarfile.open(file) as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.name.endswith(f".{CLASS_IN_SHARDS}") else None
                    text = content.read() if content else b"0"
                    if not text.strip().isdigit():
                        return f"{file} with the class {text.decode(errors='replace')!r} in {member.name}, no number"
    tables = [file for file in files if file.suffix == ".parquet"]
    columns = [_columns(read_schema(file)) for file in tables]
    for file, others in zip(tables, columns, strict=True):
        if others != columns[0]:
            return f"{file} with the columns {others}, and {tables[0]} with {columns[0]}"
    return None


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


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
