"""Markdown tables."""

from collections.abc import Sequence


def markdown_rows(header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table, its first columns to the left and numbers to the right.

    Args:
        header: Headings of the columns.
        lines: Cells, line by line.
        left: Number of columns to the left.
    """
    columns = list(zip(header, *lines, strict=True))
    widths = [max(2, *map(len, column)) for column in columns]  # Markdown's rule of a column needs two characters
    rule = [*("-" * width for width in widths[:left]), *("-" * (width - 1) + ":" for width in widths[left:])]
    return "\n".join(_markdown_line(line, widths, left) for line in [header, rule, *lines])


def _markdown_line(cells: Sequence[str], widths: list[int], left: int) -> str:
    padded = [
        cell.ljust(width) if place < left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
