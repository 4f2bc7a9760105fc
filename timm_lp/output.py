"""What commands leave behind: JSON files and Markdown tables."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is complete or not there, whenever the process ends."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or not there, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def markdown_rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and numbers to the right."""
    columns = list(zip(header, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_markdown_line(line, widths) for line in [header, rule, *lines])


def _markdown_line(cells: Sequence[str], widths: list[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"
