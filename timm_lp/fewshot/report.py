"""The table that is made of the results."""

import statistics
from typing import Any

from ..output import markdown_rows

Result = dict[str, Any]


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
    return markdown_rows(header, lines)


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
