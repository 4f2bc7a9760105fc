"""The report on the trials of an output folder, made from their records at any time: tables, a CSV file, a plot."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from ...reporting import counted, csv_text, interval, number, write_page
from ...trials import plots
from ...trials.folder import check_comparable, read_records
from ...trials.plots import plot_table
from ...trials.record import TrialRecord
from ...trials.statistics import Measurement, Table, tabulate
from ...trials.summary import mean_seconds
from ...trials.tables import accuracy_table, count_tests, difference_table, failures, number_table
from ...variants import BASE, variant_order
from ..data.images import FOLDS
from ..data.presets import PRESETS

TOP1 = "top-1 accuracy (%)"  # in pictures
_TITLES = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean of the classes' accuracies (%)"}
_FIELDS = ("model", "variant", "seed", "error", "parameters", "macs", "train_seconds")
_COLUMNS = (
    *("dataset", "model", "variant", "seed", *_TITLES, "train_top1"),
    *("error", "parameters", "macs", "train_seconds"),
)
_PANELS = {"loss": "training loss", "top1": "top-1, test images (%)"}  # of the curves

# Settings that may differ in one table: anywhere, between networks, between networks and data sets.
_READING = (
    *("dataset_config", "dataset_revision", "image_column", "label_column", "train_split", "test_split", "test_share"),
)
_FREE = ("checkpoint", *_READING)
_OF_MODEL = (
    *("model_kwargs", "checkpoint_sha256", "drop_rate", "drop_path_rate", "zero_init_last", "img_size", "crop_pct"),
)
_OF_CELL = ("lr",)


def read_trials(output_dir: Path) -> list[TrialRecord]:
    """Return the records of all trials below a folder.

    Raises:
        ValueError: If there is none, one cannot be read, or two do not belong in one table.
    """
    records = read_records(output_dir)
    check_comparable(records, free=_FREE, of_model=_OF_MODEL, of_cell=_OF_CELL)
    return list(records.values())


def write_report(output_dir: Path, records: Sequence[TrialRecord]) -> str:
    """Write `report.md`, `report.tex`, `report.csv` and `report.png`, all or none of them; return where these lie.

    Where accuracy was followed, `curves.png` in the folder of each network on each data set shows it.

    Args:
        output_dir: Where to.
        records: The trials.
    """
    top1 = accuracies(records)
    drawn = {
        f"{folder}/curves.png": partial(draw_curves, group, title=f"{_network(group[0])} on {group[0].dataset.name}")
        for folder, group in _followed(records).items()
    }
    return write_page(
        output_dir,
        "report",
        to_markdown(records),
        tables={"report.csv": to_csv(records)},
        pictures={**({"report.png": partial(plot_table, top1, label=TOP1)} if top1.columns else {}), **drawn},
    )


def draw_curves(records: Sequence[TrialRecord], path: Path, title: str) -> None:
    """Draw the mean loss of each epoch, on augmented images, and the accuracy after it.

    Args:
        records: Trials of one network on one data set whose accuracy was followed, in the order of the legend; failed
            ones are left out.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    numbered = {
        variant: [{"epoch": [*map(float, range(1, len(history["loss"]) + 1))], **history} for history in histories]
        for variant, histories in plots.curves_of(records).items()
    }
    plots.draw_curves(numbered, path, title, x={"epoch": "epochs"}, panels=_PANELS)


def to_markdown(records: Sequence[TrialRecord]) -> str:
    """Return the tables of a benchmark as Markdown: both metrics, the tests against base, and what failed.

    The rows are variants. With one network the columns are data sets; with several, each data set has a table of its
    own, and the columns are networks.
    """
    top1 = accuracies(records)
    parts = [_heading(records, top1)]
    for metric, title in _TITLES.items():
        parts += _accuracy_tables(accuracies(records, metric), title, records, costs=metric == "top1")
    parts += _test_tables(top1, records)
    parts += [part for part in (_rates(records), failures(top1)) if part]
    return "\n\n".join(parts)


def to_csv(records: Iterable[TrialRecord]) -> str:
    """Return a line for each trial on the test images."""
    rows = [
        {**{name: getattr(record, name) for name in _FIELDS}, **(record.metrics or {}), "dataset": record.dataset.id}
        for record in records
        if not record.held_out
    ]
    return csv_text(_COLUMNS, rows)


def accuracies(records: Iterable[TrialRecord], metric: str = "top1") -> Table:
    """Return the table of a benchmark's trials, variants by networks and data sets; the held-out ones do not count.

    Args:
        records: The trials.
        metric: `top1` or `mean_per_class`.
    """
    tested = [record for record in records if not record.held_out]
    measurements = [
        Measurement(record.variant, column_of(record), record.seed, (record.metrics or {}).get(metric), record.error)
        for record in tested
    ]
    rows = sorted({record.variant for record in tested}, key=variant_order)
    return tabulate(measurements, rows, _columns(tested), BASE)


def _followed(records: Iterable[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Return the trials with accuracies of each epoch, by the folder of their network, in the order of the variants."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in sorted(records, key=lambda record: (variant_order(record.variant), record.seed)):
        epochs, followed = (len(record.history.get(name, ())) for name in ("loss", "top1"))
        if epochs == followed > 0 and not record.held_out:  # a resumed trial may have been followed in part
            groups.setdefault(record.folder.rpartition("/")[0], []).append(record)
    return groups


def column_of(record: TrialRecord) -> str:
    """Return the key of the column in which a trial is: its data set's folder, and its network."""
    return f"{record.data_folder}/{record.model}"


def _columns(records: Sequence[TrialRecord]) -> dict[str, str]:
    """Return the titles of the columns: the data set, the network, or both, where they differ."""
    presets = list(PRESETS)

    def order(record: TrialRecord) -> tuple[int, str]:
        folder = record.data_folder
        return (presets.index(folder) if folder in presets else len(presets), folder)

    several_data, several_models = len(_by_data(records)) > 1, len(_models(records)) > 1
    titles = {}
    for record in sorted(records, key=order):  # networks stay in the order in which they were run
        title = f"{record.dataset.name}, {record.model}" if several_data else record.model
        titles[column_of(record)] = title if several_models else record.dataset.name
    return titles


def _models(records: Iterable[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(record.model for record in records))


def _by_data(records: Iterable[TrialRecord]) -> dict[str, str]:
    """Return the names of the data sets by their folders."""
    return {record.data_folder: record.dataset.name for record in records}


def _parts(table: Table, records: Sequence[TrialRecord]) -> dict[str, Table]:
    """Return the tables that are shown, by what their titles add: one, or one for each data set."""
    tested = [record for record in records if not record.held_out]
    names = _by_data(sorted(tested, key=lambda record: list(table.columns).index(column_of(record))))
    if len(names) == 1 or len(_models(tested)) == 1:
        return {"": table}
    titles = {column_of(record): record.model for record in tested}
    return {
        f" on {name}": table.part({key: titles[key] for key in table.columns if key.split("/")[0] == folder})
        for folder, name in names.items()
    }


def _heading(records: Sequence[TrialRecord], table: Table) -> str:
    first = next((record for record in records if not record.held_out), records[0])
    settings = first.settings
    networks = ", ".join(_network(record) for record in {record.model: record for record in records}.values())
    start = f"the weights in {Path(settings['checkpoint']).name}" if settings["checkpoint"] else "random weights"
    start = "pretrained weights" if settings["pretrained"] and not settings["checkpoint"] else start
    shots = f"{first.shots}-shot" if first.shots else "all training images"
    tested_all = [record for record in records if record.num_test and not record.held_out]
    counts = {record.data_folder: record.num_test for record in tested_all}
    names = _by_data(sorted(tested_all, key=lambda record: list(table.columns).index(column_of(record))))
    in_folds = {record.data_folder for record in tested_all if record.dataset.split == FOLDS}
    tested = ", ".join(
        f"{counts[folder]} of {name}{f' in each fold of a {FOLDS}' if folder in in_folds else ''}"
        for folder, name in names.items()
    )
    seeds = len({record.seed for record in records})
    return (
        f"{networks}, {shots}, {counted(seeds, 'seed')}, {counted(settings['epochs'], 'epoch')} from {start}; "
        f"tested after the last epoch on all test images ({tested or 'none yet'})"
    )


def _network(record: TrialRecord) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in record.settings["model_kwargs"].items())
    return f"{record.model}({arguments})" if arguments else record.model


def _accuracy_tables(table: Table, title: str, records: Sequence[TrialRecord], costs: bool) -> list[str]:
    """Return the tables of a metric, and what the networks cost: beside it for one network, else in tables after it."""
    several = len(_models(records)) > 1
    beside = _costs_by_row(records) if costs and not several else {}
    texts = [
        f"{title}{where}, mean ± standard deviation over seeds\n\n{accuracy_table(part, 'variant', beside)}"
        for where, part in _parts(table, records).items()
    ]
    if costs and several:
        for name, numbers, spec in _costs_by_cell(records):
            texts += [
                f"{name}{where}\n\n{number_table(numbers, part, 'variant', spec)}"
                for where, part in _parts(table, records).items()
            ]
    return texts


def _costs_by_row(records: Sequence[TrialRecord]) -> dict[str, dict[str, str]]:
    """Return the parameters, the MACs and the time of a training of each variant of one network.

    Where accuracy was followed, the accuracy on the training images too, without augmentation.
    """
    parameters, macs, seconds, *trained = (numbers for _, numbers, _ in _costs_by_cell(records))
    rows = dict.fromkeys(row for row, _ in parameters)
    cells_of = {row: [cell for cell in parameters if cell[0] == row] for row in rows}
    columns = {
        "parameters": {row: _span(parameters, cells, ",") for row, cells in cells_of.items()},
        "MACs (M)": {row: _span(macs, cells, ",.1f") for row, cells in cells_of.items()},
        "training (s)": {row: number(_mean_over(seconds, cells), ".1f") for row, cells in cells_of.items()},
    }
    for numbers in trained:
        means = {row: number(_mean_over(numbers, cells), ".2f") for row, cells in cells_of.items()}
        columns["training images (%)"] = means
    return columns


def _span(numbers: Mapping[tuple[str, str], float], cells: Sequence[tuple[str, str]], spec: str) -> str:
    """Return what the cells cost: data sets with other numbers of classes have other classifiers."""
    low, high = (choose(numbers[cell] for cell in cells) for choose in (min, max))
    return number(low, spec) if low == high else interval(low, high, spec)


def _mean_over(numbers: Mapping[tuple[str, str], float], cells: Sequence[tuple[str, str]]) -> float | None:
    """Return the mean over the cells that have a number; None if none has."""
    there = [numbers[cell] for cell in cells if cell in numbers]
    return fmean(there) if there else None


def _costs_by_cell(records: Sequence[TrialRecord]) -> list[tuple[str, Mapping[tuple[str, str], float], str]]:
    done: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in records:
        if record.metrics and not record.held_out:
            done.setdefault((record.variant, column_of(record)), []).append(record)
    parameters = {cell: group[0].parameters or 0 for cell, group in done.items()}
    macs = {cell: (group[0].macs or 0) / 1e6 for cell, group in done.items()}
    timed = {cell: mean_seconds(group) for cell, group in done.items()}
    seconds = {cell: value for cell, value in timed.items() if value is not None}
    followed = {cell: [(record.metrics or {}).get("train_top1") for record in group] for cell, group in done.items()}
    trained = {
        cell: fmean(values)
        for cell, group in followed.items()
        if (values := [value for value in group if value is not None])
    }
    return [
        ("Parameters", parameters, ","),
        ("Multiply-accumulates of an image (millions)", macs, ",.1f"),
        ("Time of a training (s), mean over seeds", seconds, ".1f"),
        *([("Top-1 accuracy on the training images (%), mean over seeds", trained, ".2f")] if trained else []),
    ]


def _test_tables(table: Table, records: Sequence[TrialRecord]) -> list[str]:
    """Return the differences from base with their p-values; nothing if no variant could be tested."""
    welch, paired = count_tests(table)
    if not welch + paired:
        return []
    return [
        f"Top-1 minus base{where} (points); p of Welch's t-test ({welch} comparisons) and of the t-test paired by seed "
        f"({paired}), each after Holm-Bonferroni\n\n{difference_table(part, 'variant')}"
        for where, part in _parts(table, records).items()
    ]


def _rates(records: Iterable[TrialRecord]) -> str:
    """Return the learning rates that were tried on held-out images, with their accuracies, means over the seeds."""
    tried: dict[str, dict[float, list[float | None]]] = {}
    records = list(records)
    several = len(_models(records)) > 1
    for record in records:
        if record.held_out:
            name = f"{record.dataset.name}, {record.model}" if several else record.dataset.name
            top1 = record.metrics["top1"] if record.metrics else None
            tried.setdefault(name, {}).setdefault(record.settings["lr"], []).append(top1)
    return "\n".join(
        f"Learning rates, top-1 (%) on held-out images of {name}: "
        + ", ".join(f"{lr:g}: {_mean_or_failed(values)}" for lr, values in sorted(rates.items()))
        for name, rates in tried.items()
    )


def _mean_or_failed(values: list[float | None]) -> str:
    reached = [value for value in values if value is not None]
    return "failed" if len(reached) < len(values) else f"{fmean(reached):.2f}"
