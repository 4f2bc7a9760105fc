"""A column of a table, as it is stored."""

from collections.abc import Sequence
from typing import Any


class StoredColumn(Sequence[Any]):
    """Reads a column's rows as they are stored, at a fraction of the time that `datasets` takes for a single row.

    Args:
        column: The Arrow column.
        name: Its name.
        files: The files that hold its rows, empty where they are in memory.
    """

    def __init__(self, column: Any, name: str, files: Sequence[str]) -> None:
        self._column, self.name, self.files = column, name, files

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()
