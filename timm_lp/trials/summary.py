"""`results.json`: the trials of a run in short, for people and other programs; this package does not read it."""

import shlex
from collections.abc import Sequence
from itertools import takewhile
from statistics import fmean
from typing import Any

from ..variants import BASE
from .record import TrialRecord

RESULTS_FILE = "results.json"


def summarize(records: Sequence[TrialRecord], command: str) -> dict[str, Any]:
    """Return the metrics of each variant of each network on each data set, by seed.

    Args:
        records: The trials; see `tested_groups` for those that count.
        command: The command that repeats them.
    """
    tested = tested_groups(records)
    first = ended_well(tested[0]) if tested else None
    start = first.start.as_dict() if first and first.start else None
    recipe = {"command": command, "start": start, "settings": _settings(first, tested) if first else {}}
    return {"recipe": recipe, "results": [_entry(group) for group in tested]}


def summarize_trial(record: TrialRecord, records: Sequence[TrialRecord], command: str) -> dict[str, Any]:
    """Return the summary of a trial and of those that its model's card shows beside it.

    Args:
        record: The trial.
        records: All trials of its run.
        command: The command that repeats its variant's.
    """
    content = summarize(shown_with(record, records), command)
    content["recipe"] |= {"variant": record.variant, "seed": record.seed}
    return content


def shown_with(record: TrialRecord, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that a card shows: those of a trial's variant, and the base network's to compare with."""
    return [
        other
        for variant in dict.fromkeys((record.variant, BASE))
        for other in records
        if (other.dataset_argument, other.model, other.variant) == (record.dataset_argument, record.model, variant)
    ]


def tested_groups(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Return the trials of each variant of each network on each data set, by seed.

    Trials on held-out images are left out, and variants of which no trial ended well; a trial that failed stands
    beside those of its variant that did not.
    """
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in records:
        if not record.held_out:
            groups.setdefault((record.dataset_argument, record.model, record.variant), []).append(record)
    tested = [group for group in groups.values() if any(record.metrics for record in group)]
    return [sorted(group, key=lambda record: record.seed) for group in tested]


def ended_well(group: Sequence[TrialRecord]) -> TrialRecord:
    """Return the first trial of a tested group that did not fail."""
    return next(record for record in group if record.metrics)


def mean_seconds(group: Sequence[TrialRecord]) -> float | None:
    """Return the mean time of trainings that ended well, seconds; None where there is none, or on several machines."""
    done = [record for record in group if record.metrics]
    if len({record.machine for record in done}) != 1:
        return None
    return fmean(record.train_seconds or 0.0 for record in done)


def command_of(records: Sequence[TrialRecord]) -> str:
    """Return the command that repeats trials which differ in their seeds alone: the first one's, with all seeds."""
    words = shlex.split(records[0].command)
    if "--seeds" in words:
        start = words.index("--seeds") + 1
        given = len([*takewhile(str.isdecimal, words[start:])])
        words[start : start + given] = [str(record.seed) for record in records]
    return shlex.join(words)


def _settings(first: TrialRecord, groups: list[list[TrialRecord]]) -> dict[str, Any]:
    models = {group[0].model for group in groups}
    model = {"model": first.model} if len(models) == 1 else {}
    return {**model, "shots": first.shots or "all", **first.settings}


def _entry(group: list[TrialRecord]) -> dict[str, Any]:
    first = ended_well(group)
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
