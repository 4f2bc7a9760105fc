"""A page of results: numbers as text, tables as Markdown and CSV, variants' colours, and the folder of all."""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from .files import write_json, write_text
from .markup import NOTHING, to_latex

_logger = logging.getLogger(__name__)

_COLORS = {
    # Base, lp2 and large are told apart without colours too: dark, medium and light.
    **{"base": "#222222", "large": "#e2725b", "lp": "#2b62ad", "lp2": "#2b62ad", "lp4": "#4c9f9f", "lp8": "#55a868"},
    **{"lp16": "#f0b429", "lp256f": "#9a6fb0"},
}
_OTHER_COLOR = "#888888"
_LINES_OF_PARTS = (":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (6, 4)))  # of variants such as `lp2@layer1`, in turn


def number(value: float | None, spec: str) -> str:
    """Return a number as text, a dash for None; what rounds to 0 has no sign."""
    if value is None:
        return NOTHING
    text = format(value, spec)
    return text if text.strip("-0.") else text.removeprefix("-")


def mean_and_std(values: Sequence[float], spec: str = ".2f", sign: str = "") -> str:
    """Return the mean and, of several values, their standard deviation.

    Args:
        values: At least one.
        spec: How both are written, as for `format`.
        sign: "+" for a mean with its sign.
    """
    mean = number(fmean(values), sign + spec)
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):{spec}}"


def interval(low: float, high: float, spec: str) -> str:
    """Return the ends of an interval as text."""
    return f"{number(low, spec)} to {number(high, spec)}"


def p_value(p: float | None) -> str:
    """Return a p-value as text with three decimals, a dash for None."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def counted(count: int, word: str) -> str:
    """Return a number of things in words: `1 seed`, `3 seeds`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first of several names, and how many more there are: `a, b, c and 2 more`."""
    names = [*names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def variant_style(variant: str) -> dict[str, str]:
    """Return the colour of a variant in every picture, and its line: dashed for forms such as `lp2-paper`."""
    whole = variant.partition("@")[0]
    return {"color": _COLORS.get(whole.split("-")[0], _OTHER_COLOR), "linestyle": "--" if "-" in whole else "-"}


def line_styles(variants: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the styles of the variants in one picture, where those that convert other layers have other lines."""
    lines: dict[str, Iterator[Any]] = {}
    styles: dict[str, dict[str, Any]] = {}
    for variant in variants:
        whole, part, _ = variant.partition("@")
        styles[variant] = dict(variant_style(variant))
        if part:
            styles[variant]["linestyle"] = next(lines.setdefault(whole, cycle(_LINES_OF_PARTS)))
    return styles


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
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> str:
    """Return a CSV file.

    Args:
        columns: Headings of the columns.
        rows: A mapping each, whose other keys are left out, or the cells in the order of `columns`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(name) for name in columns] if isinstance(row, Mapping) else row)
    return text.getvalue()


def write_page(
    folder: Path,
    name: str,
    markdown: str,
    *,
    tables: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    pictures: Mapping[str, Callable[[Path], None]] | None = None,
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> str:
    """Write a page of results into a folder, all of it or, where something fails, none of it.

    Without matplotlib there are no pictures, and the log says so; pictures of an earlier run are removed then.

    Args:
        folder: Where to.
        name: Name of the page's files without their endings, `report` for instance.
        markdown: The page, which is written as LaTeX too.
        tables: CSV files, by their names.
        data: What JSON files hold, by their names.
        pictures: What draws a picture into the file that it is given, by the files' names.
        progress: Shows how far the pictures are, as tqdm does.

    Returns:
        The sentence that tells a user where the results lie.

    Raises:
        OSError: If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial-", dir=folder) as partial, _errors_name(folder, partial):
        written = Path(partial)
        write_text(written / f"{name}.md", markdown + "\n")
        write_text(written / f"{name}.tex", to_latex(markdown))
        for file, text in (tables or {}).items():
            write_text(written / file, text)
        for file, content in (data or {}).items():
            write_json(written / file, content)
        missing = _draw_all(written, pictures or {}, progress)
        names = [f"{name}.md", f"{name}.tex", *(tables or {}), *(data or {})]
        names += [file for file in pictures or {} if file not in missing]
        for file in names:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(written / file, folder / file)
    for file in missing:
        (folder / file).unlink(missing_ok=True)
    return where_results_lie(folder, *names)


def where_results_lie(folder: str | Path, *contents: str) -> str:
    """Return the sentence that each command prints last.

    Args:
        folder: Where the results lie.
        *contents: What lies there: files' names, or how the folders in it are called.
    """
    return f"The results are in {folder}: {', '.join(contents)}"


@contextmanager
def _errors_name(folder: Path, partial: str) -> Iterator[None]:
    """Let an error name the file in the folder, not the one in the folder of what is half done."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(error.filename).is_relative_to(partial):
            error.filename = str(folder / Path(error.filename).relative_to(partial))
        raise


def _draw_all(
    folder: Path,
    pictures: Mapping[str, Callable[[Path], None]],
    progress: Callable[[Sequence[str]], Iterable[str]],
) -> list[str]:
    """Draw pictures, and return the names of those that could not be drawn without matplotlib."""
    try:
        for file in progress(list(pictures)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            pictures[file](folder / file)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        _logger.warning("No pictures: matplotlib is not installed. `pip install matplotlib` brings it.")
        return list(pictures)
    return []
