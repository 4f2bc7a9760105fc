"""The data set repository with a run's results: its report, the records of its trials, and which network is where."""

import csv
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import Collection, CommitOperationAdd, CommitOperationDelete, DatasetInfo, HfApi

from timm_lp.files import TRIAL_FILE, write_json, write_text
from timm_lp.markup import to_latex
from timm_lp.trials.record import TrialRecord, as_json

from .cards.benchmark import kind_of, results_card
from .cards.records import without_paths
from .download import TIMEOUT_S
from .errors import clear_errors, clear_transfer_errors, retry
from .files import CARD, MANIFEST, is_same
from .run import Run
from .target import check_private

_REPORT, _TABLE, _LATEX, _PICTURE = "report.md", "report.csv", "report.tex", "report.png"
_RECORDS = "records"
_MESSAGE = "Upload the results of a run with timm-lp"


def stage_results(
    folder: Path, run: Run, license: str | None, commits: Mapping[str, str], collection: Collection | None
) -> dict[str, Path]:
    """Write the results of a run as they are published, and return the files by their names in the repository.

    Args:
        folder: New.
        run: The run, whose report must lie in its folder.
        license: The licence of the results, where their publisher states one.
        commits: Of the networks, by repository; those that are not on the Hub yet have none.
        collection: The networks' collection, None while there is none.

    Raises:
        ValueError: If there is no report, or it is not that of the run's trials.
    """
    report, table = _read_report(run)
    picture = run.folder / _PICTURE
    has_picture = picture.is_file()
    card = results_card(
        run.records,
        run.repositories,
        name=run.name.partition("/")[2],
        collection=collection.url if collection else None,
        license=license,
        report=report,
        picture=_PICTURE if has_picture else None,
    )
    for name, text in ((CARD, card), (_TABLE, table), (_LATEX, to_latex(report))):
        write_text(folder / name, text)
    if has_picture:
        shutil.copyfile(picture, folder / _PICTURE)
    for record in run.records:
        write_json(folder / _RECORDS / record.folder / TRIAL_FILE, as_json(record))
    write_json(folder / MANIFEST, _manifest(run, commits, collection))
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def preview_results(api: HfApi, repo_id: str, files: Mapping[str, Path], private: bool) -> dict[str, tuple[int, str]]:
    """Return what `push_results` would do, as `upload.preview` does.

    Raises:
        ValueError: If a public repository is to be private.
    """
    with clear_errors(api.endpoint, repo_id, None):
        states = _states(_find(api, repo_id, private), files)
    return {name: (files[name].stat().st_size if name in files else 0, state) for name, state in states.items()}


def push_results(api: HfApi, repo_id: str, files: Mapping[str, Path], private: bool) -> str:
    """Publish the results as one commit, where they differ from what is there, and return the last commit's hash.

    Args:
        api: The client.
        repo_id: The data set repository; made if there is none.
        files: What `stage_results` returned.
        private: Whether a new repository is private.
    """

    def push() -> str:  # looks again at what is there where an answer was lost
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        there = _find(api, repo_id, private)
        states = {name: state for name, state in _states(there, files).items() if state != "same"}
        parent = (there and there.sha) or ""
        if not states:
            return parent
        operations = [
            CommitOperationDelete(name) if state == "stale" else CommitOperationAdd(name, files[name])
            for name, state in states.items()
        ]
        return api.create_commit(
            repo_id, operations, commit_message=_MESSAGE, repo_type="dataset", parent_commit=parent
        ).oid

    with clear_errors(api.endpoint, repo_id, None), clear_transfer_errors(repo_id):
        return retry(push)


def _read_report(run: Run) -> tuple[str, str]:
    """Return a run's report, as Markdown and as CSV, without local paths."""
    try:
        report, table = ((run.folder / name).read_text(encoding="utf-8") for name in (_REPORT, _TABLE))
    except OSError as error:
        name = Path(error.filename).name
        raise ValueError(f"`run` must hold its report, got {run.folder} without {name}. {_advice(run)}") from error
    kind = kind_of(run.records)
    rows = {tuple(row.get(name) for name in kind.columns) for row in csv.DictReader(io.StringIO(table))}
    if rows != {_row(record, kind.metric) for record in run.records}:
        raise ValueError(f"`run` must hold the report of its trials, got {run.folder} with another. {_advice(run)}")
    return without_paths(report).strip(), without_paths(table)


def _row(record: TrialRecord, metric: str) -> tuple[str, ...]:
    figure = record.metrics[metric] if record.metrics else ""
    return record.dataset.id, record.model, record.variant, str(record.seed), str(figure)


def _advice(run: Run) -> str:
    return f"`{kind_of(run.records).command} --report --output-dir {run.folder}` writes it."


def _manifest(run: Run, commits: Mapping[str, str], collection: Collection | None) -> dict[str, Any]:
    return {
        "collection": collection.slug if collection else None,
        "networks": [
            {
                "repository": member.repo_id,
                "commit": commits.get(member.repo_id),
                "dataset": member.record.dataset.id,
                "model": member.record.model,
                "variant": member.record.variant,
                "seed": member.record.seed,
                "record": f"{_RECORDS}/{member.record.folder}/{TRIAL_FILE}",
            }
            for member in run.members
        ],
    }


def _find(api: HfApi, repo_id: str, private: bool) -> DatasetInfo | None:
    if not retry(lambda: api.repo_exists(repo_id, repo_type="dataset")):
        return None
    info = retry(lambda: api.dataset_info(repo_id, files_metadata=True, timeout=TIMEOUT_S))
    if private:
        check_private(repo_id, info.private)
    return info


def _states(there: DatasetInfo | None, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the state of each file: "new", "changed", "same", or "stale" for a record that is none any more."""
    known = {row.rfilename: row for row in (there.siblings if there else None) or ()}
    states = {
        name: "new" if name not in known else "same" if is_same(path, known[name]) else "changed"
        for name, path in files.items()
    }
    return states | {name: "stale" for name in known if name.startswith(f"{_RECORDS}/") and name not in files}
