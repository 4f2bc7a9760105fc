"""The command line of the benchmark."""

import logging
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from .benchmark import SUMMARY_FILE, run_benchmark
from .config import parse_config
from .report import markdown_table, summarize


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its table.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a setting cannot be used; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    config = parse_config(arguments)
    accelerator = Accelerator()
    try:
        results = run_benchmark(config, accelerator)
    except ValueError as error:
        raise SystemExit(f"finetune.py: {error}") from error
    if accelerator.is_main_process:
        num_test = next((result["num_test"] for result in results if result["num_test"]), "the")
        start = "pretrained weights" if config.pretrained or config.checkpoint else "random weights"
        print(
            f"\n{config.model} on {config.dataset}, {config.shots}-shot, {len(config.seeds)} seeds, "
            f"{config.epochs} epochs from {start}; accuracy on all {num_test} test images\n\n"
            f"{markdown_table(summarize(results))}\n\nTrials and models: {config.output_dir}/<variant>-seed<seed>, "
            f"results: {Path(config.output_dir) / SUMMARY_FILE}"
        )
    accelerator.end_training()
