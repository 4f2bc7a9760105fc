"""`results.json`: the trials of a run in short, which model cards are made of."""

from collections.abc import Sequence
from typing import Any

from .record import TrialRecord

RESULTS_FILE = "results.json"


def summarize(records: Sequence[TrialRecord], command: str) -> dict[str, Any]:
    """Return the metrics of each variant of each network on each data set, by seed.

    Args:
        records: The trials. Those on held-out images are left out; a trial that failed shows as null beside those of
            its variant that did not.
        command: The command that repeats them.
    """
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in records:
        if not record.held_out:
            groups.setdefault((record.dataset_argument, record.model, record.variant), []).append(record)
    tested = [group for group in groups.values() if any(record.metrics for record in group)]
    first = next((record for group in tested for record in group if record.metrics), None)
    start = first.start.as_dict() if first and first.start else None
    recipe = {"command": command, "start": start, "settings": _settings(first, tested) if first else {}}
    return {"recipe": recipe, "results": [_entry(group) for group in tested]}


def _settings(first: TrialRecord, groups: list[list[TrialRecord]]) -> dict[str, Any]:
    models = {group[0].model for group in groups}
    model = {"model": first.model} if len(models) == 1 else {}
    return {**model, "shots": first.shots or "all", **first.settings}


def _entry(group: list[TrialRecord]) -> dict[str, Any]:
    group = sorted(group, key=lambda record: record.seed)
    first = next(record for record in group if record.metrics)
    return {
        "dataset": vars(first.dataset),
        "model": first.model,
        "shots": first.shots,
        "variant": first.variant,
        "lr": first.settings.get("lr"),
        "num_test": first.num_test,
        "metrics": {
            name: {str(record.seed): (record.metrics or {}).get(name) for record in group}
            for name in first.metrics or {}
        },
    }
