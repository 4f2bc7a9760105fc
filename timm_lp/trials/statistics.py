"""Means, spreads and tests over the seeds of trials, in a table of which the caller says the rows and the columns."""

import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..command import imports_not_collected

_Key = TypeVar("_Key", bound=Hashable)

_ROUNDING = 1e-9  # of a metric; what differs by less is equal


@dataclass(frozen=True)
class Measurement:
    """What one seed contributes to a cell.

    Attributes:
        row: The row, a variant for instance.
        column: Key of the column, a data set for instance.
        seed: The seed.
        value: The metric; None where the trial failed.
        error: Why it failed.
    """

    row: str
    column: str
    seed: int
    value: float | None
    error: str | None = None


@dataclass(frozen=True)
class Cell:
    """The trials of one row in one column.

    Attributes:
        values: The metric of each seed that ended well.
        failures: Why the others failed, by seed.
        p_value: Of Welch's t-test against the baseline in the same column, after Holm-Bonferroni; None where there is
            none.
        paired_p_value: Of the t-test that pairs the trials of a seed, which see the same data, likewise.
    """

    values: dict[int, float]
    failures: dict[int, str] = field(default_factory=dict)
    p_value: float | None = None
    paired_p_value: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None over no trial."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None over less than two trials."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Table:
    """One metric of many trials, as Table 4 of the paper with spreads.

    Attributes:
        rows: The rows, in order.
        columns: The columns' titles by their keys, in order.
        cells: The trials by row and column's key.
        baseline: The row that the others are compared with.
    """

    rows: list[str]
    columns: dict[str, str]
    cells: dict[tuple[str, str], Cell]
    baseline: str

    def average(self, row: str) -> float | None:
        """Return the mean of a row's means over all columns, None where one is missing."""
        means = [self.mean(row, column) for column in self.columns]
        return None if None in means else statistics.fmean(mean for mean in means if mean is not None)

    def mean(self, row: str, column: str) -> float | None:
        """Return the mean of a row in a column."""
        cell = self.cells.get((row, column))
        return cell.mean if cell else None

    def best(self, column: str) -> list[str]:
        """Return the rows with the highest mean in a column."""
        means = {row: mean for row in self.rows if (mean := self.mean(row, column)) is not None}
        return [row for row, mean in means.items() if max(means.values()) - mean <= _ROUNDING]

    def wins(self, row: str) -> int:
        """Return in how many columns a row has the highest mean."""
        return sum(row in self.best(column) for column in self.columns)

    def num_seeds(self) -> int:
        """Return the number of seeds over all trials."""
        return len({seed for cell in self.cells.values() for seed in [*cell.values, *cell.failures]})

    def part(self, columns: Mapping[str, str]) -> "Table":
        """Return the table of some columns; their p-values stay corrected for all comparisons.

        Args:
            columns: The columns' titles by their keys, in order.
        """
        cells = {key: cell for key, cell in self.cells.items() if key[1] in columns}
        rows = [row for row in self.rows if any(row == key[0] for key in cells)]
        return replace(self, rows=rows, columns=dict(columns), cells=cells)


def tabulate(
    measurements: Iterable[Measurement], rows: Sequence[str], columns: Mapping[str, str], baseline: str
) -> Table:
    """Return a table with tests of every row against the baseline, corrected for all comparisons in it.

    Args:
        measurements: What the seeds contribute.
        rows: The rows, in order; those without measurements are left out.
        columns: The columns' titles by their keys, in order.
        baseline: The row that the others are compared with.
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in sorted(measurements, key=lambda measurement: measurement.seed):
        groups.setdefault((measurement.row, measurement.column), []).append(measurement)
    cells = {(row, column): _cell(groups[row, column]) for row in rows for column in columns if (row, column) in groups}
    filled = [row for row in rows if any(row == key[0] for key in cells)]
    return Table(filled, dict(columns), _with_p_values(cells, baseline), baseline)


def confidence_interval(cell: Cell, level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of Student's t around a cell's mean; None over less than two trials."""
    if cell.mean is None or cell.std is None:
        return None
    from scipy.stats import t

    count = len(cell.values)
    half = float(t.ppf((1 + level) / 2, count - 1)) * cell.std / count**0.5
    return cell.mean - half, cell.mean + half


def holm(p_values: Mapping[_Key, float]) -> dict[_Key, float]:
    """Return p-values corrected for their number by Holm-Bonferroni.

    Args:
        p_values: The p-values by what they compare.
    """
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    with imports_not_collected():  # statsmodels collects garbage each time
        corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, corrected), strict=True))


def _cell(group: list[Measurement]) -> Cell:
    values = {one.seed: one.value for one in group if one.value is not None}
    return Cell(values, {one.seed: one.error or "unknown" for one in group if one.value is None})


def _with_p_values(cells: dict[tuple[str, str], Cell], baseline: str) -> dict[tuple[str, str], Cell]:
    """Compare every cell with the baseline's in the same column, and correct for the number of comparisons."""
    from scipy.stats import ttest_ind_from_stats, ttest_rel

    welch: dict[tuple[str, str], float] = {}
    paired: dict[tuple[str, str], float] = {}
    for (row, column), cell in cells.items():
        base = cells.get((baseline, column))
        if row == baseline or base is None:
            continue
        if base.std is not None and cell.std is not None and base.std + cell.std > _ROUNDING:
            both = (cell.mean, cell.std, len(cell.values)), (base.mean, base.std, len(base.values))
            welch[row, column] = float(ttest_ind_from_stats(*both[0], *both[1], equal_var=False).pvalue)
        seeds = sorted(cell.values.keys() & base.values.keys())
        if _differ([cell.values[seed] - base.values[seed] for seed in seeds]):
            pairs = [cell.values[seed] for seed in seeds], [base.values[seed] for seed in seeds]
            paired[row, column] = float(ttest_rel(*pairs).pvalue)
    welch, paired = holm(welch), holm(paired)
    return {
        key: replace(cell, p_value=welch.get(key), paired_p_value=paired.get(key))
        for key, cell in cells.items()
    }


def _differ(differences: list[float]) -> bool:
    """Tell whether there is a spread that is not rounding's; without one there is no t."""
    return len(differences) > 1 and max(differences) - min(differences) > _ROUNDING
