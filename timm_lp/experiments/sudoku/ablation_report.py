"""Ablate the saved networks of a run: measure them, and write the tables and the picture of Figures 5c and 10."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ...files import PICTURE_WIDTH, write_figure
from ...models.sudoku import SudokuNet
from ...models.sudoku.board import KINDS, Puzzles
from ...reporting import counted, csv_text, markdown_rows, mean_and_std, p_value, write_page
from ...trials.networks import Subject
from ...trials.record import TrialRecord
from ...trials.statistics import Measurement, Table, tabulate
from ...trials.tables import count_tests
from .ablation import Oriented, ablations, measure_ablations
from .config import SudokuConfig
from .data import load_boards
from .evaluation import TEST_BATCH, evaluate, in_percent
from .report import trained_networks

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

_COLORS = {"row": "#2b62ad", "column": "#e2725b", "box": "#bbbbbb"}
_TITLES = {
    "near 90": "masks around 90° (columns)",
    "near 0": "masks around 0° (rows)",
    "random": "as many random channels",
}

Row = dict[str, Any]


def ablate(config: SudokuConfig, accelerator: Accelerator) -> str:
    """Test the saved networks of a variant without their oriented masks; write the results, and return the tables.

    Args:
        config: Settings; `output_dir` holds the trials.
        accelerator: Distributes the work.

    Raises:
        OSError: If the file of puzzles cannot be read.
        ValueError: If no trial of the variant ended well, its network is not there or has no masks, or its puzzles are
            not those that it was tested with.
    """
    output_dir = Path(config.output_dir)
    chosen = _networks(output_dir, config.ablate_variant)
    records = [record for _, record in chosen]
    with accelerator.main_process_first():
        test = _test_puzzles(records[0], config)
    networks: list[Any] = [subject.load() for subject, _ in chosen]
    oriented = [
        Oriented.of(record.folder, network, config.ablate_min_gamma)
        for record, network in zip(records, networks, strict=True)
    ]
    rows: list[Row] = []
    for record, network, masks in zip(records, networks, oriented, strict=True):
        for row in _measure(network, masks, test, config, accelerator):
            rows.append({"network": record.folder, "seed": record.seed, **row})
    text = to_markdown(rows, oriented, config.ablate_min_gamma, len(test.puzzles))
    if accelerator.is_main_process:
        text += f"\n\n{_write(output_dir, text, rows, oriented, config)}"
    return text


def _networks(output_dir: Path, variant: str) -> list[tuple[Subject, TrialRecord]]:
    """Return the networks of a variant that can be ablated, each with its record."""
    subjects = [subject for subject in trained_networks(output_dir) if subject.variant == variant]
    chosen = [(subject, subject.record) for subject in subjects if subject.record]
    if not chosen or not variant.startswith("lp"):
        raise ValueError(
            f"`ablate_variant` must have masks, and a trial under {output_dir} that ended well, got {variant!r}."
        )
    if len({(record.data_folder, record.model) for _, record in chosen}) > 1:
        folders = dict.fromkeys(str(subject.path.parent) for subject in subjects if subject.path)
        raise ValueError(f"`output_dir` must hold trials of one network, got {', '.join(folders)}. Give one of these.")
    return chosen


def _test_puzzles(record: TrialRecord, config: SudokuConfig) -> Puzzles:
    """Return the puzzles that a trial was tested with, no more than the settings ask for."""
    settings = record.settings
    path = config.data or (record.dataset_argument if record.dataset_argument != "generated" else None)
    boards = load_boards(path, settings["puzzles"], settings["test_puzzles"], settings["data_seed"])
    if boards.sha256() != record.data_sha256:
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


def _write(output_dir: Path, text: str, rows: list[Row], oriented: Sequence[Oriented], config: SudokuConfig) -> str:
    settings = {name: getattr(config, f"ablate_{name}") for name in ("variant", "puzzles", "draws", "min_gamma")}
    thresholds = {masks.name: masks.threshold for masks in oriented}
    title = f"{counted(len(oriented), 'network')} of {config.ablate_variant}"
    return write_page(
        output_dir,
        "ablation",
        text,
        tables={"ablation.csv": csv_text(list(rows[0]), rows)},
        data={"ablation.json": {"settings": settings, "thresholds": thresholds, "rows": rows}},
        pictures={"ablation.png": partial(draw_ablations, rows, title=title)},
    )


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
    gaps = _columns_against_rows(rows, widest)
    header = ["layers", "ablated", "channels", *KINDS, "column - row", "p"]
    lines = []
    for layers in dict.fromkeys(row["layers"] for row in rows):
        for kind in ABLATED:
            per_network = _per_network(rows, layers, kind, widest)
            changes = {name: [row[name] - intact[key][name] for key, row in per_network.items()] for name in KINDS}
            gap = [column - row for column, row in zip(changes["column"], changes["row"], strict=True)]
            channels = fmean(row["channels"] for row in per_network.values())
            numbers = [mean_and_std(values, sign="+") for values in (*changes.values(), gap)]
            p = p_value(gaps.cells["column", f"{layers} {kind}"].paired_p_value)
            lines.append([layers, _WORDS[kind], f"{channels:.1f}", *numbers, p])
    whole = ", ".join(f"{name} {mean_and_std([row[name] for row in intact.values()])}" for name in KINDS)
    return "\n\n".join(
        [
            f"Ablation of {counted(len(oriented), 'network')} on {num_test} test puzzles; intact (%): {whole}",
            "\n".join(f"- {_threshold(masks, min_gamma)}" for masks in oriented),
            f"Change by ablating windows of ± {widest} degrees (points; mean ± standard deviation over networks; "
            f"of random channels, means over draws; p of the t-test of columns against rows, paired by network, after "
            f"Holm-Bonferroni over {count_tests(gaps)[1]} comparisons)\n\n{markdown_rows(header, lines, left=2)}",
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
        for network, row in _per_network(rows, layers, kind, half_width).items():
            curves.setdefault(network, []).append((half_width, row[name] - intact[network][name]))
    return curves


def _columns_against_rows(rows: Sequence[Row], half_width: float) -> Table:
    """Return the changes of columns and rows by network, with a column for each range of layers and kind."""
    intact = _intact(rows)
    columns = {
        f"{layers} {kind}": (layers, kind)
        for layers in dict.fromkeys(row["layers"] for row in rows)
        for kind in ABLATED
    }
    measurements = [
        Measurement(name, column, number, row[name] - intact[network][name])
        for column, layers_and_kind in columns.items()
        for number, (network, row) in enumerate(_per_network(rows, *layers_and_kind, half_width).items())
        for name in ("column", "row")
    ]
    return tabulate(measurements, ["column", "row"], dict.fromkeys(columns, ""), "row")


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


def draw_ablations(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw a panel for each kind of ablation in all layers.

    Args:
        rows: What was measured.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PICTURE_WIDTH, 7.0), layout="constrained")
    panels = figure.subplots(len(ABLATED), 1, sharex=True, sharey=True)
    for axes, kind in zip(panels, ABLATED, strict=True):
        _draw_panel(axes, rows, rows[0]["layers"], kind)  # all layers come first
        axes.set_title(_TITLES[kind], fontsize=11)
        axes.set_ylabel("change (points)")
    low, high = panels[0].get_ylim()
    low = min(low, -1.0)  # so that rounding does not look like a difference
    panels[0].set_ylim(low, max(high, -0.2 * low))  # with room for the text
    panels[-1].set_xlabel("window around the angle (± degrees)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"Valid without oriented masks; {title}", fontsize=11)
    write_figure(path, figure)


def _draw_panel(axes: Any, rows: Sequence[Row], layers: str, kind: str) -> None:
    axes.axhline(0, color="black", linewidth=0.6)
    for name in KINDS:
        curves = list(changes(rows, layers, kind, name).values())
        for curve in curves if len(curves) > 1 else ():
            axes.plot(*zip(*curve, strict=True), color=_COLORS[name], linewidth=0.7, alpha=0.4)
        widths = [width for width, _ in curves[0]]
        means = [fmean(change for _, change in column) for column in zip(*curves, strict=True)]
        axes.plot(widths, means, color=_COLORS[name], linewidth=1.8, label=f"{name}s" if name != "box" else "boxes")
    text = f"up to {_most_channels(rows, layers, kind)} channels"
    axes.text(0.97, 0.97, text, transform=axes.transAxes, ha="right", va="top")
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _most_channels(rows: Sequence[Row], layers: str, kind: str) -> str:
    """Return the number of channels in the widest window: the fewest and the most of a network."""
    window = layers, kind, max(row["half_width"] for row in rows)
    counts = {row["channels"] for row in rows if (row["layers"], row["ablated"], row["half_width"]) == window}
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(min(counts))
