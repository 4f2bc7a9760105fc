"""The command line of the comparisons with the brain."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...command import failures_in_one_line, require_packages
from ...files import write_text
from ...reporting import where_results_lie, write_page
from ...trials.folder import check_results, failed_trials
from ...trials.record import TrialRecord
from .alignment import sample_images
from .analysis import Analysis, analyse, result_rows
from .flags import COMMANDS, Mmv1Settings, PrepareSettings, RsaSettings, parse_arguments
from .networks import networks_of
from .plot import plot_best, plot_layers
from .recordings import Selection
from .report import difference_rows, to_csv, to_markdown, to_table
from .responses import Responses, read_responses, write_responses
from .stimuli import read_images
from .synthetic import synthetic_cortex

_UNTRAINED = ("alexnet", "resnet18", "lp2_resnet18")  # what runs without a network connection
_SYNTHETIC_SIZE = 64  # of the networks' input, pixels, as in the paper

_TRAINING = ("frames", "epochs", "batch_size", "lr")  # settings of `mmv1` on the command line
_SYNTHETIC_MICE = 2

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, and print its tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used or the results cannot be written; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    name, options = parse_arguments(arguments)
    with failures_in_one_line(COMMANDS[name].program):
        _RUN[name](options)


def _rsa(options: RsaSettings) -> None:
    if options.device == "cuda" and not torch.cuda.is_available():
        COMMANDS["rsa"].error("`--device` must be there, got cuda, which torch does not see. Use cpu.")
    cortex = None if options.responses else synthetic_cortex(options.seed)
    responses = cortex.responses if cortex else read_responses(options.responses)  # type: ignore[arg-type] # one of both
    responses = _with_areas(responses, options.areas)
    if options.images:
        images = read_images(options.images, responses.num_images, responses.image_id)
        responses = replace(responses, images=images)
    untrained = options.untrained if options.models or options.untrained else _UNTRAINED
    networks = networks_of(options.models, untrained, options.seeds)
    samples = sample_images(
        responses.num_images,
        resamples=options.resamples,
        splits=options.splits,
        permutations=options.permutations,
        seed=options.seed,
    )
    analysis = analyse(
        responses,
        networks,
        samples,
        layers=options.layers,
        image_size=options.image_size or (_SYNTHETIC_SIZE if cortex else None),
        device=options.device,
        cortex=cortex,
    )
    _save(analysis, options.output_dir)


def _prepare(options: PrepareSettings) -> None:
    require_packages(COMMANDS["prepare"].program, "brain", ["h5py"])
    from .prepare import prepare

    least, greatest = options.depth
    selection = Selection(options.areas, (least, greatest), options.cre)
    prepared = prepare(options.nwb, options.events, selection, window=options.window, image_side=options.image_side)
    path = options.output_dir / "responses.npz"
    write_responses(path, prepared.responses)
    text = to_table(prepared.responses, prepared.recordings, prepared.left_out)
    write_text(options.output_dir / "responses.md", text + "\n")
    print(f"{text}\n\n{where_results_lie(options.output_dir, 'responses.npz', 'responses.md')}")


def _mmv1(options: Mmv1Settings) -> None:
    require_packages(COMMANDS["mmv1"].program, "brain", ["accelerate"])
    from ..accelerator import create_accelerator
    from .mmv1.benchmark import run_benchmark
    from .mmv1.data import check_files, read_mouse
    from .mmv1.network import BEHAVIOUR, check_variant
    from .mmv1.synthetic import SETTINGS, synthetic_mouse
    from .mmv1.training import Settings

    for variant in options.variants:
        check_variant(variant)
    given = {name: getattr(options, name) for name in _TRAINING if getattr(options, name) is not None}
    settings = replace(SETTINGS if options.synthetic else Settings(), **given)
    if options.data is None:
        mice, source = map(synthetic_mouse, range(_SYNTHETIC_MICE)), "made up by timm-lp"
    else:
        folders = _folders(options.data, options.mice)
        for folder in folders:
            check_files(folder)
        mice, source = map(read_mouse, folders), "Xu et al. (2024), OSF MSP3A"
    accelerator = create_accelerator(mixed_precision=None, cpu_threads=None)
    variants = list(dict.fromkeys([BEHAVIOUR, *options.variants]))
    data = ["--synthetic"] if options.synthetic else ["--data", str(options.data)]
    records = run_benchmark(
        mice,
        variants,
        options.seeds,
        settings,
        accelerator,
        options.output_dir,
        synthetic=options.synthetic,
        command=shlex.join([*COMMANDS["mmv1"].program.split(), *data]),
    )
    if accelerator.is_main_process:
        _save_predictions(records, source, options.output_dir)
    accelerator.end_training()
    if accelerator.is_main_process:
        check_results(failed_trials(records), f"{len(records)} trials")


def _folders(data: Path, mice: Sequence[str]) -> list[Path]:
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    unknown = [name for name in mice if name not in {folder.name for folder in folders}]
    if unknown or not folders:
        raise ValueError(
            f"`--data` must hold a folder for each mouse, got {data} without {', '.join(unknown) or 'any'}. "
            "Unpack the published archive there."
        )
    return [folder for folder in folders if not mice or folder.name in mice]


def _save_predictions(records: Sequence[TrialRecord], source: str, folder: Path) -> None:
    """Write the results of all mice, and print the table."""
    from .mmv1 import report

    rows = report.result_rows(records, source)
    _write(report.to_markdown(records, source), rows, [], {"results.png": partial(report.plot, records)}, folder)


def _save(analysis: Analysis, folder: Path) -> None:
    """Write the results of an analysis, and print its tables."""
    differences, rows = difference_rows(analysis), result_rows(analysis)
    pictures = {"results.png": partial(plot_best, analysis), "layers.png": partial(plot_layers, analysis)}
    _write(to_markdown(analysis), rows, differences, pictures, folder)
    if not differences:
        (folder / "differences.csv").unlink(missing_ok=True)  # an earlier run's


def _write(
    text: str,
    rows: list[dict[str, Any]],
    differences: list[dict[str, Any]],
    pictures: Mapping[str, Callable[[Path], None]],
    folder: Path,
) -> None:
    tables = {"results.csv": to_csv(rows), **({"differences.csv": to_csv(differences)} if differences else {})}
    page = write_page(folder, "results", text, tables=tables, data={"results.json": rows}, pictures=pictures)
    print(f"{text}\n\n{page}")


def _with_areas(responses: Responses, names: Sequence[str]) -> Responses:
    unknown = [name for name in names if name not in responses.areas]
    if unknown:
        raise ValueError(
            f"`--areas` must be in the responses, got {', '.join(unknown)}. There are {', '.join(responses.areas)}."
        )
    return replace(responses, areas={name: responses.areas[name] for name in names}) if names else responses


_RUN: dict[str, Callable[[Any], None]] = {"rsa": _rsa, "prepare": _prepare, "mmv1": _mmv1}
