"""Means, spreads and tests over the seeds of a benchmark."""

import statistics
from dataclasses import dataclass, field, replace
from typing import Any

from ..models.variants import BASE, variant_order
from .presets import PRESETS

Result = dict[str, Any]

_ROUNDING = 1e-9  # percent; what differs by less is equal


@dataclass(frozen=True)
class Cell:
    """The trials of one variant on one data set.

    Attributes:
        values: The metric of each seed that ended well, percent.
        failures: Why the others failed, by seed.
        parameters: Number of parameters.
        train_seconds: Mean time of a training, seconds.
        p_value: Of Welch's t-test against the base network, after Holm-Bonferroni; None where there is none.
        paired_p_value: Of the t-test that pairs the trials of a seed, which draw the same images, likewise.
    """

    values: dict[int, float]
    failures: dict[int, str] = field(default_factory=dict)
    parameters: int | None = None
    train_seconds: float | None = None
    p_value: float | None = None
    paired_p_value: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds, percent; None over no trial."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds, percent; None over less than two trials."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Table:
    """One metric of a benchmark: Table 4 of the paper with spreads.

    Attributes:
        metric: `top1` or `mean_per_class`.
        variants: The rows, in the order of the paper.
        datasets: The columns: names of the data sets by the folder of their trials.
        cells: The trials by variant and folder.
    """

    metric: str
    variants: list[str]
    datasets: dict[str, str]
    cells: dict[tuple[str, str], Cell]

    def average(self, variant: str) -> float | None:
        """Return the mean of a variant's means over all data sets, None where one is missing."""
        means = [self.mean(variant, dataset) for dataset in self.datasets]
        return None if None in means else statistics.fmean(mean for mean in means if mean is not None)

    def mean(self, variant: str, dataset: str) -> float | None:
        """Return the mean of a variant on a data set."""
        cell = self.cells.get((variant, dataset))
        return cell.mean if cell else None

    def best(self, dataset: str) -> list[str]:
        """Return the variants with the highest mean on a data set."""
        means = {variant: self.mean(variant, dataset) for variant in self.variants}
        known = [mean for mean in means.values() if mean is not None]
        return [variant for variant, mean in means.items() if mean is not None and max(known) - mean <= _ROUNDING]

    def wins(self, variant: str) -> int:
        """Return on how many data sets a variant has the highest mean."""
        return sum(variant in self.best(dataset) for dataset in self.datasets)

    def num_seeds(self) -> int:
        """Return the number of seeds over all trials."""
        return len({seed for cell in self.cells.values() for seed in [*cell.values, *cell.failures]})


def tabulate(results: list[Result], metric: str = "top1") -> Table:
    """Return the table of a benchmark's trials; those on held-out images do not count.

    Args:
        results: What the trials left in their `trial.json`.
        metric: `top1` or `mean_per_class`.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if not result["held_out"]:
            groups.setdefault((result["variant"], result["folder"].split("/")[0]), []).append(result)
    names = {place[1]: group[0]["dataset"]["name"] for place, group in groups.items()}
    folders = sorted(names, key=lambda name: (list(PRESETS).index(name) if name in PRESETS else len(PRESETS), name))
    variants = sorted({variant for variant, _ in groups}, key=variant_order)
    cells = {place: _cell(group, metric) for place, group in groups.items()}
    return Table(metric, variants, {folder: names[folder] for folder in folders}, _with_p_values(cells))


def confidence_interval(cell: Cell, level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of Student's t around a cell's mean, percent; None over less than two trials."""
    if cell.mean is None or cell.std is None:
        return None
    from scipy.stats import t

    count = len(cell.values)
    half = float(t.ppf((1 + level) / 2, count - 1)) * cell.std / count**0.5
    return cell.mean - half, cell.mean + half


def _cell(group: list[Result], metric: str) -> Cell:
    done = sorted((result for result in group if result["metrics"]), key=lambda result: result["seed"])
    return Cell(
        {result["seed"]: result["metrics"][metric] for result in done},
        {result["seed"]: result["error"] for result in group if not result["metrics"]},
        done[0]["parameters"] if done else None,
        statistics.fmean(result["train_seconds"] for result in done) if done else None,
    )


def _with_p_values(cells: dict[tuple[str, str], Cell]) -> dict[tuple[str, str], Cell]:
    """Compare every cell with the base network's on the same data set, and correct for the number of comparisons."""
    from scipy.stats import ttest_ind_from_stats, ttest_rel

    welch: dict[tuple[str, str], float] = {}
    paired: dict[tuple[str, str], float] = {}
    for (variant, dataset), cell in cells.items():
        base = cells.get((BASE, dataset))
        if variant == BASE or base is None:
            continue
        if base.std is not None and cell.std is not None and base.std + cell.std > _ROUNDING:
            both = (cell.mean, cell.std, len(cell.values)), (base.mean, base.std, len(base.values))
            welch[variant, dataset] = float(ttest_ind_from_stats(*both[0], *both[1], equal_var=False).pvalue)
        seeds = sorted(cell.values.keys() & base.values.keys())
        if _differ([cell.values[seed] - base.values[seed] for seed in seeds]):
            pairs = [cell.values[seed] for seed in seeds], [base.values[seed] for seed in seeds]
            paired[variant, dataset] = float(ttest_rel(*pairs).pvalue)
    welch, paired = _corrected(welch), _corrected(paired)
    return {
        place: replace(cell, p_value=welch.get(place), paired_p_value=paired.get(place))
        for place, cell in cells.items()
    }


def _differ(differences: list[float]) -> bool:
    """Tell whether there is a spread that is not rounding's; without one there is no t."""
    return len(differences) > 1 and max(differences) - min(differences) > _ROUNDING


def _corrected(p_values: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, corrected), strict=True))
