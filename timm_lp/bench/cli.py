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
from .flags import COMMAND
from .modes import Mode
from .report import Results, fraction, key, plot, plot_growth, to_markdown

_BATCH_SIZE = 8


@failures_in_one_line(COMMAND.program)
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or the results cannot be written; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    settings = COMMAND.parse(arguments)
    suite = (
        given_cases(settings.network, settings.batch_size or _BATCH_SIZE)
        if settings.network
        else SUITES[settings.suite or next(iter(SUITES))]
    )
    cases = [case for case in suite if settings.only in str(case)]
    if not cases:
        COMMAND.error(f"`--only` must be part of a case's name, got {settings.only!r}. Leave it out to see the names.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        COMMAND.error("`--device` must be there, got cuda, which torch does not see. Use cpu.")
    threads = settings.threads or [torch.get_num_threads()]
    modes = [
        Mode(memory_format, dtype, settings.optimizer, number, settings.device)
        for memory_format, dtype, number in product(settings.format, settings.dtype, threads)
    ]
    before = _read_results(settings.compare) if settings.compare else None
    settings.output.mkdir(parents=True, exist_ok=True)
    content = run_benchmark(
        cases, modes, runs=settings.runs, clock=settings.clock, memory=settings.memory, compiled=settings.compile
    )
    text = to_markdown(content, before)
    draw = partial(plot_growth if settings.suite == "growth" else plot, content)
    page = write_page(settings.output, "results", text, data={"results.json": content}, pictures={"results.png": draw})
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
