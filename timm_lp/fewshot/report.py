"""The report that is made of the trials' results, at any time: tables, a CSV file, a plot."""

import csv
import io
import logging
from pathlib import Path
from statistics import fmean
from typing import Any

from ..files import write_text
from ..markdown import markdown_rows
from ..models.variants import BASE
from .stats import Cell, Table, tabulate

Result = dict[str, Any]

_logger = logging.getLogger(__name__)

_TITLES = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean of the classes' accuracies (%)"}
_COLUMNS = ("dataset", "variant", "seed", "top1", "mean_per_class", "error", "parameters", "train_seconds")


def write_report(output_dir: Path, results: list[Result]) -> str:
    """Write `report.md`, `report.csv` and `report.png`, and return the first.

    Args:
        output_dir: Where to.
        results: What the trials left in their `trial.json`.
    """
    text = to_markdown(results)
    write_text(output_dir / "report.md", text + "\n")
    write_text(output_dir / "report.csv", to_csv(results))
    try:
        from .plot import plot

        plot(tabulate(results), output_dir / "report.png")
    except ImportError:
        _logger.warning("No plot: matplotlib is not installed. `pip install matplotlib` brings it.")
    return text


def to_markdown(results: list[Result]) -> str:
    """Return the tables of a benchmark as Markdown: both metrics, the tests against base, and what failed."""
    tables = [tabulate(results, metric) for metric in _TITLES]
    parts = [_heading(results, tables[0])]
    for table in tables:
        parts.append(f"{_TITLES[table.metric]}, mean ± standard deviation over seeds\n\n{_accuracy(table)}")
    parts += [part for part in (_tests(tables[0]), _rates(results), _failures(tables[0])) if part]
    return "\n\n".join(parts)


def to_csv(results: list[Result]) -> str:
    """Return a line for each trial on the test images."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        if not result["held_out"]:
            flat = {**result, **(result["metrics"] or {}), "dataset": result["dataset"]["id"]}
            writer.writerow([flat.get(column) for column in _COLUMNS])
    return text.getvalue()


def _heading(results: list[Result], table: Table) -> str:
    first = next((result for result in results if not result["held_out"]), results[0])
    settings = first["settings"]
    arguments = ", ".join(f"{name}={value}" for name, value in settings["model_kwargs"].items())
    model = f"{settings['model']}({arguments})" if arguments else settings["model"]
    start = f"the weights in {Path(settings['checkpoint']).name}" if settings["checkpoint"] else "random weights"
    start = "pretrained weights" if settings["pretrained"] and not settings["checkpoint"] else start
    shots = f"{settings['shots']}-shot" if settings["shots"] else "all training images"
    tested_all = [result for result in results if result["num_test"] and not result["held_out"]]
    counts = {result["folder"].split("/")[0]: result["num_test"] for result in tested_all}
    tested = ", ".join(f"{counts[folder]} of {name}" for folder, name in table.datasets.items() if folder in counts)
    seeds = len({result["seed"] for result in results})
    return (
        f"{model}, {shots}, {_counted(seeds, 'seed')}, {_counted(settings['epochs'], 'epoch')} from {start}; "
        f"tested after the last epoch on all test images ({tested or 'none yet'})"
    )


def _accuracy(table: Table) -> str:
    several = len(table.datasets) > 1
    costs = table.metric == "top1"  # once is enough
    average, cost = ["average"] if several else [], ["parameters", "training (s)"] if costs else []
    header = ["variant", *table.datasets.values(), *average, "wins", *cost]
    seeds = table.num_seeds()
    lines = []
    for variant in table.variants:
        cells = {dataset: table.cells.get((variant, dataset)) for dataset in table.datasets}
        known = [cell for cell in cells.values() if cell and cell.parameters]
        seconds = sum(cell.train_seconds or 0 for cell in known) / len(known) if known else None
        lines.append(
            [
                variant,
                *(_mean_and_std(cell, variant in table.best(dataset), seeds) for dataset, cell in cells.items()),
                *([_number(table.average(variant), ".2f")] if several else []),
                str(table.wins(variant)),
                *([_number(known[0].parameters if known else None, ","), _number(seconds, ".1f")] if costs else []),
            ]
        )
    return markdown_rows(header, lines)


def _mean_and_std(cell: Cell | None, best: bool, seeds: int) -> str:
    if cell is None:
        return "-"
    trials = len(cell.values) + len(cell.failures)
    remarks = [f"{len(cell.failures)} of {trials} failed"] if cell.failures else []
    remarks += [f"{trials} of {seeds} seeds"] if trials < seeds else []
    if cell.mean is None:
        return ", ".join(remarks)
    text = f"{cell.mean:.2f}" if cell.std is None else f"{cell.mean:.2f} ± {cell.std:.2f}"
    return (f"**{text}**" if best else text) + (f" ({', '.join(remarks)})" if remarks else "")


def _tests(table: Table) -> str:
    """Return the differences from base with their p-values."""
    welch = sum(cell.p_value is not None for cell in table.cells.values())
    paired = sum(cell.paired_p_value is not None for cell in table.cells.values())
    if not welch + paired:
        return ""
    lines = [
        [variant, *(_difference(table, variant, dataset) for dataset in table.datasets)]
        for variant in table.variants
        if variant != BASE
    ]
    title = (
        f"Top-1 minus base (points); p of Welch's t-test ({welch} comparisons) and of the t-test paired by seed "
        f"({paired}), each after Holm-Bonferroni"
    )
    return f"{title}\n\n{markdown_rows(['variant', *table.datasets.values()], lines)}"


def _difference(table: Table, variant: str, dataset: str) -> str:
    mean, base = table.mean(variant, dataset), table.mean(BASE, dataset)
    if mean is None or base is None:
        return "-"
    cell = table.cells[variant, dataset]
    return f"{mean - base:+.2f} (p {_p_value(cell.p_value)}, paired {_p_value(cell.paired_p_value)})"


def _p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _rates(results: list[Result]) -> str:
    """Return which learning rates were tried on held-out images, and the mean over the seeds of what came of it."""
    tried: dict[str, dict[float, list[float | None]]] = {}
    for result in results:
        if result["held_out"]:
            top1 = result["metrics"]["top1"] if result["metrics"] else None
            rates = tried.setdefault(result["dataset"]["name"], {})
            rates.setdefault(result["settings"]["lr"], []).append(top1)
    return "\n".join(
        f"Learning rates, top-1 (%) on held-out images of {name}: "
        + ", ".join(f"{lr:g}: {_mean_or_failed(values)}" for lr, values in sorted(rates.items()))
        for name, rates in tried.items()
    )


def _mean_or_failed(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return "failed" if len(known) < len(values) else f"{fmean(known):.2f}"


def _failures(table: Table) -> str:
    return "\n".join(
        f"Failed: {variant} on {table.datasets[dataset]}, seed {seed}: {reason}"
        for (variant, dataset), cell in table.cells.items()
        for seed, reason in cell.failures.items()
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
