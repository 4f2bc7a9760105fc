"""The command line of the speed benchmark."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ..command import CommandParser, failures_in_one_line
from ..files import write_json
from .benchmark import run_benchmark
from .cases import LAYERS, NETWORKS, Layer, Network
from .report import Results, fraction, plot, to_markdown

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
    cases: list[Network | Layer] = [*([] if options.layers else NETWORKS), *(LAYERS if options.layers else ())]
    cases = [case for case in cases if options.only in str(case)]
    if not cases:
        parser.error(f"`--only` must be part of a case's name, got {options.only!r}. Leave it out to see the names.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("`--device` must be there, got cuda, which torch does not see. Use cpu.")
    before = _read_results(options.compare) if options.compare else None
    options.output.mkdir(parents=True, exist_ok=True)
    content = run_benchmark(
        cases, runs=options.runs, device=options.device, threads=options.threads, memory=not options.no_memory
    )
    text = to_markdown(content, before)
    write_json(options.output / "results.json", content)
    (options.output / "results.md").write_text(text + "\n", encoding="utf-8")
    try:
        plot(content, options.output / "results.png")
    except ImportError:
        _logger.warning("No plot: matplotlib is not installed. `pip install matplotlib` brings it.")
    print(f"{text}\n\nresults.json, results.md, results.png: {options.output}")


def _read_results(path: Path) -> Results:
    """Return the results of another run, if they are what the tables take."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for result in content["results"]:
            _ = result["name"], fraction(result, "training", "lp"), fraction(result, "evaluation", "lp")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"`--compare` must be a results.json of this benchmark, got {path}: {type(error).__name__}: {error}"
        ) from error
    return content


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m timm_lp.bench", description="Speed and memory of Lp-convolution beside plain PyTorch."
    )
    parser.add_argument("--layers", action="store_true", help="measure single layers, not networks")
    parser.add_argument("--only", default="", help="measure the cases whose names contain this")
    parser.add_argument("--runs", type=_positive, default=7, help="measured runs of each form (default: 7)")
    parser.add_argument("--threads", type=_positive, default=torch.get_num_threads(), help="threads on the CPU")
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
