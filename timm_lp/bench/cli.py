"""The command line of the speed benchmark."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ..files import write_json
from .benchmark import run_benchmark
from .cases import LAYERS, NETWORKS, Layer, Network
from .report import plot, to_markdown

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used; the message says which.
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
    before = None
    if options.compare:
        try:
            before = json.loads(options.compare.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"`--compare` must be a results.json of this benchmark, got {options.compare}: {error}")
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
