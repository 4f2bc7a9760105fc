"""Results on disk, and the table that is made of them."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is complete or not there, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def summarize(results: list[Result]) -> list[dict[str, Any]]:
    """Return a row for each variant, in the order of their first results.

    Args:
        results: One dictionary for each trial, with `variant`, `top1` (percent, or None where it failed),
            `parameters` and `train_seconds`.

    Returns:
        Rows with `variant`, `trials`, `failed`, `top1_mean` and `top1_std` (percent; sample standard deviation),
        `parameters` and `train_seconds` (mean). A mean over no trial, or a deviation over one, is None.
    """
    rows = []
    for variant in dict.fromkeys(result["variant"] for result in results):
        own = [result for result in results if result["variant"] == variant]
        done = [result for result in own if result["top1"] is not None]
        top1 = [result["top1"] for result in done]
        rows.append(
            {
                "variant": variant,
                "trials": len(done),
                "failed": len(own) - len(done),
                "top1_mean": statistics.fmean(top1) if top1 else None,
                "top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
                "parameters": done[0]["parameters"] if done else None,
                "train_seconds": statistics.fmean(result["train_seconds"] for result in done) if done else None,
            }
        )
    return rows


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of `summarize` as a Markdown table."""
    header = ("variant", "top-1 (%)", "std", "trials", "parameters", "training (s)")
    lines = [
        (
            row["variant"],
            _number(row["top1_mean"], ".2f"),
            _number(row["top1_std"], ".2f"),
            f"{row['trials']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
            _number(row["parameters"], ","),
            _number(row["train_seconds"], ".1f"),
        )
        for row in rows
    ]
    columns = list(zip(header, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_markdown_line(line, widths) for line in [header, rule, *lines])


def _markdown_line(cells: Sequence[str], widths: list[int]) -> str:
    """Return a line of a table: the first cell to the left, numbers to the right."""
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
