"""What the accuracies say: means over corruptions, corruption errors, and wins as in Table 2 of the paper."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ...trials.statistics import Measurement, Table, tabulate
from ...variants import BASE, variant_order
from ..data.corruptions import CLEAN
from ..data.corruptions.functions import CORRUPTIONS, is_common
from .measure import Result
from .networks import Candidate

SIGNIFICANT = 0.05

MEAN_COMMON, MEAN_ALL, MCE, MCE_RELATIVE = "mean_common", "mean_all", "mce", "mce_relative"
SUMMARIES = (CLEAN, MEAN_COMMON, MEAN_ALL, MCE, MCE_RELATIVE)


@dataclass(frozen=True)
class Wins:
    """On how many corruptions a variant is best.

    Attributes:
        count: The number; corruptions on which several are best are shared among them.
        welch: On how many of these it is above base beyond doubt: p of Welch's t-test, after Holm, is below 0.05.
        paired: Likewise of the test that pairs seeds.
    """

    count: float
    welch: int
    paired: int


class Scores:
    """The accuracies of all networks, in tables.

    Args:
        results: The accuracies.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        subjects = list({id(result.subject): result.subject for result in results}.values())
        # Networks without a record have a number each that pairs them with no other.
        self._seeds = {
            subject: number if subject.seed is None else subject.seed
            for number, subject in zip(range(-len(subjects), 0), subjects, strict=True)
        }
        self.results = list(results)
        self.models = list(dict.fromkeys(subject.model for subject in subjects))
        self.variants = sorted({subject.variant for subject in subjects}, key=variant_order)
        named = {result.corruption for result in results}
        self.corruptions = [name for name in CORRUPTIONS if name in named]
        self.common = [name for name in self.corruptions if is_common(name)]
        self.severities = sorted({result.severity for result in results if result.corruption != CLEAN})
        # The tests of a table take a second, and a report asks for each several times.
        self._by_corruption: dict[int | None, Table] = {}
        self._summaries: dict[str, Table] = {}
        self._of = {(result.subject, result.corruption, result.severity): result for result in results}

    @property
    def subjects(self) -> list[Candidate]:
        """The networks."""
        return list(self._seeds)

    def by_corruption(self, severity: int | None = None) -> Table:
        """Return the accuracy of variants on corruptions of each base network, all tests corrected together.

        Args:
            severity: The severity; None for the mean over all.

        Returns:
            A table with columns `model/corruption`.
        """
        if severity in self._by_corruption:
            return self._by_corruption[severity]
        severities = self.severities if severity is None else [severity]
        columns = {column(model, name): name for model in self.models for name in self.corruptions}
        self._by_corruption[severity] = self._tabulate(
            columns,
            (
                (subject, column(subject.model, name), self._mean(subject, [name], severities))
                for subject in self.subjects
                for name in self.corruptions
            ),
        )
        return self._by_corruption[severity]

    def summary(self, score: str) -> Table:
        """Return a score of variants of each base network.

        Args:
            score: `"clean"` accuracy; `"mean_common"` or `"mean_all"`, the mean accuracy over the common or over all
                corruptions, and over severities; `"mce"` or `"mce_relative"`, see `mean_corruption_error`.

        Returns:
            A table with a column for each base network.
        """
        if score not in self._summaries:
            columns = {model: model for model in self.models}
            values = ((subject, subject.model, self._summary(subject, score)) for subject in self.subjects)
            self._summaries[score] = self._tabulate(columns, values)
        return self._summaries[score]

    def wins(self, table: Table, model: str) -> dict[str, Wins]:
        """Return on how many corruptions each variant of a base network is best.

        Args:
            table: Accuracies by corruption.
            model: The base network.
        """
        wins = {}
        for row in table.rows:
            count, welch, paired = 0.0, 0, 0
            for name in self.corruptions:
                best = table.best(key := column(model, name))
                if row not in best:
                    continue
                count += 1 / len(best)
                cell, base = table.cells[row, key], table.mean(BASE, key)
                above = base is not None and cell.mean is not None and cell.mean > base
                welch += above and cell.p_value is not None and cell.p_value < SIGNIFICANT
                paired += above and cell.paired_p_value is not None and cell.paired_p_value < SIGNIFICANT
            wins[row] = Wins(count, welch, paired)
        return wins

    def _tabulate(self, columns: dict[str, str], values: Iterable[tuple[Candidate, str, float | None]]) -> Table:
        measurements = [
            Measurement(subject.variant, key, self._seeds[subject], value, "not measured")
            for subject, key, value in values
        ]
        return tabulate(measurements, self.variants, columns, BASE)

    def _mean(self, subject: Candidate, names: Sequence[str], severities: Sequence[int]) -> float | None:
        values = [self._of[subject, name, severity].top1 for name in names for severity in severities]
        measured = [value for value in values if value is not None]
        return fmean(measured) if measured and len(measured) == len(values) else None

    def _summary(self, subject: Candidate, score: str) -> float | None:
        if score == CLEAN:
            measured = self._of.get((subject, CLEAN, 0))
            return subject.clean if measured is None else measured.top1
        if score == MEAN_COMMON:
            return self._mean(subject, self.common, self.severities)
        if score == MEAN_ALL:
            return self._mean(subject, self.corruptions, self.severities)
        if score == MCE:
            return mean_corruption_error(self._errors(subject))
        of_base = [one for one in self.subjects if (one.model, one.variant) == (subject.model, BASE)]
        return mean_corruption_error(self._errors(subject), self._mean_errors(of_base))

    def _errors(self, subject: Candidate) -> dict[str, list[float | None]]:
        tops = {name: [self._of[subject, name, step].top1 for step in self.severities] for name in self.common}
        return {name: [None if top is None else 100 - top for top in values] for name, values in tops.items()}

    def _mean_errors(self, subjects: Sequence[Candidate]) -> dict[str, list[float | None]]:
        """Return the errors by corruption and severity, averaged over networks; those that failed leave gaps."""
        errors = [self._errors(subject) for subject in subjects]
        return {
            name: [_mean_or_none([one[name][step] for one in errors]) for step in range(len(self.severities))]
            for name in self.common
        }


def column(model: str, corruption: str) -> str:
    """Return the key of a corruption's column."""
    return f"{model}/{corruption}"


def mean_corruption_error(
    errors: dict[str, list[float | None]], of_base: dict[str, list[float | None]] | None = None
) -> float | None:
    """Return the mean corruption error (mCE) over the common corruptions, percent.

    With `E[c, s]` the top-1 error on corruption c at severity s, of S severities and C corruptions:

        plain:             1 / C * sum over c of (1 / S * sum over s of E[c, s])
        relative to base:  100 / C * sum over c of (sum over s of E[c, s] / sum over s of E_base[c, s])

    The errors of the base network of the same table, averaged over its seeds, stand where Hendrycks and Dietterich have
    AlexNet's on ImageNet-C; for CIFAR-10-C and CIFAR-100-C they name no reference, and give the plain one.

    Args:
        errors: `E` by corruption, a value for each severity, percent; None where it could not be measured.
        of_base: `E_base` likewise; if not given, the plain one is returned.

    Returns:
        The error; None where a value is missing, or base makes no error at all on a corruption.
    """
    sums = {name: _sum_or_none(values) for name, values in errors.items()}
    if of_base is None:
        parts = [None if total is None else total / len(errors[name]) for name, total in sums.items()]
    else:
        base = {name: _sum_or_none(values) for name, values in of_base.items()}
        parts = [
            100 * total / divisor if total is not None and (divisor := base[name]) else None
            for name, total in sums.items()
        ]
    return _mean_or_none(parts) if None not in parts else None


def _sum_or_none(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) if len(measured) == len(values) else None


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None
