"""The trials that a card shows, and what was measured in them: on which data, with which seeds."""

import re
import statistics
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from huggingface_hub import EvalResult
from timm.models import split_model_name_tag

from timm_lp.module_path import is_module_path, name_of
from timm_lp.start import Start
from timm_lp.trials.record import TrialRecord
from timm_lp.trials.summary import command_of, ended_well, summarize, summarize_trial, tested_groups
from timm_lp.variants import BASE, PAPER, REINIT, with_layers

from .templates import ModelName

# The Hub's name of a metric, and its name for people; balanced accuracy is the mean of the classes' recalls.
_METRICS = {"top1": ("accuracy", "top-1 (%)"), "mean_per_class": ("balanced_accuracy", "mean per-class accuracy (%)")}
_HUB_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Trials:
    """The trials that a card shows, as they may be published.

    Attributes:
        records: Those of the network's variant, with every seed, and others to compare with; see `tested_groups`.
        trained: The trial that trained the network; None where that is not known.
    """

    records: tuple[TrialRecord, ...] = ()
    trained: TrialRecord | None = None

    @property
    def of_variant(self) -> list[TrialRecord]:
        """The trials of the network's variant, by seed; the first ones, once `of_network` has sorted them."""
        return next(iter(tested_groups(self.records)), [])

    @property
    def seed(self) -> int | None:
        """The seed of the training that gave the weights, None where it is not known."""
        return None if self.trained is None else self.trained.seed

    @property
    def start(self) -> Start | None:
        """The weights that the training started from, None where they are not known."""
        return ended_well(self.of_variant).start if self.of_variant else None

    @property
    def command(self) -> str | None:
        """The command that repeats the training of the variant with every seed, None where there was none."""
        return command_of(self.of_variant) if self.of_variant else None

    @property
    def content(self) -> dict[str, Any]:
        """What is published as `results.json`."""
        command = self.command or ""
        if self.trained is None:
            return summarize(self.records, command)
        return summarize_trial(self.trained, self.records, command)

    @property
    def evaluations(self) -> list["Evaluation"]:
        """What was measured, of the network's variant first."""
        return [
            Evaluation(first, metric, {record.seed: (record.metrics or {}).get(metric) for record in group})
            for group in tested_groups(self.records)
            for first in [ended_well(group)]
            for metric in first.metrics or {}
        ]

    def of_network(self, name: ModelName, damped: bool, merged: bool) -> "Trials":
        """Return the trials of a network, those of its variant first.

        Args:
            name: The network's name.
            damped: Whether its masks damped the base network's kernels, as those of `-paper` variants did.
            merged: Whether its masks are folded in.

        Raises:
            ValueError: If there are trials, but none of its base network or of its variant, or if those of its variant
                are not all of one data set, or are those of two runs.
        """
        fitting = [record for record in self.records if _architecture(record.model) == name.architecture]
        variant = self._variant(name, {record.variant for record in fitting}, damped, merged)
        chosen = [record for record in fitting if record.variant == variant]
        if self.records and not fitting:
            _refuse("hold some of", name.architecture, {record.model for record in self.records})
        if fitting and not chosen:
            _refuse("hold some of", repr(variant), {record.variant for record in fitting})
        if len(trained_on := list(dict.fromkeys(_setting(record) for record in chosen))) > 1:
            raise ValueError(
                f"`results` must be those of the data that the model was trained on, got {' and '.join(trained_on)}. "
                "Give the trial's folder."
            )
        if len(folders := {record.folder for record in chosen}) < len(chosen):
            raise ValueError(f"`results` must be those of one run, got {min(folders)} of two. Give the run's folder.")
        return replace(self, records=(*chosen, *(record for record in fitting if record.variant != variant)))

    def _variant(self, name: ModelName, variants: set[str], damped: bool, merged: bool) -> str:
        """Return which variant of the benchmark a network is."""
        whole, paper, reinit = (with_layers(f"{name.variant}{form}", name.layers) for form in ("", PAPER, REINIT))
        is_folded = merged and name.variant == "large"  # merged weights may go by the large network's name
        if is_folded and len(variants - {BASE}) == 1:
            return (variants - {BASE}).pop()
        if self.trained is not None:
            trained = self.trained.variant
            if trained not in (whole, paper, reinit):
                _refuse("be those of", name.name, {repr(trained)})
            return trained
        if name.variant == "large" and {whole, reinit} <= variants:
            raise ValueError(
                f"`results` must say whether {name.name} is {whole} or {reinit}, got those of both. Give the "
                "trial's folder."
            )
        return paper if damped else whole


def _architecture(model: str) -> str:
    """Return the registered name of a record's base network, without a tag."""
    return name_of(model) if is_module_path(model) else split_model_name_tag(model)[0]


def _refuse(rule: str, wanted: str, got: set[str]) -> NoReturn:
    raise ValueError(f"`results` must {rule} {wanted}, got those of {', '.join(sorted(got))}. Give the model's own.")


@dataclass(frozen=True)
class Evaluation:
    """One metric of a variant of a network on a data set, by seed.

    Attributes:
        trial: One of its trials that did not fail.
        metric: `top1` for instance.
        by_seed: Percent by seed; None where training failed.
    """

    trial: TrialRecord
    metric: str
    by_seed: dict[int, float | None]

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
        dataset = self.trial.dataset
        return dataset.id if dataset.revision is not None and _HUB_DATASET.fullmatch(dataset.id) else None

    @property
    def setting(self) -> str:
        """How the network was trained on what, in words."""
        return _setting(self.trial)

    @property
    def label(self) -> str:
        """The metric's name for people."""
        return _METRICS.get(self.metric, ("", self.metric))[1]

    def seed_of(self, seed: int | None) -> int | None:
        """Return which of the seeds published weights are of; None where that is not known, or none of these.

        Args:
            seed: The weights' seed; None where it is not recorded, which says enough where there was one run.
        """
        only = next(iter(self.by_seed)) if len(self.by_seed) == 1 else None
        return only if seed is None else seed if seed in self.by_seed else None

    def eval_results(self, seed: int | None) -> list[EvalResult]:
        """Return the metadata of the figure of published weights, and of the seeds' mean where there are several.

        Args:
            seed: The weights' seed, as `seed_of` takes it; nothing is returned where it is not known.
        """
        key = self.seed_of(seed)
        value = None if key is None else self.by_seed[key]
        if value is None or self.mean is None:
            return []
        several = len(self.values) > 1
        return [
            self._eval_result(f"seed {key}", value),
            *([self._eval_result(self.averaged, self.mean)] if several else []),
        ]

    def _eval_result(self, of: str, value: float) -> EvalResult:
        dataset, shots = self.trial.dataset, "" if self.trial.shots is None else f"{self.trial.shots}-shot "
        return EvalResult(
            task_type="image-classification",
            task_name="Image Classification",
            dataset_type=self.hub_dataset or dataset.name,
            dataset_name=dataset.name,
            dataset_config=dataset.config,
            dataset_split=dataset.split,
            dataset_revision=dataset.revision,
            metric_type=_METRICS.get(self.metric, (self.metric, ""))[0],
            metric_name=f"{shots}{self.label}, {of}",
            metric_value=round(value, 2),
        )


def _setting(trial: TrialRecord) -> str:
    return f"{trial.dataset.name}, {'all images' if trial.shots is None else f'{trial.shots}-shot'}"
