"""The results that a card shows: what was measured, on which data, with which seeds."""

import re
import statistics
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

_METRICS = {"top1": ("accuracy", "top-1 (%)"), "mean_per_class": ("accuracy", "mean per-class accuracy (%)")}
_HUB_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Evaluation:
    """One metric on one data set, by seed.

    Attributes:
        dataset: `id`, `name`, and where known `revision`, `split`, `config`.
        shots: Training images of each class, None for all.
        variant: Of the network, None where the results name none.
        num_test: Test images.
        metric: `top1` for instance.
        by_seed: Percent by seed; None where training failed.
    """

    dataset: dict[str, Any]
    shots: int | None
    variant: str | None
    num_test: int | None
    metric: str
    by_seed: dict[str, float | None]

    @property
    def values(self) -> list[float]:
        """The seeds' values, percent, without those that failed."""
        return [value for value in self.by_seed.values() if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean over seeds, percent."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds, percent; None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def hub_dataset(self) -> str | None:
        """The data set's id on the Hub; None for a local one."""
        return self.dataset["id"] if _HUB_DATASET.fullmatch(self.dataset["id"] or "") else None

    @property
    def setting(self) -> str:
        """How the network was trained on what, in words."""
        return f"{self.dataset['name']}, {'all images' if self.shots is None else f'{self.shots}-shot'}"

    @property
    def label(self) -> str:
        """The metric's name for people."""
        return _METRICS.get(self.metric, ("", self.metric))[1]

    def eval_result(self) -> EvalResult:
        """Return the metadata of the mean over seeds."""
        count = len(self.values)
        shots = "" if self.shots is None else f"{self.shots}-shot "
        return EvalResult(
            task_type="image-classification",
            task_name="Image Classification",
            dataset_type=self.hub_dataset or self.dataset["name"],
            dataset_name=self.dataset["name"],
            dataset_config=self.dataset.get("config"),
            dataset_split=self.dataset.get("split"),
            dataset_revision=self.dataset.get("revision"),
            metric_type=_METRICS.get(self.metric, (self.metric, ""))[0],
            metric_name=f"{shots}{self.label}, mean of {count} seed{'s' if count > 1 else ''}",
            metric_value=None if self.mean is None else round(self.mean, 2),
        )


def parse_results(results: dict[str, Any]) -> list[Evaluation]:
    """Return the evaluations in the content of a `results.json`.

    Args:
        results: `{"recipe": {...}, "results": [{"dataset": {"id", "name", ...}, "shots", "variant", "num_test",
            "metrics": {name: {seed: percent}}}]}`.

    Raises:
        ValueError: If something in it is missing or of another kind; the message says where.
    """
    _check(isinstance(results, dict), "be a dictionary", results)
    recipe = results.get("recipe") or {}
    _check(isinstance(recipe, dict), "have a dictionary under 'recipe'", recipe)
    settings = recipe.get("settings") or {}
    _check(isinstance(settings, dict), "have a dictionary under 'recipe'['settings']", settings)
    speed = results.get("speed")
    known = isinstance(speed, dict) and {"machine", "runs"} <= speed.keys() and isinstance(speed.get("results"), list)
    _check(speed is None or known, "have the benchmark of speed's file under 'speed'", speed)
    entries = results.get("results", [])
    _check(isinstance(entries, list), "have a list under 'results'", entries)
    return [evaluation for index, entry in enumerate(entries) for evaluation in _evaluations(index, entry)]


def _evaluations(index: int, entry: Any) -> list[Evaluation]:
    place = f"'results'[{index}]"
    _check(isinstance(entry, dict), f"have a dictionary at {place}", entry)
    dataset, metrics = entry.get("dataset"), entry.get("metrics")
    named = (
        isinstance(dataset, dict)
        and isinstance(dataset.get("id", 0), (str, type(None)))
        and isinstance(dataset.get("name"), str)
    )
    _check(named, f"have an 'id' and a 'name' at {place}['dataset']", dataset)
    for key in ("shots", "num_test"):
        count = entry.get(key)
        _check(count is None or isinstance(count, int), f"have a whole number or null at {place}[{key!r}]", count)
    _check(isinstance(metrics, dict), f"have a dictionary at {place}['metrics']", metrics)
    for name, by_seed in metrics.items():
        numbers = isinstance(by_seed, dict) and all(_is_percent(value) for value in by_seed.values())
        _check(numbers, f"have percent by seed at {place}['metrics'][{name!r}]", by_seed)
    context = (dataset, entry.get("shots"), entry.get("variant"), entry.get("num_test"))
    return [Evaluation(*context, name, by_seed) for name, by_seed in metrics.items()]


def _is_percent(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value <= 100)


def _check(fulfilled: bool, rule: str, value: Any) -> None:
    if not fulfilled:
        raise ValueError(f"`results` must {rule}, got {value!r}. The benchmark's results.json is of that form.")
