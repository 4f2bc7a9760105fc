"""The reports on the trials of an output folder, made at any time: tables, CSV files, the curves, and the masks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from ...masks.networks import load_groups
from ...masks.report import write_masks
from ...reporting import counted, csv_text, number, write_page
from ...trials import plots
from ...trials.folder import check_comparable, read_records
from ...trials.networks import Subject, find_networks
from ...trials.record import TrialRecord
from ...trials.statistics import Measurement, Table, tabulate
from ...trials.summary import RESULTS_FILE, mean_seconds, summarize
from ...trials.tables import accuracy_table, count_tests, difference_table
from ...variants import BASE, variant_order
from .evaluation import STEPWISE

_MEASURES = ("row", "column", "box", "sudoku", "number", "blank", "exact")
_TESTED = ("row", "column", "box", "blank")
_AT_A_LOOK = {name: name for name in _MEASURES}
_CELL_BY_CELL = {STEPWISE + name: name for name in _MEASURES}
_COLUMNS = (
    *("data", "network", "variant", "seed", "loss", *_AT_A_LOOK, *_CELL_BY_CELL),
    *("error", "parameters", "train_seconds", "puzzles_per_second"),
)
_CURVES = ("puzzles", "seconds", "train_loss", "loss", *_MEASURES)
_PANELS = {"blank": "blank cells right (%)"}
_DRAWN = {"blank": "blank cells right", STEPWISE + "exact": "puzzles solved, one cell at a time"}
_X = {"puzzles": "puzzles seen", "seconds": "seconds of training"}


def read_trials(output_dir: Path) -> list[TrialRecord]:
    """Return the records of all trials in or below a folder, those of a network on the same puzzles together.

    Raises:
        ValueError: If there is none, one cannot be read, or two do not belong in one table.
    """
    records = read_records(output_dir)
    check_comparable(records, of_cell={name for record in records.values() for name in record.settings})
    return [record for group in networks(list(records.values())) for record in group]


def trained_networks(output_dir: Path) -> list[Subject]:
    """Return the saved networks of the same trials, in the same order; failed trials have none.

    Raises:
        ValueError: If there is none, one did not save its network, or two do not belong in one table.
    """
    records = read_trials(output_dir)
    subjects = find_networks([str(output_dir)], see_images=False).networks
    by_folder = {subject.record.folder: subject for subject in subjects if subject.record}
    return [by_folder[record.folder] for record in records if record.folder in by_folder]


def networks(records: Sequence[TrialRecord]) -> Iterator[list[TrialRecord]]:
    """Yield the trials of each network on the same puzzles, in the order of the variants."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in records:
        groups.setdefault((record.data_folder, record.model), []).append(record)
    for group in groups.values():
        yield sorted(group, key=lambda record: (variant_order(record.variant), record.seed))


def write_report(output_dir: Path, records: Sequence[TrialRecord], command: str | None = None) -> str:
    """Write the tables, `results.json`, the CSV files and the curves, all or none; return where these lie.

    Args:
        output_dir: Where to.
        records: The trials.
        command: The command that repeats all of them; None to leave `results.json` as it is.
    """
    return write_page(
        output_dir,
        "report",
        to_markdown(records),
        tables={"report.csv": to_csv(records), "curves.csv": curves_to_csv(records)},
        data={} if command is None else {RESULTS_FILE: summarize(records, command)},
        pictures=dict(_pictures(records)),
    )


def _pictures(records: Sequence[TrialRecord]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield the pictures of each network: what its variants reach, and how."""
    for place, group in enumerate(networks(records), start=1):
        ending = f"-{place}" if place > 1 else ""
        yield f"report{ending}.png", partial(plots.plot_table, measures(group, _DRAWN), label="%")
        yield f"curves{ending}.png", partial(draw_curves, group, title=title(group))


def draw_curves(records: Sequence[TrialRecord], path: Path, title: str) -> None:
    """Draw the blank cells that are right over the puzzles seen and over the time of the training (Figure 4b).

    Args:
        records: Trials of one network, in the order of the legend; failed ones are left out.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    plots.draw_curves(plots.curves_of(records), path, title, x=_X, panels=_PANELS, percent=[[*_PANELS]])


def report_masks(output_dir: Path) -> str:
    """Write what the masks of all saved networks look like, and return the tables (Figures 5b and 9, Tables 6 and 7).

    Args:
        output_dir: Holds the trials; its folder `masks` gets the tables and pictures, seeds together.

    Raises:
        ValueError: If no trial of a variant with masks ended well, or one did not save its network.
    """
    subjects = [subject for subject in trained_networks(output_dir) if subject.variant.startswith("lp")]
    if not subjects:
        raise ValueError(f"`output_dir` must hold a trial with masks that ended well, got {output_dir} without one.")
    return write_masks(load_groups([subject.name for subject in subjects]), output_dir / "masks")


def to_markdown(records: Sequence[TrialRecord]) -> str:
    """Return the tables as Markdown: for each network its variants' measures, the tests against base, what failed."""
    return "\n\n".join(part for group in networks(records) for part in _network_parts(group))


def to_csv(records: Iterable[TrialRecord]) -> str:
    """Return a line for each trial, measures in percent."""
    lines = []
    for record in records:
        names = {"data": record.dataset.id, "network": record.model, "error": record.error}
        figures = {name: getattr(record, name) for name in ("variant", "seed", "parameters", "train_seconds")}
        lines.append({**names, **figures, **(record.metrics or {}), **record.details})
    return csv_text(_COLUMNS, lines)


def curves_to_csv(records: Iterable[TrialRecord]) -> str:
    """Return a line for each epoch of each trial, measures in percent."""
    lines = []
    for record in records:
        names = {"network": record.model, "variant": record.variant, "seed": record.seed}
        for values in zip(*(record.history[name] for name in _CURVES if record.history), strict=True):
            lines.append({**names, **dict(zip(_CURVES, values, strict=True))})
    return csv_text(("network", "variant", "seed", *_CURVES), lines)


def measures(records: Sequence[TrialRecord], columns: dict[str, str]) -> Table:
    """Return the table of the trials of one network, variants by measures.

    Args:
        records: The trials.
        columns: The measures' titles by their names in the records.
    """
    measurements = [
        Measurement(record.variant, column, record.seed, (record.metrics or {}).get(column), record.error)
        for record in records
        for column in columns
        if record.error or column in (record.metrics or {})
    ]
    rows = list(dict.fromkeys(record.variant for record in records))
    return tabulate(measurements, rows, columns, BASE)


def title(records: Sequence[TrialRecord]) -> str:
    """Return what the trials of a network have in common, in a line."""
    first, seeds = records[0], len({record.seed for record in records})
    settings = first.settings
    size = f"{settings['channels']} channels x {settings['depth']} layers"
    seen = next((f"{record.history['puzzles'][-1]:,.0f}" for record in records if record.history), "no")
    return (
        f"{size}, {settings['input']} input, {counted(seeds, 'seed')}, {seen} puzzles seen "
        f"({first.num_train:,} {first.dataset.name}), {first.num_test:,} others to test with"
    )


def _network_parts(records: list[TrialRecord]) -> Iterator[str]:
    yield title(records)
    table = measures(records, _AT_A_LOOK)
    spread = "mean ± standard deviation over seeds"
    yield (
        f"All cells at a look, after the last epoch (%), {spread}\n\n"
        f"{accuracy_table(table, 'variant', _costs(records), summary=False)}"
    )
    stepwise = measures(records, _CELL_BY_CELL)
    count = records[0].settings["stepwise_puzzles"]
    if any(cell.values for cell in stepwise.cells.values()):
        yield (
            f"Filled one cell at a time, the surest first: {min(count, records[0].num_test or 0)} of the test puzzles "
            f"(%), {spread}\n\n{accuracy_table(stepwise, 'variant', summary=False)}"
        )
    tested = measures(records, {name: name for name in _TESTED})
    welch, paired = count_tests(tested)
    if welch + paired:
        yield (
            f"Minus base, all cells at a look (points); p of Welch's t-test ({welch} comparisons) and of the t-test "
            f"paired by seed ({paired}), each after Holm-Bonferroni\n\n{difference_table(tested, 'variant')}"
        )
    failed = [f"Failed: {record.variant}, seed {record.seed}: {record.error}" for record in records if record.error]
    if failed:
        yield "\n".join(failed)


def _costs(records: Sequence[TrialRecord]) -> dict[str, dict[str, str]]:
    """Return the loss, the parameters and the time of a training of each variant, means over seeds."""
    done: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.metrics:
            done.setdefault(record.variant, []).append(record)
    return {
        "loss": {row: f"{fmean((trial.metrics or {})['loss'] for trial in group):.3f}" for row, group in done.items()},
        "parameters": {row: number(group[0].parameters, ",") for row, group in done.items()},
        "training (s)": {row: number(mean_seconds(group), ".1f") for row, group in done.items()},
    }
