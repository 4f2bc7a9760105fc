"""What was measured of a network: on which data, with which seeds."""

import re
import statistics
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

# The Hub's name of a metric, and its name for people; balanced accuracy is the mean of the classes' recalls.
_METRICS = {"top1": ("accuracy", "top-1 (%)"), "mean_per_class": ("balanced_accuracy", "mean per-class accuracy (%)")}
_HUB_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Evaluation:
    """One metric on one data set, by seed.

    Attributes:
        dataset: `id`, `name`, and where known `revision`, `split`, `config`.
        model: The base network, with or without a tag; None where the results name none.
        shots: Training images of each class, None for all.
        variant: Of the network, None where the results name none.
        num_test: Test images.
        lr: The learning rate, None where the results name none.
        metric: `top1` for instance.
        by_seed: Percent by seed; None where training failed.
    """

    dataset: dict[str, Any]
    model: str | None
    shots: int | None
    variant: str | None
    num_test: int | None
    lr: float | None
    metric: str
    by_seed: dict[str, float | None]

    @property
    def values(self) -> list[float]:
        """The seeds' values, percent, without those that failed."""
        return [value for value in self.by_seed.values() if value is not None]

    @property
    def averaged(self) -> str:
        """What the mean is taken over, in words."""
        count, failed = len(self.values), len(self.by_seed) - len(self.values)
        seeds = "one seed" if count == 1 else f"mean of {count} seeds"
        return f"{seeds}, {failed} more failed" if failed else seeds

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
        """The data set's id on the Hub; None for one that is not pinned to a commit there, which may be a folder."""
        pinned = self.dataset.get("revision") is not None and _HUB_DATASET.fullmatch(self.dataset["id"] or "")
        return self.dataset["id"] if pinned else None

    @property
    def setting(self) -> str:
        """How the network was trained on what, in words."""
        return f"{self.dataset['name']}, {'all images' if self.shots is None else f'{self.shots}-shot'}"

    @property
    def label(self) -> str:
        """The metric's name for people."""
        return _METRICS.get(self.metric, ("", self.metric))[1]

    def seed_of(self, seed: int | None) -> str | None:
        """Return which of the seeds published weights are of; None where that is not known, or none of these.

        Args:
            seed: The weights' seed; None where it is not recorded, which says enough where there was one run.
        """
        key = str(seed) if seed is not None else next(iter(self.by_seed))
        return key if key in self.by_seed and (seed is not None or len(self.by_seed) == 1) else None

    def eval_result(self, seed: int | None) -> EvalResult | None:
        """Return the metadata of the figure of published weights, None where it is not known.

        Args:
            seed: The weights' seed, as `seed_of` takes it.
        """
        key = self.seed_of(seed)
        value = None if key is None else self.by_seed[key]
        if value is None:
            return None
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
            metric_name=f"{shots}{self.label}, seed {key}",
            metric_value=round(value, 2),
        )
