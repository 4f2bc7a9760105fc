"""The trials of an output folder: which are finished, and whether they belong together."""

import logging
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ..files import TRIAL_FILE, check_trial_folder
from ..reporting import listed
from .record import DamagedRecordError, DataInfo, FailedError, TrialRecord, read_record

_IN_WORDS = {
    "data_sha256": "the contents of the data set differ",
    "checkpoint_sha256": "the contents of the checkpoint differ",
}

_NO_SAVE = "--no-save-"  # how the flags of all commands begin that save no network
_LISTED = 5  # in a message
_NAMED = 4  # folders of a trial's path that its run names, at most

_logger = logging.getLogger(__name__)


def find_finished(folder: Path, expected: Mapping[str, Any], but: Collection[str] = ()) -> TrialRecord | None:
    """Return the record of a trial that has been run and need not run again; None if there is none.

    Args:
        folder: The trial's folder.
        expected: What its record must say, as `TrialRecord.decisive` returns it.
        but: Settings that may differ.

    Raises:
        ValueError: If it was run with other settings, or the file is another trial's, program's or version's.
    """
    path = folder / TRIAL_FILE
    if not path.exists():
        return None
    check_trial_folder(folder, _NAMED)
    try:
        record = read_record(path)
    except DamagedRecordError as error:
        _logger.warning("%s cannot be read, and its trial runs again: %s", path, error.__cause__)
        return None
    was = record.decisive()
    passed = but if record.final else (*but, "data_sha256")  # what failed may have been mended
    differ = [name for name in {**expected, **was} if was.get(name) != expected.get(name) and name not in passed]
    if differ:
        how = ", ".join(
            _IN_WORDS.get(name) or f"{name} {was.get(name)} instead of {expected.get(name)}" for name in differ
        )
        raise ValueError(
            f"`output_dir` must not hold trials with other settings, got {path}: {how}. Choose another --output-dir."
        )
    return record if record.final else None


def is_unsaved(record: TrialRecord, weights: Path) -> bool:
    """Tell whether a finished trial must run again because it was asked to save no network; the log says so.

    Args:
        record: The trial's record.
        weights: The file in which its network would lie.
    """
    if record.metrics is None or record.held_out or weights.exists():
        return False
    flag = no_save_flag(record)
    if flag:
        _logger.warning("%s was run with %s, and runs again to save its network.", record.folder, flag)
    return flag is not None


def no_save_flag(record: TrialRecord) -> str | None:
    """Return the flag of a trial's command with which it saved no network, None if it had none."""
    return next((word for word in shlex.split(record.command) if word.startswith(_NO_SAVE)), None)


def find_data(output_dir: Path, data_sha256: str, taken: Collection[str]) -> tuple[str, DataInfo] | None:
    """Return the folder and the names that the trials of an output folder give to a data set with these contents.

    Args:
        output_dir: Where the trials are.
        data_sha256: Digest of its contents.
        taken: Folders of other data sets there.
    """
    for path in sorted(output_dir.rglob(TRIAL_FILE)):
        try:
            record = read_record(path)
        except ValueError:  # `read_records` says so
            continue
        is_here = path == output_dir / record.folder / TRIAL_FILE and record.data_folder not in taken
        if is_here and record.data_sha256 == data_sha256:
            return record.data_folder, record.dataset
    return None


def check_writable(output_dir: Path) -> None:
    """Make the output folder if it is missing, and refuse one that takes no files.

    Raises:
        ValueError: If it cannot be made or written to.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise ValueError(f"`output_dir` must be a folder to write to, got {str(output_dir)!r}: {error}") from error


def read_records(output_dir: Path) -> dict[Path, TrialRecord]:
    """Return the records of all trials below a folder, by their files.

    Raises:
        ValueError: If there is none, or one cannot be read or lies in another trial's folder.
    """
    paths = sorted(output_dir.rglob(TRIAL_FILE))
    for path in paths:
        check_trial_folder(path.parent, min(max(1, len(path.relative_to(output_dir).parts) - 1), _NAMED))
    records = {path: read_record(path) for path in paths}
    if not records:
        raise ValueError(f"`output_dir` must hold trials, got {output_dir} with no {TRIAL_FILE} in or below it.")
    return records


def check_results(missing: Collection[str], asked: str) -> None:
    """End a run without all its results in an error, once everything else is written.

    Args:
        missing: Names of the missing results.
        asked: How many results there should be, and of what: `"8 trials"`.

    Raises:
        FailedError: If any result is missing.
    """
    if missing:
        raise FailedError(f"{len(missing)} of {asked} failed: {listed(missing, _LISTED)}. The report says why.")


def failed_trials(records: Iterable[TrialRecord]) -> list[str]:
    """Return the folders of the trials that failed; a learning rate of a sweep at which they diverge is no failure."""
    return [record.folder for record in records if record.error and not (record.held_out and record.final)]


def check_comparable(
    records: Mapping[Path, TrialRecord],
    *,
    free: Collection[str] = (),
    of_model: Collection[str] = (),
    of_cell: Collection[str] = (),
    argument: str = "output_dir",
    advice: str = "Give the folder of one of them, or each run an --output-dir of its own.",
) -> None:
    """Refuse trials that were run with different settings, or that are the same trial of two runs.

    Args:
        records: The records by their files.
        free: Settings that may differ anywhere.
        of_model: Settings that may differ between base networks.
        of_cell: Settings that may differ between base networks and between data sets, but for held-out trials.
        argument: What a message says must hold them.
        advice: How it ends.

    Raises:
        ValueError: If two do not belong in one table.
    """
    first: dict[str, tuple[Path, Any]] = {}
    names = dict.fromkeys(name for record in records.values() for name in record.settings)
    for path, record in records.items():
        named: dict[str, Any] = {"shots": record.shots}
        data, model = record.data_folder, record.model
        for name in names:
            value = record.settings.get(name)
            if name in of_cell:
                if not record.held_out:
                    named[f"{data}, {model}: {name}"] = value
            elif name in of_model:
                named[f"{model}: {name}"] = value
            elif name not in free:
                named[name] = value
        named[f"{data}: dataset"] = record.dataset
        named[f"{data}: contents"] = record.data_sha256
        named[record.folder] = str(path)
        for name, value in named.items():
            other, expected = first.setdefault(name, (path, value))
            if value != expected:
                what = "of the same name" if name == record.folder else f"with another {name}"
                raise ValueError(
                    f"`{argument}` must hold the trials of one benchmark, got {other} and {path} {what}. {advice}"
                )
