"""What a card shows of trials and of measured times: files that anybody may have written, without the user's paths."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from timm_lp.files import TRIAL_FILE, parse_json
from timm_lp.reporting import listed
from timm_lp.start import Start
from timm_lp.trials.folder import read_records
from timm_lp.trials.record import DataInfo, TrialRecord, as_json, read_record, variant_folder
from timm_lp.trials.summary import shown_with, tested_groups
from timm_lp.variants import BASE

from .evaluation import Trials
from .templates import one_line, table

_NEEDED = {"random": None, "checkpoint": "file", "url": "url", "hub": "hub_id"}  # by a start of each kind
_SOURCES = {
    "hub_id": re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?"),
    "url": re.compile(r"https?://\S+"),
    "file": re.compile(r"[^/\\]+"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}
_NAME = re.compile(r"[\w.:@,*?!\[\]-]+")  # of a network or its class, or of a variant with patterns of layers
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_LOCAL_PATH = re.compile(r"(?<![^'\"=])(?:file:)?(?:/|[A-Za-z]:[\\/]|\\\\|(?:~|\.\.)[\\/])[^'\"]*")
# In a text a path may have spaces, and ends at the latest where a sentence goes on; what it swallows of that stays.
_PART = r"[^\s/\\'\"():,|`][^/\\'\"():,|`\n]*(?<!\s)"
_PATH_IN_TEXT = re.compile(
    rf"(?<![\w.:/\\~-])(?:(?:~|\.\.)?(?:/{_PART}){{2,}}|(?:~|\.\.)/{_PART}"
    rf"|(?:file:/+(?:[A-Za-z]:[\\/]+)?|[A-Za-z]:[\\/]+|\\\\+){_PART}(?:[\\/]+{_PART})*)"
)
_MAX_SHOWN = 200  # letters of a value in a message


def read_trials(source: Any) -> Trials:
    """Return the trials that a card shows; of local paths in them only the last part, since they are published.

    Args:
        source: A trial's folder or its `trial.json`, beside which its run's other trials lie; or the folder of a run.

    Raises:
        OSError: If a record cannot be read.
        ValueError: If there is no trial that ended well, or a record cannot be published; the message says why.
    """
    path = Path(source).expanduser() if isinstance(source, (str, Path)) else None
    if path is not None and path.name == TRIAL_FILE and path.is_file():
        path = path.parent
    if path is None or not path.is_dir():
        raise ValueError(
            f"`results` must be a trial's folder, the folder of a run or a {TRIAL_FILE}, got {_shortened(source)}. "
            f"Give the folder in which {TRIAL_FILE} lies."
        )
    if (path / TRIAL_FILE).is_file():
        trained = publishable(path / TRIAL_FILE, read_record(path / TRIAL_FILE))
        records = shown_with(trained, [trained, *_siblings(path, trained)])
    else:
        trained = None
        records = [publishable(file, record) for file, record in read_records(path).items()]
    tested = tuple(record for group in tested_groups(records) for record in group)
    if not tested or (trained and not trained.metrics):
        raise ValueError(f"`results` must be those of a trial that ended well, got {path} without one. Run it again.")
    return Trials(tested, trained)


def _siblings(folder: Path, trained: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the trials of a trial's variant and of its base network that were run on its data with its settings."""
    for variant in dict.fromkeys((trained.variant, BASE)):
        for file in sorted(folder.resolve().parent.glob(f"{variant_folder(variant)}-seed*/{TRIAL_FILE}")):
            record = publishable(file, read_record(file))
            is_copy = file.parent.name != record.folder.split("/")[-1]
            if not is_copy and record.folder != trained.folder and _setup(record) == _setup(trained):
                yield replace(record, dataset=trained.dataset, dataset_argument=trained.dataset_argument)


def _setup(record: TrialRecord) -> dict[str, Any]:
    return {key: value for key, value in record.decisive().items() if key not in ("variant", "seed")}


def publishable(path: Path, record: TrialRecord) -> TrialRecord:
    """Return a record in which paths that start at a machine's root are names of files or folders alone.

    Raises:
        ValueError: If it holds what no card can show.
    """
    try:
        _check(record)
    except (ValueError, RecursionError) as error:
        rule = "be nested less deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"`{TRIAL_FILE}` must {rule} in {path}. Run its trial again.") from error
    return replace(
        record,
        dataset=DataInfo(**_without_local_paths(vars(record.dataset))),
        dataset_argument=record.data_folder,
        settings=_without_local_paths(record.settings),
        command=shlex.join(_LOCAL_PATH.sub(_name, word) for word in shlex.split(record.command)),
        error=None if record.error is None else without_paths(record.error),
    )


def without_paths(text: str) -> str:
    """Return a text in which paths that start at a machine's root or a home are names of files or folders alone."""
    return _PATH_IN_TEXT.sub(_name, text)


def _check(record: TrialRecord) -> None:
    _require_json(as_json(record))
    try:
        shlex.split(record.command)
    except ValueError as error:
        raise ValueError(f"have a command line as its command, got {_shortened(record.command)} ({error})") from error
    lines = {"command": record.command, **{f"dataset's {key}": text for key, text in vars(record.dataset).items()}}
    for key, text in lines.items():
        is_missing = text is None and key in ("dataset's revision", "dataset's config")
        _require(is_missing or _is_text(text), f"have text on one line as its {key}", text)
    for key, name in (("model", record.model), ("variant", record.variant)):
        _require(_NAME.fullmatch(name) is not None, f"have a name as its {key}", name)
    for key, count in (("shots", record.shots), ("num_test", record.num_test)):
        _require(count is None or count > 0, f"have a whole number above 0 or null as its {key}", count)
    lr = record.settings.get("lr")
    _require(lr is None or _is_number(lr), "have a number or null as its lr", lr)
    for name in record.metrics or {}:
        _require(_is_text(name), "have metrics with names on one line", name)
    if record.start is not None:
        _check_start(record.start)


def _check_start(start: Start) -> None:
    license = start.license
    _require(license is None or _is_text(license), "have a name or null as its start's license", license)
    for key, form in _SOURCES.items():
        value = getattr(start, key)
        fits = _is_text(value) and form.fullmatch(value) is not None
        _require(fits or (value is None and key != _NEEDED[start.kind]), f"name its start's {key}", value)


@dataclass(frozen=True)
class Speed:
    """What `timm-lp bench` measured.

    Attributes:
        device: The machine's.
        torch: Version of torch.
        runs: Measured runs of each case.
        cases: Median times, ms, by the case's name and the mode in which it ran, and then by phase and form.
        content: All of it, as it is published.
    """

    device: str
    torch: str
    runs: int
    cases: dict[tuple[str, str], dict[tuple[str, str], float]]
    content: dict[str, Any]

    def check_has(self, name: str) -> None:
        """Refuse times among which there are none of the networks of a name.

        Raises:
            ValueError: If there are none.
        """
        if not self._of(name):
            others = listed(dict.fromkeys(case for case, _ in self.cases)) or "none"
            raise ValueError(
                f"`speed` must have times of {name}, got those of {others}. Measure: timm-lp bench --network {name}"
            )

    def table(self, name: str) -> str:
        """Return the times of the networks of a name, in their forms, as a table."""
        columns = [("training", "lp"), ("evaluation", "lp"), ("evaluation", "merged")]
        rows = [
            (*case, *(f"{times[key]:.1f}" if key in times else "-" for key in columns))
            for case, times in self._of(name).items()
        ]
        return table(("case", "mode", "training step (ms)", "evaluation (ms)", "evaluation, merged (ms)"), rows)

    def note(self, name: str) -> str:
        """Return what the times depend on."""
        return (
            f"Medians of {self.runs} runs of `timm-lp bench` on {one_line(self.device)}, torch {one_line(self.torch)}. "
            f"They are those of a new {name} with timm's default arguments, not of the weights here."
        )

    def _of(self, name: str) -> dict[tuple[str, str], dict[tuple[str, str], float]]:
        return {case: times for case, times in self.cases.items() if case[0].startswith(f"{name},")}


def read_speed(path: str | Path) -> Speed:
    """Return the times in a file that `timm-lp bench` wrote; of local paths in it only the last part.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file; the message says why.
    """
    path = Path(path).expanduser()
    try:
        content = parse_json(path.read_bytes())
        _require_json(content)
        return _parse_speed(_without_local_paths(content))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`speed` must be the results.json of `timm-lp bench`, got {str(path)!r}: {error}.") from error


def _parse_speed(content: Any) -> Speed:
    _require(isinstance(content, dict), "it must be a dictionary", content)
    machine, runs, results = (content.get(key) for key in ("machine", "runs", "results"))
    _require(isinstance(machine, dict) and type(runs) is int, "it must have a machine and its runs", [machine, runs])
    device, torch = (machine.get(key) for key in ("device", "torch"))
    _require(_is_text(device) and _is_text(torch), "its machine must have a device and torch", machine)
    _require(isinstance(results, list), "it must have a list of results", results)
    cases: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for case in results:
        named = isinstance(case, dict) and _is_text(case.get("name")) and _is_text(case.get("mode"))
        _require(named, "its results must have names and modes", case)
        times = cases[case["name"], case["mode"]] = {}
        for phase in ("training", "evaluation"):
            _require(isinstance(case.get(phase), dict), f"its results must have times of {phase}", case)
            for form, summary in case[phase].items():
                is_time = isinstance(summary, dict) and _is_number(summary.get("median_ms"))
                _require(is_time, "its results must have medians in ms", case)
                times[phase, form] = summary["median_ms"]
    return Speed(device, torch, runs, cases, content)


def _without_local_paths(content: Any) -> Any:
    """Return JSON in which paths that start at a machine's root are names of files or folders alone."""
    if isinstance(content, dict):
        return {key: _without_local_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_local_paths(value) for value in content]
    return _LOCAL_PATH.sub(_name, content) if isinstance(content, str) else content


def _name(path: re.Match[str]) -> str:
    return PureWindowsPath(path[0]).name  # it splits at slashes and at backslashes


def _require_json(content: Any) -> None:
    try:
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError(f"hold what JSON can, got {error}") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _ONE_LINE.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _require(fulfilled: bool, rule: str, value: Any) -> None:
    if not fulfilled:
        raise ValueError(f"{rule}, got {_shortened(value)}")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
