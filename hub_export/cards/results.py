"""Read a `results.json` that anybody may have written."""

import json
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from timm_lp.files import parse_json
from timm_lp.start import Start

from .evaluation import Evaluation

_NEEDED = {"random": None, "checkpoint": "file", "url": "url", "hub": "hub_id"}  # by a start of each kind
_SOURCES = {
    "hub_id": re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?"),
    "url": re.compile(r"https?://\S+"),
    "file": re.compile(r"[^/\\]+"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_LOCAL_PATH = re.compile(r"(?<![^'\"=])(?:file:)?(?:/|[A-Za-z]:[\\/]|\\\\)[^'\"]*")


@dataclass(frozen=True)
class Recipe:
    """How a network was trained.

    Attributes:
        command: The command that repeats it.
        variant: The network's variant as the benchmark names it, `lp2-paper` for instance.
        seed: The seed of the training whose weights these are.
        start: The weights that it started from, None where they are not recorded.
        settings: The benchmark's settings, by name.
    """

    command: str | None = None
    variant: str | None = None
    seed: int | None = None
    start: Start | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """What `python -m timm_lp.bench` measured.

    Attributes:
        device: The machine's.
        threads: Threads on a CPU.
        torch: Version of torch.
        runs: Measured runs of each case.
        cases: Median times, ms, by the case's name, and then by mode and form.
    """

    device: str
    threads: int
    torch: str
    runs: int
    cases: dict[str, dict[tuple[str, str], float]]


@dataclass(frozen=True)
class Results:
    """The content of a `results.json`.

    Attributes:
        recipe: How the network was trained.
        evaluations: What was measured of it, and of others to compare with.
        speed: Times, None where none were measured.
        content: All of it, as it is published.
    """

    recipe: Recipe = field(default_factory=Recipe)
    evaluations: list[Evaluation] = field(default_factory=list)
    speed: Speed | None = None
    content: dict[str, Any] = field(default_factory=dict)


def read_results(path: Path) -> Results:
    """Return a file's content, see `parse_results`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not of the benchmark's form; the message says where.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`results` must be a JSON file, got {str(path)!r}: {error}.") from error
    return parse_results(content, str(path))


def parse_results(content: Any, source: str | None = None) -> Results:
    """Return the results of a `results.json`; of local paths in it only the last part, since they are published.

    Args:
        content: `{"recipe": {"command", "start": {"kind", ...}, "settings", ...}, "results": [{"dataset": {"id",
            "name", ...}, "model", "shots", "variant", "num_test", "metrics": {name: {seed: percent}}}],
            "speed": {...}}`; only `results` must be there.
        source: The file that it is from, for messages.

    Raises:
        ValueError: If something in it is missing or of another kind; the message says where.
    """
    try:
        return _parse(_as_json(content))
    except (ValueError, RecursionError) as error:
        rule = "be nested less deeply" if isinstance(error, RecursionError) else error
        where = f" in {source}" if source else ""
        raise ValueError(f"`results` must {rule}{where}. The benchmark's results.json is of that form.") from error


def _parse(content: Any) -> Results:
    _check(isinstance(content, dict), "be a dictionary", content)
    recipe = content.get("recipe")
    _check(recipe is None or isinstance(recipe, dict), "have a dictionary under 'recipe'", recipe)
    content = _without_local_paths(content)
    if recipe and "command" in recipe:
        content["recipe"]["command"] = _command(recipe["command"])
    entries = content.get("results")
    _check(isinstance(entries, list), "have a list under 'results'", entries)
    evaluations = [evaluation for index, entry in enumerate(entries) for evaluation in _evaluations(index, entry)]
    return Results(_recipe(content.get("recipe") or {}), evaluations, _speed(content.get("speed")), content)


def _as_json(content: Any) -> Any:
    """Return what a file with this content would be read as."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"be what a JSON file can hold, got {type(content).__name__} ({error})") from error
    return json.loads(text)


def _without_local_paths(content: Any) -> Any:
    """Return JSON in which paths that start at a machine's root are names of files or folders alone."""
    if isinstance(content, dict):
        return {key: _without_local_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_local_paths(value) for value in content]
    return _LOCAL_PATH.sub(_name, content) if isinstance(content, str) else content


def _name(path: re.Match[str]) -> str:
    return PureWindowsPath(path[0]).name  # it splits at slashes and at backslashes


def _command(command: Any) -> str | None:
    """Return a command line with the local paths among its words as names."""
    if command is None:
        return None
    rule = "have a command line or null under 'recipe'['command']"
    _check(_is_text(command), rule, command)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{rule}, got {command!r} ({error})") from error
    return shlex.join(_LOCAL_PATH.sub(_name, word) for word in words)


def _recipe(recipe: dict[str, Any]) -> Recipe:
    variant, seed, settings = recipe.get("variant"), recipe.get("seed"), recipe.get("settings")
    _check(_is_text(variant), "have a name or null under 'recipe'['variant']", variant)
    _check(seed is None or type(seed) is int, "have a whole number or null under 'recipe'['seed']", seed)
    _check(settings is None or isinstance(settings, dict), "have a dictionary under 'recipe'['settings']", settings)
    return Recipe(recipe.get("command"), variant, seed, _start(recipe.get("start")), settings or {})


def _start(start: Any) -> Start | None:
    if start is None:
        return None
    place = "'recipe'['start']"
    _check(isinstance(start, dict), f"have a dictionary or null under {place}", start)
    kind, license = start.get("kind"), start.get("license")
    _check(isinstance(kind, str) and kind in _NEEDED, f"have one of {', '.join(_NEEDED)} at {place}['kind']", kind)
    _check(_is_text(license), f"have a name or null at {place}['license']", license)
    sources = {key: start.get(key) for key in _SOURCES}
    for key, value in sources.items():
        fits = isinstance(value, str) and _is_text(value) and _SOURCES[key].fullmatch(value)
        known = bool(fits) if key == _NEEDED[kind] else value is None or bool(fits)
        _check(known, f"have what it names at {place}[{key!r}]", value)
    return Start(kind, license=license, **sources)


def _evaluations(index: int, entry: Any) -> list[Evaluation]:
    place = f"'results'[{index}]"
    _check(isinstance(entry, dict), f"have a dictionary at {place}", entry)
    dataset, metrics, variant, lr = (entry.get(key) for key in ("dataset", "metrics", "variant", "lr"))
    _check(_is_dataset(dataset), f"have an 'id' and a 'name' at {place}['dataset']", dataset)
    for key in ("revision", "split", "config"):
        _check(_is_text(dataset.get(key)), f"have a name or null at {place}['dataset'][{key!r}]", dataset.get(key))
    for key in ("shots", "num_test"):
        count = entry.get(key)
        known = count is None or (type(count) is int and count > 0)
        _check(known, f"have a whole number above 0 or null at {place}[{key!r}]", count)
    for key in ("model", "variant"):
        _check(_is_text(entry.get(key)), f"have a name or null at {place}[{key!r}]", entry.get(key))
    _check(lr is None or _is_number(lr), f"have a number or null at {place}['lr']", lr)
    _check(isinstance(metrics, dict), f"have a dictionary at {place}['metrics']", metrics)
    for name, by_seed in metrics.items():
        numbers = isinstance(by_seed, dict) and by_seed and all(_is_percent(value) for value in by_seed.values())
        _check(bool(numbers and _is_text(name)), f"have percent by seed at {place}['metrics'][{name!r}]", by_seed)
    context = (dataset, entry.get("model"), entry.get("shots"), variant, entry.get("num_test"), lr)
    return [Evaluation(*context, name, by_seed) for name, by_seed in metrics.items()]


def _speed(speed: Any) -> Speed | None:
    if speed is None:
        return None
    rule = "have the benchmark of speed's file under 'speed'"
    _check(isinstance(speed, dict), rule, speed)
    machine, runs, results = (speed.get(key) for key in ("machine", "runs", "results"))
    _check(isinstance(machine, dict) and isinstance(results, list), rule, speed)
    device, threads, torch = (machine.get(key) for key in ("device", "threads", "torch"))
    named = all(isinstance(text, str) and _is_text(text) for text in (device, torch))
    _check(named and type(threads) is int and type(runs) is int, rule, [machine, runs])
    cases: dict[str, dict[tuple[str, str], float]] = {}
    for case in results:
        _check(isinstance(case, dict) and isinstance(case.get("name"), str) and _is_text(case["name"]), rule, case)
        times = cases[case["name"]] = {}
        for mode in ("training", "evaluation"):
            _check(isinstance(case.get(mode), dict), rule, case)
            for form, summary in case[mode].items():
                _check(isinstance(summary, dict) and _is_number(summary.get("median_ms")), rule, case)
                times[mode, form] = summary["median_ms"]
    return Speed(device, threads, torch, runs, cases)


def _is_dataset(dataset: Any) -> bool:
    if not isinstance(dataset, dict) or not isinstance(dataset.get("name"), str) or "id" not in dataset:
        return False
    return _is_text(dataset["name"]) and _is_text(dataset["id"])


def _is_text(value: Any) -> bool:
    """Tell whether a value is text on one line, or null."""
    return value is None or (isinstance(value, str) and bool(value.strip()) and _ONE_LINE.fullmatch(value) is not None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _is_percent(value: Any) -> bool:
    return value is None or (_is_number(value) and value <= 100)


def _check(fulfilled: bool, rule: str, value: Any) -> None:
    if not fulfilled:
        raise ValueError(f"{rule}, got {_shortened(repr(value))}")


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
