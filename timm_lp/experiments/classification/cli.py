"""The command line of the benchmark."""

import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from ...command import failures_in_one_line, imports_not_collected
from ...reporting import NOTHING, markdown_rows
from ...trials.folder import check_results, failed_trials
from ...trials.record import TrialRecord, UnreadableDataError
from ...trials.summary import RESULTS_FILE
from .benchmark import Benchmark
from .comparison import create_accelerator
from .config import FinetuneConfig
from .flags import COMMAND
from .report import read_trials, to_markdown, write_report
from .results import write_results
from .speed import measure_speed


@failures_in_one_line(COMMAND.program, "The same command goes on from here.")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a setting cannot be used, a trial fails, a report cannot be written, the push fails or the user
            interrupts; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("timm_lp.experiments").setLevel(logging.INFO)
    config, action = COMMAND.parse_with_action(arguments)
    if action == "report":
        records = read_trials(Path(config.output_dir))
        print(_report(Path(config.output_dir), records))
        if config.push_to_hub:
            _push(Path(config.output_dir), records, config.push_to_hub)
        return
    accelerator = create_accelerator(config)
    if action == "measure":
        _measure(config, accelerator)
        accelerator.end_training()
        return
    benchmark = Benchmark(config, accelerator)
    with imports_not_collected():
        _run(benchmark)
    accelerator.end_training()
    if accelerator.is_main_process:
        check_results(failed_trials(benchmark.records), f"{len(benchmark.records)} trials")


def _run(benchmark: Benchmark) -> None:
    config, accelerator = benchmark.config, benchmark.accelerator
    records = benchmark.run()
    if not accelerator.is_main_process:
        return
    output_dir = Path(config.output_dir)
    print()
    page = _report(output_dir, records)
    write_results(output_dir, records, config)
    if config.push_to_hub:
        _push(output_dir, records, config.push_to_hub)
    print(f"{page}, {RESULTS_FILE}, <data set>/<model>/<variant>-seed<seed>")


def _report(output_dir: Path, records: list[TrialRecord]) -> str:
    """Print the report before it is written, so that a full disk does not keep it back; return where it lies."""
    print(f"{to_markdown(records)}\n", flush=True)
    return write_report(output_dir, records)


def _push(output_dir: Path, records: list[TrialRecord], repo: str) -> None:
    """Hand the best trial's folder to `hub_export`, in a process of its own."""
    tested = [(record.metrics["top1"], record) for record in records if record.metrics and not record.held_out]
    if not tested:
        raise ValueError(f"`push_to_hub` must have a trial that ended well, got none for {repo!r}.")
    top1, best = max(tested, key=lambda pair: pair[0])
    folder = output_dir / best.folder
    print(f"Pushing {folder} (top-1 {top1:.2f} %, the highest of {len(tested)} trials) to {repo}")
    command = [sys.executable, "-m", "hub_export", "push", str(folder), repo]
    if subprocess.run(command, check=False).returncode:
        again = shlex.join(["timm-lp", "hub", "push", str(folder), repo])
        raise SystemExit(f"{COMMAND.program}: the push failed; the trials are kept. Try again with: {again}")


def _measure(config: FinetuneConfig, accelerator: Accelerator) -> None:
    try:
        rows = measure_speed(config, accelerator)
    except UnreadableDataError as error:
        raise ValueError(f"`dataset` must have images that can be read, got {config.dataset[0]}: {error}") from error
    if accelerator.is_main_process:
        several = len(config.model) > 1
        columns = ("first", "loading", "timm", "training", "both")
        header = ("images per second", "first loading", "later", "timm's loader", "training", "both")
        lines = [
            [
                f"{row['model']}, {row['variant']}" if several else row["variant"],
                *(f"{row[key]:,.{0 if row[key] > 100 else 2}f}" if row[key] else NOTHING for key in columns),
            ]
            for row in rows
        ]
        print(markdown_rows(header, lines))
