"""The command line of the Sudoku experiment."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ...command import failures_in_one_line
from ..accelerator import create_accelerator
from .ablation_run import ablate
from .config import SudokuConfig
from .experiment import Experiment
from .flags import COMMAND, command_line, parse_arguments
from .report import read_trials, to_markdown, write_report


@failures_in_one_line(COMMAND, "The same command goes on from here.")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a setting cannot be used, a file cannot be read or written, or the user interrupts; the message
            says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("timm_lp.experiments").setLevel(logging.INFO)
    config, action = parse_arguments(arguments)
    output_dir = Path(config.output_dir)
    if action == "report":
        records = read_trials(output_dir)
        print(to_markdown(records), flush=True)
        write_report(output_dir, records)
        return
    accelerator = create_accelerator(mixed_precision=config.mixed_precision, cpu_threads=config.cpu_threads)
    if action == "ablate":
        text = ablate(config, accelerator)
        if accelerator.is_main_process:
            print(f"{text}\nTables and picture: {output_dir}/ablation.md, .csv, .json, .png")
    else:
        _run(config, Experiment(config, accelerator))
    accelerator.end_training()


def _run(config: SudokuConfig, experiment: Experiment) -> None:
    records = experiment.run()
    if not experiment.accelerator.is_main_process:
        return
    folder = config.output_dir
    print(f"\n{to_markdown(records)}", flush=True)
    write_report(Path(folder), records, command_line(config))
    print(
        f"\nTrials and networks: {folder}/<puzzles>/<network>/<variant>-seed<seed>; this report: {folder}/report.md, "
        f".csv; every epoch: {folder}/curves.png, .csv; results: {folder}/results.json"
    )
