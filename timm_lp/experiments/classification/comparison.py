"""The benchmark from Python: the command's run, and its table as an object."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from ...command import imports_not_collected
from ...markup import to_html, to_latex
from ...trials.plots import table_figure
from ...trials.record import TrialRecord
from ...trials.statistics import Table
from ...trials.summary import mean_seconds
from .. import accelerator as launched
from .benchmark import Benchmark
from .config import FinetuneConfig
from .flags import COMMAND
from .report import TOP1, accuracies, column_of, to_markdown, write_report
from .results import write_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Comparison:
    """Networks that were trained and compared; a notebook shows the tables of the report.

    Attributes:
        records: The trials, those that failed too.
        output_dir: Where these and the report lie.
    """

    records: Sequence[TrialRecord]
    output_dir: Path

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each variant of each network on each data set: its accuracies (percent), their tests, its cost.

        `minus_base` is in points, and `p_value` (Welch's t-test) and `paired_p_value` (paired by seed) are corrected
        by Holm-Bonferroni; what there is none of is None.
        """
        top1, per_class = accuracies(self.records), accuracies(self.records, "mean_per_class")
        cells = [(row, column) for column in top1.columns for row in top1.rows if (row, column) in top1.cells]
        return [self._row(top1, per_class, row, column) for row, column in cells]

    def _row(self, top1: Table, per_class: Table, variant: str, column: str) -> dict[str, Any]:
        cell = top1.cells[variant, column]
        group = [record for record in self.records if not record.held_out and column_of(record) == column]
        done = [record for record in group if record.variant == variant and record.metrics]
        base = top1.mean(top1.baseline, column)
        has_difference = variant != top1.baseline and cell.mean is not None and base is not None
        return {
            "dataset": group[0].dataset.name,
            "model": group[0].model,
            "variant": variant,
            "seeds": len(cell.values),
            "failed": len(cell.failures),
            "top1": cell.mean,
            "top1_std": cell.std,
            "mean_per_class": per_class.mean(variant, column),
            "minus_base": (cell.mean or 0.0) - (base or 0.0) if has_difference else None,
            "p_value": cell.p_value,
            "paired_p_value": cell.paired_p_value,
            "parameters": done[0].parameters if done else None,
            "macs": done[0].macs if done else None,
            "train_seconds": mean_seconds(done),
        }

    def to_pandas(self) -> "DataFrame":
        """Return the table as pandas has it.

        Raises:
            ImportError: If pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self.table)

    def to_markdown(self) -> str:
        """Return the tables of the report: both accuracies, the tests against base, the costs, and what failed."""
        return to_markdown(self.records)

    def to_latex(self) -> str:
        """Return the tables of the report for a paper."""
        return to_latex(self.to_markdown())

    def plot(self) -> "Figure":
        """Return the picture of the report: each seed, the mean and its 95 % interval.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        return table_figure(accuracies(self.records), TOP1)

    def _repr_html_(self) -> str:
        return to_html(self.to_markdown())

    def __repr__(self) -> str:
        return self.to_markdown()


def compare(config: str | Path | None = None, **settings: Any) -> Comparison:
    """Run the benchmark as `timm-lp finetune` does, write its report, and return its results.

    Trials that are finished are taken over, and one that was broken off goes on. A trial that fails is in the results,
    and a warning says so. `accelerate launch` and `torchrun` share the work among the processes that call this.

    Args:
        config: A recipe, as `--config` takes it; if neither it nor a model or data set is given, the embedded digits'.
        **settings: The settings of `FinetuneConfig`, which win over the recipe.

    Raises:
        ValueError: If settings cannot be used, or the output folder holds other trials.
        OSError: If weights cannot be had, or the report cannot be written.
    """
    chosen, _ = COMMAND.read({"config": config, **settings})
    if chosen.push_to_hub:
        raise ValueError(
            f"`push_to_hub` must be left to the command, got {chosen.push_to_hub!r}. Call hub_export.push with a "
            "trial's folder."
        )
    output_dir = Path(chosen.output_dir)
    with launched.own_accelerator(), imports_not_collected():
        accelerator = create_accelerator(chosen)
        records = Benchmark(chosen, accelerator).run()
        if accelerator.is_main_process:
            write_report(output_dir, records)
            write_results(output_dir, records, chosen)
    return Comparison(records, output_dir)


def create_accelerator(config: FinetuneConfig) -> Accelerator:
    """Return what distributes the work: `batch_size` images over all processes, in the format that is asked for.

    Raises:
        ValueError: If the tracker is not installed, the device has no such number format, or the launcher accumulates
            gradients.
    """
    return launched.create_accelerator(
        mixed_precision=config.mixed_precision,
        cpu_threads=config.cpu_threads,
        tracker=config.tracker,
        output_dir=config.output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
