"""What the cards of a run's networks say of the whole run: its table, with a link to each network, and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from huggingface_hub import DatasetCardData

from timm_lp.reporting import counted, mean_and_std
from timm_lp.trials.record import TrialRecord
from timm_lp.trials.summary import tested_groups

from .provenance import hub_url
from .templates import TAG, one_line, render, table

_LONGEST_NOTE = 500  # letters that the Hub takes


@dataclass(frozen=True)
class Kind:
    """What the trials of a run are compared by.

    Attributes:
        metric: Its name in their records.
        title: What texts call it.
        tested_on: On what it was measured.
        columns: Those of the run's `report.csv` that tell a trial and its figure: data set, network, variant, seed,
            and the metric.
        command: The command that made the run.
    """

    metric: str
    title: str
    tested_on: str
    columns: tuple[str, ...]
    command: str


KINDS = (
    Kind("top1", "top-1", "the test images", ("dataset", "model", "variant", "seed", "top1"), "timm-lp finetune"),
    Kind(
        *("blank", "blank cells right", "the test puzzles", ("data", "network", "variant", "seed", "blank")),
        "timm-lp sudoku",
    ),
)


def kind_of(records: Sequence[TrialRecord]) -> Kind:
    """Return by what the trials of a run are compared.

    Raises:
        ValueError: If there is nothing.
    """
    for kind in KINDS:
        if all(record.metrics is None or kind.metric in record.metrics for record in records):
            return kind
    tried = next(record for record in records if record.metrics and KINDS[0].metric not in record.metrics)
    raise ValueError(
        f"`run` must hold trials with a top-1 accuracy, or Sudoku trials, got {tried.folder}. Only runs of "
        f"{' and '.join(f'`{kind.command}`' for kind in KINDS)} are published as a collection."
    )


def several(records: Sequence[TrialRecord]) -> tuple[bool, bool]:
    """Return whether trials are of several data sets, and whether of several networks."""
    return len({record.data_folder for record in records}) > 1, len({record.model for record in records}) > 1


def benchmark_section(records: Sequence[TrialRecord], repositories: Mapping[str, str], results: str) -> str:
    """Return what each network's card says of the run, as Markdown.

    Args:
        records: The run's trials on the test images, in the order of the table.
        repositories: The networks' repositories by their trials' folders.
        results: The data set repository with the results.
    """
    kind = kind_of(records)
    return (
        f"One of {counted(len(repositories), 'network')} that were trained with the same settings: {kind.title} (%) on "
        f"{kind.tested_on} by seed, and its mean ± standard deviation over the seeds. "
        f"[{results}]({hub_url(f'datasets/{results}')}) has the report and the records of all trials.\n\n"
        f"{benchmark_table(records, repositories)}"
    )


def benchmark_table(records: Sequence[TrialRecord], repositories: Mapping[str, str]) -> str:
    """Return the figure of each trial of a run, with a link to its network, as a Markdown table.

    Args:
        records: As `benchmark_section` takes them.
        repositories: Likewise.
    """
    seeds, (datasets, models) = sorted({record.seed for record in records}), several(records)
    metric = kind_of(records).metric
    left = [*(["data set"] if datasets else []), *(["network"] if models else []), "variant"]
    rows = []
    for group in tested_groups(records):
        by_seed = {record.seed: _figure(record, metric, repositories.get(record.folder)) for record in group}
        first = next(record for record in group if record.metrics)
        rows.append(
            [
                *([first.dataset.name] if datasets else []),
                *([f"`{first.model}`"] if models else []),
                f"`{first.variant}`",
                *(by_seed.get(seed, "") for seed in seeds),
                mean_and_std(_values(group, metric)),
                "-" if first.parameters is None else f"{first.parameters:,}",
            ]
        )
    header = [*left, *(f"seed {seed}" for seed in seeds), "mean ± std", "parameters"]
    return table(header, rows, left=len(left))


def note_of(record: TrialRecord, records: Sequence[TrialRecord]) -> str:
    """Return the note on a network in a collection: the figure of its seed, and the mean over the seeds.

    Args:
        record: The network's trial.
        records: The run's trials on the test images.
    """
    datasets, models = several(records)
    group = next(group for group in tested_groups(records) if record in group)
    where = [*([record.dataset.name] if datasets else []), *([record.model] if models else [])]
    kind = kind_of(records)
    values = _values(group, kind.metric)
    own, mean = (record.metrics or {})[kind.metric], f"; mean of {len(values)} seeds: {mean_and_std(values)}"
    name = ", ".join([*where, record.variant, f"seed {record.seed}"])
    return shorten(f"{name}: {kind.title} {own:.2f} %{mean if len(values) > 1 else ''}", _LONGEST_NOTE)


def results_card(
    records: Sequence[TrialRecord],
    repositories: Mapping[str, str],
    *,
    name: str,
    collection: str | None,
    license: str | None,
    report: str,
    picture: str | None,
) -> str:
    """Return the README.md of the data set repository with a run's results.

    Args:
        records: As `benchmark_section` takes them.
        repositories: Likewise.
        name: The run's name.
        collection: Address of the collection of its networks, None while there is none.
        license: The licence of the results, where their publisher states one.
        report: The run's report, as Markdown.
        picture: The repository's file with the report's picture, if there is one.
    """
    configs: Any = [{"config_name": "default", "data_files": "report.csv"}]
    data = DatasetCardData(license=license, tags=[TAG, "timm"], pretty_name=one_line(name), configs=configs)
    return render(
        "results",
        data,
        name=name,
        collection=collection,
        report=report,
        picture=picture,
        networks=benchmark_table(records, repositories),
        kind=kind_of(records),
    )


def _values(group: Sequence[TrialRecord], metric: str) -> list[float]:
    return [record.metrics[metric] for record in group if record.metrics]


def _figure(record: TrialRecord, metric: str, repository: str | None) -> str:
    if record.metrics is None:
        return "failed"
    figure = f"{record.metrics[metric]:.2f}"
    return figure if repository is None else f"[{figure}]({hub_url(repository)})"
