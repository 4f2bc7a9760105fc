"""The record that a trial leaves: one schema for the report, the statistics, the cards and every experiment.

The last word of a metric's name tells its range: a `loss` and a mean squared error (`mse`) start at 0, a correlation
(`cc`) lies between -1 and 1, and every other metric is a percentage.
"""

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import quote

from .. import __version__
from ..start import Start

_T = TypeVar("_T")

_PERCENT = (0.0, 100.0)
_RANGES = {"loss": (0.0, inf), "mse": (0.0, inf), "cc": (-1.0, 1.0)}  # by the last word of a metric's name
_ROUNDING = 1e-9  # by which a mean of correlations may pass 1


class DivergedError(Exception):
    """The loss or an output of a network is not a number any more; a new try would give the same."""


class UnreadableDataError(Exception):
    """Part of a data set cannot be read; a trial may go well once its user has mended that.

    Attributes:
        is_known: Whether each of several processes says so at the same place; otherwise the others wait for this one.
    """

    is_known = False


class FailedError(RuntimeError):
    """A run has ended without all the results that it was asked for."""


class DamagedRecordError(ValueError):
    """A record's file is no JSON, as a power cut may leave it."""


@dataclass(frozen=True)
class DataInfo:
    """What a data set is called.

    Attributes:
        id: Its repository on the Hub, or the name of its folder or file.
        name: Its name in tables.
        revision: Commit on the Hub, None where there is none.
        split: The split that is tested on.
        config: Configuration on the Hub, None for the default.
    """

    id: str
    name: str
    revision: str | None = None
    split: str = "test"
    config: str | None = None


@dataclass(frozen=True)
class Machine:
    """What a trial ran on.

    Attributes:
        device: The GPU's name, or `cpu`.
        num_processes: Processes over which it was distributed.
        cpu_threads: Threads of each.
    """

    device: str
    num_processes: int
    cpu_threads: int


@dataclass(frozen=True)
class TrialRecord:
    """Everything needed to repeat a trial, and its results.

    Attributes:
        folder: The trial's folder below the output folder, with forward slashes.
        dataset: What its data set is called.
        dataset_argument: What the command line called it.
        data_sha256: Digest of the data set's contents.
        model: The base network's name.
        variant: The variant of it, `lp2-paper` for instance.
        network: Name of the network that was trained, `lp2_resnet18` for instance.
        seed: Settles everything random.
        shots: Training images of each class; None for all, or where there are no classes.
        held_out: Whether it was tested on held-out training data, to choose a setting.
        settings: Everything else on which its result depends.
        command: The command that repeats it.
        machine: What it ran on.
        versions: Of the packages that it used, by their names.
        start: The weights that it started from; None if it failed, or nothing tells which they were.
        metrics: What was measured at its end, by the metrics' names; None if it failed.
        error: Why it failed; None if it ended well.
        final: Whether trying again would give the same.
        num_train: Number of training images.
        num_test: Number of images that it was tested on.
        parameters: Number of parameters of the network.
        macs: Multiply-accumulates of its convolutions and matrix products for one image.
        train_seconds: Time of the training, seconds.
        history: What was measured epoch by epoch, by name.
        details: Further figures of the experiment.
    """

    folder: str
    dataset: DataInfo
    dataset_argument: str
    data_sha256: str
    model: str
    variant: str
    network: str
    seed: int
    shots: int | None
    held_out: bool
    settings: dict[str, Any]
    command: str
    machine: Machine
    versions: dict[str, str]
    start: Start | None = None
    metrics: dict[str, float] | None = None
    error: str | None = None
    final: bool = True
    num_train: int | None = None
    num_test: int | None = None
    parameters: int | None = None
    macs: int | None = None
    train_seconds: float | None = None
    history: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def data_folder(self) -> str:
        """The folder of the data set's trials, which tells data sets of one name apart."""
        return self.folder.split("/")[0]

    def decisive(self) -> dict[str, Any]:
        """Return everything on which the result depends, as JSON holds it; a checkpoint by its contents."""
        own = {name: getattr(self, name) for name in ("model", "variant", "seed", "held_out")}
        settings = {name: value for name, value in self.settings.items() if name != "checkpoint"}  # its sha256 is there
        others = {"shots": self.shots or "all", "data_sha256": self.data_sha256}
        return json.loads(json.dumps({**own, **settings, **others}))


def trial_folder(data: str, model: str, variant: str, seed: int, swept_lr: float | None = None) -> str:
    """Return a trial's folder below the output folder, with forward slashes.

    Args:
        data: Name of the folder of the data set.
        model: The base network's name, or the path of its class, whose colon no folder can have everywhere.
        variant: The variant of it.
        seed: The trial's seed.
        swept_lr: The learning rate that it tries on held-out images, None for other trials.
    """
    name = f"{variant_folder(variant)}-seed{seed}" if swept_lr is None else f"lr-sweep/lr{swept_lr:g}-seed{seed}"
    return f"{data}/{model.replace(':', '.')}/{name}"


def variant_folder(variant: str) -> str:
    """Return a variant as the name of a folder: the wildcards of its layers as addresses have them, `%2A` for `*`."""
    return quote(variant, safe="@,")


@cache
def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of timm-lp, Python and other packages, of those that are installed."""
    versions = {"timm-lp": __version__, "python": platform.python_version()}
    for name in packages:
        with suppress(PackageNotFoundError):  # `datasets`, where only folders are read
            versions[name] = version(name)
    return versions


def read_record(path: Path) -> TrialRecord:
    """Return the record in a file.

    Raises:
        DamagedRecordError: If it is no JSON.
        ValueError: If it is no record as this version writes it, or contradicts itself.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(f"A trial's record must be JSON, got {path}: {error}") from error
    wrong = list(_wrong_fields(content, TrialRecord, "record"))
    if wrong:
        raise ValueError(
            f"A trial's record must be of this version of timm-lp, got {path}: {', '.join(wrong)} missing, unknown or "
            "of another type. Keep it elsewhere, and run its trial again."
        )
    record = _from_json(content, TrialRecord)
    odd = next(_contradictions(record), None)
    if odd:
        raise ValueError(
            f"A trial's record must be as its run left it, got {path}: {odd}. Remove the file, and run its trial again."
        )
    return record


def _contradictions(record: TrialRecord) -> Iterator[str]:
    """Yield what no trial leaves in its record."""
    lr = record.settings.get("lr")
    swept_lr = (lr if isinstance(lr, (int, float)) else 0.0) if record.held_out else None
    folder = trial_folder(record.data_folder, record.model, record.variant, record.seed, swept_lr)
    if record.folder != folder:
        yield f"`folder` is {record.folder}, its variant, seed and network give {folder}"
    if (record.metrics is None) == (record.error is None):
        yield "it must have either `metrics` or an `error`"
    for name, value in (record.metrics or {}).items():
        least, most = _RANGES.get(name.split("_")[-1], _PERCENT)
        if not (least - _ROUNDING <= value <= most + _ROUNDING and value < inf):
            limit = "infinity" if most == inf else f"{most:g}"
            yield f"`metrics` must be numbers from {least:g} to {limit}, {name} is {value}"
    numbers = [record.train_seconds or 0.0, *(value for values in record.history.values() for value in values)]
    if not all(-inf < number < inf for number in numbers):
        yield "`history` and `train_seconds` must be finite"


def as_json(record: TrialRecord) -> dict[str, Any]:
    """Return a record as `read_record` reads it."""
    return asdict(record)


def _wrong_fields(content: Any, kind: Any, name: str) -> Iterator[str]:
    """Yield the names of what is missing, unknown or of another type than its annotation says."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        if not isinstance(content, dict):
            yield name
            return
        hints = get_type_hints(kind)
        yield from sorted(str(key) for key in content.keys() - hints.keys())
        for key, hint in hints.items():
            yield from _wrong_fields(content.get(key, ...), hint, key)
    elif origin is UnionType:
        if not any(not list(_wrong_fields(content, option, name)) for option in arguments):
            yield name
    elif origin in (dict, list):
        items = content.values() if isinstance(content, dict) else content
        if not isinstance(content, origin) or any(list(_wrong_fields(item, arguments[-1], name)) for item in items):
            yield name
    elif not _fits(content, kind, origin, arguments):
        yield name


def _fits(content: Any, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if kind is Any:
        return content is not ...
    if origin is Literal:
        return content in arguments
    if kind is float:
        return type(content) in (int, float)
    return type(content) is kind


def _from_json(content: dict[str, Any], kind: type[_T]) -> _T:
    """Return the dataclass whose fields `_wrong_fields` has checked."""
    hints = get_type_hints(kind)
    values = dict(content)
    for name in (part.name for part in fields(kind)):  # type: ignore[arg-type] # a dataclass
        inner = [option for option in (get_args(hints[name]) or (hints[name],)) if option is not NoneType]
        if is_dataclass(inner[0]) and values[name] is not None:
            values[name] = _from_json(values[name], inner[0])  # type: ignore[arg-type] # a class
    return kind(**values)
