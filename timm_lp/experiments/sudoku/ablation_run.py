"""Ablations of the saved networks of a run, with their tables and their picture."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from ...files import write_json, write_text
from ...layers import LpConv2d
from ...markdown import markdown_rows
from ...masks import conformation
from ..trials.record import TrialRecord
from .ablation import ablations, gamma_threshold, measure_ablations
from .board import KINDS, Puzzles
from .config import SudokuConfig
from .data import load_boards
from .evaluation import evaluate
from .networks import SudokuNet
from .report import read_trials
from .saving import load_sudoku
from .trial import TEST_BATCH, in_percent

_logger = logging.getLogger(__name__)

ABLATED = ("near 90", "near 0", "random")
_CONVENTIONS = (
    "theta counts from the width axis, counter-clockwise as displayed: a mask near 0 degrees is long along its row, "
    "and one near 90 degrees along its column. An ablated channel has a masked kernel of zeros, and keeps its bias "
    "and its norm. Random channels are as many in each layer as the window around 90 degrees has."
)
_WORDS = {
    "near 90": "around 90 degrees (columns)",
    "near 0": "around 0 degrees (rows)",
    "random": "as many random channels as around 90 degrees",
}

Row = dict[str, Any]


class Oriented(NamedTuple):
    """The masks of a network.

    Attributes:
        name: The trial's folder.
        gammas: Distortion of the masks of each layer, shape `(O,)` each.
        thetas: Their theta, degrees; NaN where there is none.
        threshold: Distortion above which a mask counts as oriented.
    """

    name: str
    gammas: list[np.ndarray]
    thetas: list[np.ndarray]
    threshold: float

    @classmethod
    def of(cls, name: str, network: SudokuNet, min_gamma: float) -> "Oriented":
        """Return the masks of a network with Lp-convolutions."""
        shapes = [conformation(conv.C) for conv in network.convs if isinstance(conv, LpConv2d)]
        gammas, thetas = ([shape[part].numpy() for shape in shapes] for part in (1, 2))
        return cls(name, gammas, thetas, gamma_threshold(gammas, min_gamma))


def ablate(config: SudokuConfig, accelerator: Accelerator) -> str:
    """Test the saved networks of a variant without their oriented masks; write what comes of it, and return the tables.

    Args:
        config: Settings; `output_dir` holds the trials.
        accelerator: Distributes the work.

    Raises:
        OSError: If the file of puzzles cannot be read.
        ValueError: If no trial of the variant ended well, its network is not there or has no masks, or its puzzles are
            not those that it was tested with.
    """
    output_dir = Path(config.output_dir)
    records = _trials(output_dir, config.ablate_variant)
    with accelerator.main_process_first():
        test = _test_puzzles(records, config)
    loaded = [(record, load_sudoku(output_dir / record.folder)) for record in records]
    oriented = [Oriented.of(record.folder, network, config.ablate_min_gamma) for record, network in loaded]
    rows: list[Row] = []
    for (record, network), masks in zip(loaded, oriented, strict=True):
        for row in _measure(network, masks, test, config, accelerator):
            rows.append({"network": record.folder, "seed": record.seed, **row})
    text = to_markdown(rows, oriented, config.ablate_min_gamma, len(test.puzzles))
    if accelerator.is_main_process:
        _write(output_dir, text, rows, oriented, config)
    return text


def to_markdown(rows: Sequence[Row], oriented: Sequence[Oriented], min_gamma: float, num_test: int) -> str:
    """Return what was ablated, and the changes of the accuracies in the widest window.

    Args:
        rows: What was measured.
        oriented: The networks' masks.
        min_gamma: The distortion that was asked for.
        num_test: Number of the puzzles.
    """
    widest = max(row["half_width"] for row in rows)
    intact = _intact(rows)
    header = ["layers", "ablated", "channels", *KINDS, "column - row"]
    lines = []
    for layers in dict.fromkeys(row["layers"] for row in rows):
        for kind in ABLATED:
            per_network = _per_network(rows, layers, kind, widest)
            changes = {name: [own[name] - intact[key][name] for key, own in per_network.items()] for name in KINDS}
            gap = [column - row for column, row in zip(changes["column"], changes["row"], strict=True)]
            channels = fmean(own["channels"] for own in per_network.values())
            numbers = [_mean_and_std(values) for values in (*changes.values(), gap)]
            lines.append([layers, _WORDS[kind], f"{channels:.1f}", *numbers])
    whole = ", ".join(f"{name} {_mean_and_std([own[name] for own in intact.values()], '')}" for name in KINDS)
    return "\n\n".join(
        [
            f"Ablation of {_counted(len(oriented))} on {num_test} test puzzles; intact (%): {whole}",
            "\n".join(f"- {_threshold(masks, min_gamma)}" for masks in oriented),
            f"Change by ablating windows of ± {widest} degrees (points; mean ± standard deviation over networks; "
            f"of random channels, means over draws)\n\n{markdown_rows(header, lines, left=2)}",
            _CONVENTIONS,
        ]
    )


def changes(rows: Sequence[Row], layers: str, kind: str, name: str) -> dict[str, list[tuple[float, float]]]:
    """Return, for each network, the half width of each window, and the change of an accuracy in it, points.

    Args:
        rows: What was measured.
        layers: First and last layer, `"1-10"` for instance.
        kind: `"near 90"`, `"near 0"` or `"random"`, over whose draws it is averaged.
        name: `"row"`, `"column"` or `"box"`.
    """
    intact = _intact(rows)
    curves: dict[str, list[tuple[float, float]]] = {}
    for half_width in dict.fromkeys(row["half_width"] for row in rows):
        for network, own in _per_network(rows, layers, kind, half_width).items():
            curves.setdefault(network, []).append((half_width, own[name] - intact[network][name]))
    return curves


def _trials(output_dir: Path, variant: str) -> list[TrialRecord]:
    """Return the trials of a variant whose networks can be ablated."""
    found = [record for record in read_trials(output_dir) if record.variant == variant and record.metrics]
    if not found or not variant.startswith("lp"):
        raise ValueError(
            f"`ablate_variant` must have masks, and a trial under {output_dir} that ended well, got {variant!r}."
        )
    if len({(record.data_folder, record.model) for record in found}) > 1:
        raise ValueError(f"`output_dir` must hold trials of one network, got several in {output_dir}. Give its folder.")
    return found


def _test_puzzles(records: Sequence[TrialRecord], config: SudokuConfig) -> Puzzles:
    """Return the puzzles that the trials were tested with, no more than are asked for."""
    first, own = records[0], records[0].settings
    path = config.data or (first.dataset_argument if first.dataset_argument != "generated" else None)
    boards = load_boards(path, own["puzzles"], own["test_puzzles"], own["data_seed"])
    if boards.sha256() != first.data_sha256:
        raise ValueError(
            f"`data` must be the puzzles of the trials, got others in {path or 'those that this version generates'}."
        )
    return boards.test.take(np.arange(min(config.ablate_puzzles, len(boards.test.puzzles))))


def _measure(
    network: SudokuNet, masks: Oriented, test: Puzzles, config: SudokuConfig, accelerator: Accelerator
) -> list[Row]:
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    network = network.to(accelerator.device)
    chosen = list(ablations(masks.gammas, masks.thetas, threshold=masks.threshold, draws=config.ablate_draws))
    none = [np.zeros(len(gamma), dtype=bool) for gamma in masks.gammas]
    whole = chosen[0]._replace(layers=(1, len(none)), kind="none", half_width=0, draw=None, channels=none)

    def test_it() -> dict[str, float]:
        return in_percent(evaluate(network, test, batch_size=TEST_BATCH, accelerator=accelerator))

    measured = measure_ablations(network.convs, [whole, *chosen], test_it)
    bar = tqdm(
        measured,
        total=1 + len(chosen),
        desc=Path(masks.name).name,
        unit="ablation",
        disable=not accelerator.is_main_process,
        dynamic_ncols=True,
    )
    return list(bar)


def _write(output_dir: Path, text: str, rows: list[Row], oriented: Sequence[Oriented], config: SudokuConfig) -> None:
    write_text(output_dir / "ablation.md", text + "\n")
    lines = io.StringIO()
    writer = csv.DictWriter(lines, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output_dir / "ablation.csv", lines.getvalue())
    settings = {name: getattr(config, f"ablate_{name}") for name in ("variant", "puzzles", "draws", "min_gamma")}
    thresholds = {masks.name: masks.threshold for masks in oriented}
    write_json(output_dir / "ablation.json", {"settings": settings, "thresholds": thresholds, "rows": rows})
    try:
        from .ablation_plot import draw_ablations

        draw_ablations(rows, output_dir / "ablation.png", f"{_counted(len(oriented))} of {config.ablate_variant}")
    except ImportError:
        _logger.warning("No picture: matplotlib is not installed. `pip install matplotlib` brings it.")


def _intact(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["network"]: row for row in rows if row["ablated"] == "none"}


def _per_network(rows: Sequence[Row], layers: str, kind: str, half_width: float) -> dict[str, Row]:
    """Return the mean over the draws, by network."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if (row["layers"], row["ablated"], row["half_width"]) == (layers, kind, half_width):
            groups.setdefault(row["network"], []).append(row)
    return {
        network: {name: fmean(row[name] for row in group) for name in ("channels", *KINDS)}
        for network, group in groups.items()
    }


def _threshold(masks: Oriented, min_gamma: float) -> str:
    """Return which masks of a network count as oriented."""
    largest = max(float(gamma.max()) for gamma in masks.gammas)
    count = sum(int((gamma > masks.threshold).sum()) for gamma in masks.gammas)
    total = sum(len(gamma) for gamma in masks.gammas)
    if masks.threshold == min_gamma:
        return f"{masks.name}: {count} of {total} masks have a gamma above {min_gamma:g} (largest {largest:.2f})"
    return (
        f"{masks.name}: no gamma is above {min_gamma:g} (largest {largest:.2f}); instead, the {count} of {total} masks "
        f"above {masks.threshold:.3f} are taken"
    )


def _counted(networks: int) -> str:
    return "1 network" if networks == 1 else f"{networks} networks"


def _mean_and_std(values: Sequence[float], sign: str = "+") -> str:
    mean = f"{fmean(values):{sign}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.2f}"
