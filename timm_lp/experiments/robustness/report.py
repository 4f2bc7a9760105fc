"""The report of the robustness of networks: tables for people, CSV and JSON for programs."""

from collections.abc import Sequence
from typing import Any

from ...reporting import NOTHING, counted, csv_text, markdown_rows, mean_and_std
from ...trials.statistics import Cell, Table
from ...trials.tables import count_tests, difference_table
from ...variants import BASE
from ..data.corruptions import CLEAN
from ..data.corruptions.functions import is_common
from ..data.corruptions.images import CorruptedSet
from ..data.corruptions.published import NAMES
from .measure import Result
from .scores import MCE, MCE_RELATIVE, MEAN_ALL, MEAN_COMMON, SIGNIFICANT, SUMMARIES, Scores, column

DEMONSTRATION = "a demonstration on tiny networks and digits, not a result"


def to_markdown(scores: Scores, corrupted: CorruptedSet) -> str:
    """Return the tables: summary, wins, each corruption at each severity, tests against base."""
    parts = [f"# Robustness on {corrupted.name}", _heading(scores, corrupted)]
    for model in scores.models:
        parts += [f"Summary of {model}{_beside(corrupted)}", _summary_table(scores, model)]
    for severity in scores.severities if len(scores.variants) > 1 else ():
        table = scores.by_corruption(severity)
        welch, paired = count_tests(table)
        parts += [
            f"Wins at severity {severity}, as in Table 2 of the paper{_beside(corrupted)}: corruptions on which a "
            "variant has the best mean, ties shared; in brackets those of them on which it is above base with p < "
            f"{SIGNIFICANT:g} of Welch's t-test ({welch} comparisons) / of the test paired by seed ({paired}), each "
            "after Holm",
            _win_table(scores, table),
        ]
    for severity in scores.severities:
        table = scores.by_corruption(severity)
        for model in scores.models:
            parts += [
                f"Top-1 accuracy (%) of {model} at severity {severity}{_beside(corrupted)}",
                _corruption_table(scores, table, model),
            ]
    parts += _test_tables(scores, corrupted)
    return "\n\n".join(parts)


def to_csv(results: Sequence[Result], corrupted: CorruptedSet) -> str:
    """Return a line for each network on each corruption at each severity, with what the images are."""
    about = {"images": corrupted.name, "note": corrupted.note}
    rows = [{**_row(result), "error": result.error, **about} for result in results]
    return csv_text(list(rows[0]), rows)


def to_json(scores: Scores, corrupted: CorruptedSet, command: str, is_demonstration: bool) -> dict[str, Any]:
    """Return everything as JSON holds it.

    Args:
        scores: The accuracies.
        corrupted: The images.
        command: The command that repeats it.
        is_demonstration: Whether it shows the command only.
    """
    summaries = {score: scores.summary(score) for score in SUMMARIES}
    first = scores.by_corruption(scores.severities[0])
    return {
        "command": command,
        "demonstration": is_demonstration,
        "data": {
            "name": corrupted.name,
            "note": corrupted.note,
            "num_images": corrupted.num_images,
            "corruptions": scores.corruptions,
            "severities": scores.severities,
        },
        "summary": [
            {
                "model": model,
                "variant": row,
                **{score: _as_json(table, row, model) for score, table in summaries.items()},
            }
            for model in scores.models
            for row in scores.variants
            if (row, model) in summaries[MEAN_ALL].cells
        ],
        "wins": {
            "severity": scores.severities[0],
            "counts": {
                model: {row: vars(wins) for row, wins in scores.wins(first, model).items()} for model in scores.models
            },
        },
        "results": [_row(result) for result in scores.results],
    }


def _row(result: Result) -> dict[str, Any]:
    subject = result.subject
    return {
        **{"network": subject.name, "model": subject.model, "variant": subject.variant, "seed": subject.seed},
        **{"corruption": result.corruption, "severity": result.severity},
        **{"top1": result.top1, "mean_per_class": result.mean_per_class},
    }


def _as_json(table: Table, row: str, column: str) -> dict[str, float | None]:
    cell = table.cells[row, column]
    return {"mean": cell.mean, "std": cell.std, "p_value": cell.p_value, "paired_p_value": cell.paired_p_value}


def _beside(corrupted: CorruptedSet) -> str:
    """Return what every table says of the images."""
    return f", {corrupted.name}" + (f" ({corrupted.note})" if corrupted.note else "")


def _heading(scores: Scores, corrupted: CorruptedSet) -> str:
    severities, count = ", ".join(map(str, scores.severities)), len(scores.subjects)
    missing = [name for name in NAMES if name not in scores.corruptions]
    note = f"; {corrupted.note}" if corrupted.note else ""
    lines = [
        f"{counted(count, 'network')}; {corrupted.num_images:,} images of each of "
        f"{len(scores.corruptions)} corruptions at severity {severities}{note}.",
        f"Mean ± standard deviation over seeds. The means over the {len(scores.common)} common corruptions and over "
        f"all {len(scores.corruptions)} stand apart. mCE is the mean error over the common ones; relative to base, the "
        "mean of each corruption's error over base's.",
    ]
    if missing:
        lines.append(f"Not among them: {', '.join(missing)}.")
    return " ".join(lines)


def _summary_table(scores: Scores, model: str) -> str:
    count, common = len(scores.corruptions), len(scores.common)
    titles = {
        CLEAN: "clean top-1 (%)",
        MEAN_COMMON: f"mean of {common} (%)",
        MEAN_ALL: f"mean of {count} (%)",
        MCE: "mCE (%)",
        MCE_RELATIVE: "mCE relative to base (%)",
    }
    tables = {score: scores.summary(score) for score in SUMMARIES}
    rows = [row for row in scores.variants if (row, model) in tables[MEAN_ALL].cells]
    best = {score: _best(table, model, lowest=score in (MCE, MCE_RELATIVE)) for score, table in tables.items()}
    lines = [
        [
            row,
            str(_count(tables[MEAN_ALL].cells[row, model])),
            *(
                _cell(table.cells.get((row, model)), len(rows) > 1 and row in best[score])
                for score, table in tables.items()
            ),
        ]
        for row in rows
    ]
    return markdown_rows(["variant", "networks", *titles.values()], lines)


def _win_table(scores: Scores, table: Table) -> str:
    wins = {model: scores.wins(table, model) for model in scores.models}
    lines = []
    for model, of_model in wins.items():
        present = {row for row, key in table.cells if key.startswith(f"{model}/")}
        lines.append([model, *(_win_cell(row, of_model, present) for row in table.rows)])
    if len(wins) > 1:
        totals = [sum(of_model[row].count for of_model in wins.values()) for row in table.rows]
        lines.append(["all", *(f"{total:g}" for total in totals)])
    return markdown_rows(["network", *table.rows], lines)


def _win_cell(row: str, wins: dict[str, Any], present: set[str]) -> str:
    if row not in present:
        return NOTHING
    count = f"{wins[row].count:.3g}"
    return count if row == BASE else f"{count} ({wins[row].welch} / {wins[row].paired})"


def _corruption_table(scores: Scores, table: Table, model: str) -> str:
    rows = [row for row in table.rows if any((row, column(model, name)) in table.cells for name in scores.corruptions)]
    lines = []
    for name in scores.corruptions:
        best = table.best(column(model, name))
        cells = [_cell(table.cells.get((row, column(model, name))), len(rows) > 1 and row in best) for row in rows]
        lines.append([name if is_common(name) else f"{name} (extra)", *cells])
    return markdown_rows(["corruption", *rows], lines)


def _test_tables(scores: Scores, corrupted: CorruptedSet) -> list[str]:
    """Return the differences of the means from base with their p-values; nothing where nothing could be tested."""
    texts = []
    for score, count in ((MEAN_COMMON, len(scores.common)), (MEAN_ALL, len(scores.corruptions))):
        table = scores.summary(score)
        welch, paired = count_tests(table)
        if welch + paired:
            texts += [
                f"Mean top-1 over {count} corruptions minus base (points){_beside(corrupted)}; p of Welch's t-test "
                f"({welch} comparisons) and of the t-test paired by seed ({paired}), each after Holm-Bonferroni",
                difference_table(table, "variant"),
            ]
    return texts


def _best(table: Table, model: str, *, lowest: bool) -> list[str]:
    if not lowest:
        return table.best(model)
    means = {row: mean for row in table.rows if (mean := table.mean(row, model)) is not None}
    return [row for row, mean in means.items() if mean == min(means.values())]


def _count(cell: Cell) -> int:
    return len(cell.values) + len(cell.failures)


def _cell(cell: Cell | None, is_best: bool) -> str:
    if cell is None or cell.mean is None:
        return NOTHING
    text = mean_and_std(list(cell.values.values()))
    text += f" ({len(cell.failures)} failed)" if cell.failures else ""
    return f"**{text}**" if is_best else text
