"""The command line of the Sudoku experiment."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from ...command import failures_in_one_line, imports_not_collected
from ...models.sudoku import load_sudoku
from ...trials.folder import check_results, failed_trials
from ...trials.record import TrialRecord
from ..accelerator import create_accelerator
from .ablation_report import ablate
from .config import SudokuConfig
from .experiment import Experiment
from .flags import COMMAND, SOLVE, SolveSettings, command_line, parse_arguments
from .report import read_trials, report_masks, to_markdown, write_report
from .solver import describe, read_puzzles


@failures_in_one_line(COMMAND.program, "The same command goes on from here.")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a setting cannot be used, a file cannot be read or written, a trial fails, or the user
            interrupts; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("timm_lp.experiments").setLevel(logging.INFO)
    config, action = parse_arguments(arguments)
    with imports_not_collected():
        if action == SOLVE:
            _solve(config)
            return
        if action == "report":
            _report(Path(config.output_dir))
            return
        if action == "masks":
            print(report_masks(Path(config.output_dir)))
            return
        accelerator = create_accelerator(
            mixed_precision=config.mixed_precision,
            cpu_threads=config.cpu_threads,
            tracker=config.tracker,
            output_dir=config.output_dir,
        )
        records = []
        if action == "ablate":
            _ablate(config, accelerator)
        else:
            records = _run(config, Experiment(config, accelerator))
        accelerator.end_training()
        if accelerator.is_main_process:
            check_results(failed_trials(records), f"{len(records)} trials")


def _solve(settings: SolveSettings) -> None:
    """Print what a network makes of puzzles: of one its board and the order of its cells, of several a line each."""
    puzzles = read_puzzles(settings.puzzles or ["-"])
    network = load_sudoku(settings.network) if settings.network else load_sudoku()
    solved = 0
    for puzzle in puzzles:
        solution = network.solve(puzzle)
        solved += solution.is_solved
        board = "".join(map(str, solution.board.flat))
        print(describe(solution) if len(puzzles) == 1 else f"{board} {solution.verdict}", flush=True)
    if len(puzzles) > 1:
        print(f"Solved {solved:,} of {len(puzzles):,} puzzles.")
    if solved < len(puzzles):
        sys.exit(1)


def _report(folder: Path) -> None:
    records = read_trials(folder)
    print(f"{to_markdown(records)}\n", flush=True)
    print(write_report(folder, records))


def _ablate(config: SudokuConfig, accelerator: Accelerator) -> None:
    text = ablate(config, accelerator)
    if accelerator.is_main_process:
        print(text)


def _run(config: SudokuConfig, experiment: Experiment) -> list[TrialRecord]:
    records = experiment.run()
    if not experiment.accelerator.is_main_process:
        return records
    print(f"\n{to_markdown(records)}\n", flush=True)
    page = write_report(Path(config.output_dir), records, command_line(config))
    print(f"{page}, <puzzles>/<network>/<variant>-seed<seed>")
    return records
