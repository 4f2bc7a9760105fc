"""What the cards of a run's networks say of the whole run: its table, with a link to each network, and notes."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from huggingface_hub import DatasetCardData

from timm_lp.reporting import counted, mean_and_std
from timm_lp.trials.record import TrialRecord
from timm_lp.trials.summary import tested_groups

from .provenance import hub_url
from .templates import TAG, one_line, render, table

_LONGEST_NOTE = 500  # letters that the Hub takes


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
    return (
        f"One of {counted(len(repositories), 'network')} that were trained with the same settings: top-1 (%) on the "
        "test images by seed, and its mean ± standard deviation over the seeds. "
        f"[{results}]({hub_url(f'datasets/{results}')}) has the report and the records of all trials.\n\n"
        f"{benchmark_table(records, repositories)}"
    )


def benchmark_table(records: Sequence[TrialRecord], repositories: Mapping[str, str]) -> str:
    """Return the top-1 of each trial of a run, with a link to its network, as a Markdown table.

    Args:
        records: As `benchmark_section` takes them.
        repositories: Likewise.
    """
    seeds, (datasets, models) = sorted({record.seed for record in records}), several(records)
    left = [*(["data set"] if datasets else []), *(["network"] if models else []), "variant"]
    rows = []
    for group in tested_groups(records):
        by_seed = {record.seed: _figure(record, repositories.get(record.folder)) for record in group}
        first = next(record for record in group if record.metrics)
        rows.append(
            [
                *([first.dataset.name] if datasets else []),
                *([f"`{first.model}`"] if models else []),
                f"`{first.variant}`",
                *(by_seed.get(seed, "") for seed in seeds),
                mean_and_std(_top1(group)),
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
    values = _top1(group)
    own, mean = (record.metrics or {})["top1"], f"; mean of {len(values)} seeds: {mean_and_std(values)}"
    name = ", ".join([*where, record.variant, f"seed {record.seed}"])
    return shorten(f"{name}: top-1 {own:.2f} %{mean if len(values) > 1 else ''}", _LONGEST_NOTE)


def results_card(
    *, name: str, collection: str | None, license: str | None, report: str, picture: str | None, networks: str
) -> str:
    """Return the README.md of the data set repository with a run's results.

    Args:
        name: The run's name.
        collection: Address of the collection of its networks, None while there is none.
        license: The licence of the results, where their publisher states one.
        report: The run's report, as Markdown.
        picture: The repository's file with the report's picture, if there is one.
        networks: What `benchmark_table` returned.
    """
    configs: Any = [{"config_name": "default", "data_files": "report.csv"}]
    data = DatasetCardData(license=license, tags=[TAG, "timm"], pretty_name=one_line(name), configs=configs)
    return render("results", data, name=name, collection=collection, report=report, picture=picture, networks=networks)


def _top1(group: Sequence[TrialRecord]) -> list[float]:
    return [record.metrics["top1"] for record in group if record.metrics]


def _figure(record: TrialRecord, repository: str | None) -> str:
    if record.metrics is None:
        return "failed"
    figure = f"{record.metrics['top1']:.2f}"
    return figure if repository is None else f"[{figure}]({hub_url(repository)})"
