"""The command line of the speed benchmark."""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch

from ..command import failures_in_one_line
from ..files import parse_json
from ..reporting import write_page
from .benchmark import run_benchmark
from .cases import SUITES, given_cases
from .flags import create_parser, parse_arguments
from .modes import Mode
from .report import Results, fraction, key, plot, plot_growth, to_markdown


@failures_in_one_line("python -m timm_lp.bench")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or the results cannot be written; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    options = parse_arguments(arguments)
    suite = given_cases(options.network) if options.network else SUITES[options.suite]
    cases = [case for case in suite if options.only in str(case)]
    if not cases:
        create_parser().error(
            f"`--only` must be part of a case's name, got {options.only!r}. Leave it out to see the names."
        )
    if options.device == "cuda" and not torch.cuda.is_available():
        create_parser().error("`--device` must be there, got cuda, which torch does not see. Use cpu.")
    threads = options.threads or [torch.get_num_threads()]
    modes = [
        Mode(memory_format, dtype, options.optimizer, number, options.device)
        for memory_format, dtype, number in product(options.format, options.dtype, threads)
    ]
    before = _read_results(options.compare) if options.compare else None
    options.output.mkdir(parents=True, exist_ok=True)
    content = run_benchmark(cases, modes, runs=options.runs, clock=options.clock, memory=not options.no_memory)
    text = to_markdown(content, before)
    is_growth = options.suite == "growth" and not options.network
    draw = partial(plot_growth if is_growth else plot, content)
    page = write_page(options.output, "results", text, data={"results.json": content}, pictures={"results.png": draw})
    print(f"{text}\n\n{page}")


def _read_results(path: Path) -> Results:
    """Return the results of another run, if they are what the tables take."""
    try:
        content = parse_json(path.read_bytes())
        for result in content["results"]:
            _ = key(result), fraction(result, "training", "lp"), fraction(result, "evaluation", "lp")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"`--compare` must be a results.json of this benchmark, got {path}: {type(error).__name__}: {error}"
        ) from error
    return content
