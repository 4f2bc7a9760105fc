"""Tables of trials as Markdown: means and spreads, differences from the baseline with their tests, what failed."""

from collections.abc import Mapping, Sequence

from ..reporting import NOTHING, markdown_rows, mean_and_std, number, p_value
from .statistics import Cell, Table


def accuracy_table(
    table: Table, label: str, beside: Mapping[str, Mapping[str, str]] | None = None, *, summary: bool = True
) -> str:
    """Return the mean and the standard deviation over seeds, each column's best in bold, and each row's wins.

    Where all rows share a column's best, none is in bold.

    Args:
        table: The table.
        label: What a row is, the heading of the first column.
        beside: Further columns' cells, by their headings and by row.
        summary: Whether to show each row's average and wins; not where the columns are measures of the same thing.
    """
    several = len(table.columns) > 1 and summary
    further = beside or {}
    header = [
        label,
        *table.columns.values(),
        *(["average"] if several else []),
        *(["wins"] if summary else []),
        *further,
    ]
    best = {column: rows if len(rows := table.best(column)) < len(table.rows) else [] for column in table.columns}
    seeds = table.num_seeds()
    lines = [
        [
            row,
            *(_mean_and_std(table.cells.get((row, column)), row in best[column], seeds) for column in table.columns),
            *([number(table.average(row), ".2f")] if several else []),
            *([str(table.wins(row))] if summary else []),
            *(cells.get(row, NOTHING) for cells in further.values()),
        ]
        for row in table.rows
    ]
    return markdown_rows(header, lines)


def difference_table(table: Table, label: str) -> str:
    """Return each row's difference from the baseline with its p-values.

    Args:
        table: The table.
        label: What a row is, the heading of the first column.
    """
    lines = [
        [row, *(_difference(table, row, column) for column in table.columns)]
        for row in table.rows
        if row != table.baseline
    ]
    return markdown_rows([label, *table.columns.values()], lines)


def count_tests(table: Table) -> tuple[int, int]:
    """Return how many comparisons there are of Welch's t-test, and of the paired one."""
    welch = sum(cell.p_value is not None for cell in table.cells.values())
    return welch, sum(cell.paired_p_value is not None for cell in table.cells.values())


def failures(table: Table) -> str:
    """Return a line for each trial that failed; empty where none did."""
    return "\n".join(
        f"Failed: {row} on {table.columns[column]}, seed {seed}: {reason}"
        for (row, column), cell in table.cells.items()
        for seed, reason in cell.failures.items()
    )


def number_table(numbers: Mapping[tuple[str, str], float], table: Table, label: str, spec: str) -> str:
    """Return a number of each cell, parameters for instance.

    Args:
        numbers: The numbers by row and column's key.
        table: Has the rows and the columns.
        label: What a row is, the heading of the first column.
        spec: How a number is written, as for `format`.
    """
    lines: Sequence[Sequence[str]] = [
        [row, *(number(numbers.get((row, column)), spec) for column in table.columns)] for row in table.rows
    ]
    return markdown_rows([label, *table.columns.values()], lines)


def _mean_and_std(cell: Cell | None, best: bool, seeds: int) -> str:
    if cell is None:
        return NOTHING
    trials = len(cell.values) + len(cell.failures)
    remarks = [f"{len(cell.failures)} of {trials} failed"] if cell.failures else []
    remarks += [f"{trials} of {seeds} seeds"] if trials < seeds else []
    if cell.mean is None:
        return ", ".join(remarks)
    text = mean_and_std(list(cell.values.values()))
    return (f"**{text}**" if best else text) + (f" ({', '.join(remarks)})" if remarks else "")


def _difference(table: Table, row: str, column: str) -> str:
    mean, base = table.mean(row, column), table.mean(table.baseline, column)
    if mean is None or base is None:
        return NOTHING
    cell = table.cells[row, column]
    return f"{number(mean - base, '+.2f')} (p {p_value(cell.p_value)}, paired {p_value(cell.paired_p_value)})"
