"""The command line of the speed benchmark."""

import argparse
import json
import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from ..command import CommandParser, failures_in_one_line
from ..files import write_json, write_text
from .benchmark import run_benchmark
from .cases import SUITES
from .measure import CLOCKS
from .modes import DTYPES, FORMATS, Mode
from .report import Results, fraction, key, plot, plot_growth, to_markdown

_logger = logging.getLogger(__name__)


@failures_in_one_line("python -m timm_lp.bench")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or the results cannot be written; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parser = _parser()
    options = parser.parse_args(arguments)
    cases = [case for case in SUITES[options.suite] if options.only in str(case)]
    if not cases:
        parser.error(f"`--only` must be part of a case's name, got {options.only!r}. Leave it out to see the names.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("`--device` must be there, got cuda, which torch does not see. Use cpu.")
    modes = [
        Mode(memory_format, dtype, options.optimizer, threads, options.device)
        for memory_format, dtype, threads in product(options.format, options.dtype, options.threads)
    ]
    before = _read_results(options.compare) if options.compare else None
    options.output.mkdir(parents=True, exist_ok=True)
    content = run_benchmark(cases, modes, runs=options.runs, clock=options.clock, memory=not options.no_memory)
    text = to_markdown(content, before)
    write_json(options.output / "results.json", content)
    write_text(options.output / "results.md", text + "\n")
    try:
        (plot_growth if options.suite == "growth" else plot)(content, options.output / "results.png")
    except ImportError:
        _logger.warning("No plot: matplotlib is not installed. `pip install matplotlib` brings it.")
    print(f"{text}\n\nresults.json, results.md, results.png: {options.output}")


def _read_results(path: Path) -> Results:
    """Return the results of another run, if they are what the tables take."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for result in content["results"]:
            _ = key(result), fraction(result, "training", "lp"), fraction(result, "evaluation", "lp")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"`--compare` must be a results.json of this benchmark, got {path}: {type(error).__name__}: {error}"
        ) from error
    return content


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m timm_lp.bench",
        description="Speed and memory of Lp-convolution beside plain PyTorch. Each case runs in each mode, the product "
        "of --format, --dtype and --threads.",
        epilog="networks: the README's table; training: whole networks at the sizes and batches of training; latency: "
        "evaluation of one image; layers: single layers; growth: one layer over the size of its kernel; grid: layers "
        "of every kind, to search for one that is slower than torch's convolution.",
    )
    parser.add_argument("suite", nargs="?", choices=SUITES, default="networks", help="what to measure, see below")
    parser.add_argument("--only", default="", help="measure the cases whose names contain this")
    parser.add_argument("--runs", type=_positive, default=7, help="measured runs of each form (default: 7)")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["NCHW"], help="NHWC is channels_last")
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, default=["float32"], help="autocast is to bfloat16 (default: float32)"
    )
    parser.add_argument("--optimizer", action="store_true", help="end training steps with AdamW")
    parser.add_argument(
        "--threads", nargs="+", type=_positive, default=[torch.get_num_threads()], help="threads on the CPU"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu, on one thread, is for busy machines (default: wall)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--no-memory", action="store_true", help="do not measure the peak memory")
    parser.add_argument("--output", type=Path, default=Path("output/bench"), help="default: output/bench")
    parser.add_argument("--compare", type=Path, help="results.json of another run, to compare with")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


_positive.__name__ = "positive number"  # what argparse calls it in its message
