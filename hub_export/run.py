"""What is published of a run: which trials' networks, and under which names."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from re import sub

from timm_lp.trials.folder import read_records
from timm_lp.trials.networks import find_networks
from timm_lp.trials.record import TrialRecord
from timm_lp.variants import variant_order

from .cards.benchmark import kind_of, note_of, several
from .cards.records import publishable
from .collection import LONGEST_TITLE, Entry
from .target import check_repo_id

_LONGEST_NAME = 96  # letters that the Hub takes
_LONGEST_PART = 40  # of a variant's, a network's or a data set's in that


@dataclass(frozen=True)
class Member:
    """A trial's network that is published.

    Attributes:
        repo_id: Its repository.
        folder: The trial's folder.
        record: The trial's record, as it may be published.
    """

    repo_id: str
    folder: Path
    record: TrialRecord


@dataclass(frozen=True)
class Run:
    """What is published of a run.

    Attributes:
        name: `owner/name`, with which all names begin.
        folder: The run's folder.
        members: The networks, in the order of the table.
        records: All trials on the test images, as they may be published, in that order.
    """

    name: str
    folder: Path
    members: list[Member]
    records: list[TrialRecord]

    @property
    def results(self) -> str:
        """The data set repository."""
        return f"{self.name}-results"

    @property
    def repositories(self) -> dict[str, str]:
        """The networks' repositories, by their trials' folders."""
        return {member.record.folder: member.repo_id for member in self.members}

    @property
    def entries(self) -> list[Entry]:
        """The items of the collection, in order."""
        report = Entry(self.results, "dataset", "The report, with all tables, and the records of all trials")
        notes = {member.repo_id: note_of(member.record, self.records) for member in self.members}
        return [report, *(Entry(repo_id, "model", note) for repo_id, note in notes.items())]


def find_run(run: str | Path, repo_id: str, seed: int | None) -> Run:
    """Return what is published of a run; nothing is loaded, and the Hub is not asked.

    Raises:
        ValueError: As `push_run` says.
    """
    check_repo_id(repo_id)
    folder = Path(run).expanduser()
    found = {
        network.record.folder: network.path
        for network in find_networks([str(folder)], see_images=False).networks
        if network.record
    }
    records = _tested_records(folder) if found else []
    _check_ended_well(records, seed)
    names = {record.folder: _repository(repo_id, record, several(records), seed) for record in records}
    members = [
        Member(names[record.folder], path, record)
        for record in records
        if seed in (None, record.seed) and (path := found[record.folder])
    ]
    if len(members) < 2:
        raise ValueError(
            f"`run` must be a run's folder with several networks, got {str(run)!r} with {len(members)}. Push a single "
            "one without --collection."
        )
    _check_names(repo_id, [*(member.repo_id for member in members), f"{repo_id}-results"])
    return Run(repo_id, folder, members, records)


def _tested_records(folder: Path) -> list[TrialRecord]:
    """Return a run's trials on the test images, as they may be published, in the order of the table."""
    read = {path: record for path, record in read_records(folder).items() if not record.held_out}
    records = [publishable(path, record) for path, record in read.items()]
    folders = [record.folder for record in records]
    if twice := [name for name in dict.fromkeys(folders) if folders.count(name) > 1]:
        raise ValueError(f"`run` must hold each trial once, got {twice[0]} of two runs. Give the folder of one run.")
    kind_of(records)
    return sorted(records, key=lambda record: (record.data_folder, record.model, _row(record), record.seed))


def _row(record: TrialRecord) -> tuple[int, str]:
    return variant_order(record.variant)


def _check_ended_well(records: list[TrialRecord], seed: int | None) -> None:
    """Refuse a run in which a trial that is to be published failed, or a variant lacks the seed."""
    failed = [record for record in records if record.error and seed in (None, record.seed)]
    if failed:
        seeds = {record.seed for record in records} - {record.seed for record in records if record.error}
        whole = f", or choose a seed of which all ended well: --seed {min(seeds)}" if seeds else ""
        error = (failed[0].error or "").rstrip(".")
        raise ValueError(
            f"`run` must hold trials that ended well, got {failed[0].folder}, which failed: {error}. Run it "
            f"again{whole}."
        )
    rows: dict[tuple[str, str, str], set[int]] = {}
    for record in records:
        rows.setdefault((record.data_folder, record.model, record.variant), set()).add(record.seed)
    for (data, model, variant), seeds in rows.items() if seed is not None else ():
        if seed not in seeds:
            raise ValueError(
                f"`seed` must be one that each variant was trained with, got {seed}, which {variant} of {model} on "
                f"{data} lacks: it has {', '.join(map(str, sorted(seeds)))}."
            )


def _repository(repo_id: str, record: TrialRecord, parts: tuple[bool, bool], seed: int | None) -> str:
    where = [name for name, is_shown in zip((record.data_folder, record.model), parts, strict=True) if is_shown]
    words = [*map(_as_name, [*where, record.variant]), *([f"seed{record.seed}"] if seed is None else [])]
    return "-".join([repo_id, *words])


def _as_name(text: str) -> str:
    """Return a text as a part of a repository's name; what differs from the text is told apart by a hash."""
    name = sub(r"[-.]{2,}", "-", sub(r"[^A-Za-z0-9._-]+", "-", text))[:_LONGEST_PART].strip("-.")
    return name if name == text else f"{name}-{sha256(text.encode()).hexdigest()[:6]}".lstrip("-")


def _check_names(repo_id: str, names: list[str]) -> None:
    title, longest = repo_id.partition("/")[2], max((name.partition("/")[2] for name in names), key=len)
    if len(title) > LONGEST_TITLE or len(longest) > _LONGEST_NAME:
        raise ValueError(
            f"`repo_id` must have a name of at most {LONGEST_TITLE} letters, and {_LONGEST_NAME} with what is added to "
            f"it, got {title!r} and {longest!r}. Give a shorter one."
        )
    for name in names:
        check_repo_id(name)
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(f"`run` must have trials whose names differ in more than their case, got {', '.join(names)}.")
