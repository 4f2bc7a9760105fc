"""Ablations of the saved networks of a run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from ...models.sudoku import SudokuNet, load_sudoku
from ...reporting import counted, csv_text, write_page
from ...trials.record import TrialRecord
from .ablation import ablations, measure_ablations
from .ablation_plot import draw_ablations
from .ablation_report import Oriented, Row, to_markdown
from .board import Puzzles
from .config import SudokuConfig
from .data import load_boards
from .evaluation import evaluate
from .report import trials_in
from .trial import TEST_BATCH, in_percent


def ablate(config: SudokuConfig, accelerator: Accelerator) -> str:
    """Test the saved networks of a variant without their oriented masks; write and return the tables.

    Args:
        config: Settings; `output_dir` holds the trials.
        accelerator: Distributes the work.

    Raises:
        OSError: If the file of puzzles cannot be read.
        ValueError: If no trial of the variant ended well, its network is not there or has no masks, or its puzzles are
            not those that it was tested with.
    """
    output_dir = Path(config.output_dir)
    trials = _trials(output_dir, config.ablate_variant)
    with accelerator.main_process_first():
        test = _test_puzzles([record for _, record in trials], config)
    loaded = [(record, load_sudoku(folder)) for folder, record in trials]
    oriented = [Oriented.of(record.folder, network, config.ablate_min_gamma) for record, network in loaded]
    rows: list[Row] = []
    for (record, network), masks in zip(loaded, oriented, strict=True):
        for row in _measure(network, masks, test, config, accelerator):
            rows.append({"network": record.folder, "seed": record.seed, **row})
    text = to_markdown(rows, oriented, config.ablate_min_gamma, len(test.puzzles))
    if accelerator.is_main_process:
        text += f"\n\n{_write(output_dir, text, rows, oriented, config)}"
    return text


def _trials(output_dir: Path, variant: str) -> list[tuple[Path, TrialRecord]]:
    """Return the trials of a variant whose networks can be ablated, each behind its folder."""
    found = [trial for trial in trials_in(output_dir) if trial[1].variant == variant and trial[1].metrics]
    if not found or not variant.startswith("lp"):
        raise ValueError(
            f"`ablate_variant` must have masks, and a trial under {output_dir} that ended well, got {variant!r}."
        )
    networks = dict.fromkeys(str(folder.parent) for folder, _ in found)
    if len({(record.data_folder, record.model) for _, record in found}) > 1:
        raise ValueError(f"`output_dir` must hold trials of one network, got {', '.join(networks)}. Give one of these.")
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
