"""Stage a Sudoku network, which `load_sudoku` builds and not timm, as a folder that the Hub understands."""

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from timm_lp.files import write_json, write_text
from timm_lp.models.sudoku import load_sudoku
from timm_lp.reporting import markdown_rows, number
from timm_lp.start import Start
from timm_lp.trials.networks import Subject
from timm_lp.trials.record import TrialRecord, as_json

from .cards.card import REPOSITORY, draw_masks
from .cards.provenance import base_weights
from .cards.records import publishable
from .cards.templates import TAG, package_url, render
from .errors import naming
from .files import CARD, CONFIG, MASKS, RESULTS, WEIGHTS, new_folder
from .finite import check_weight_numbers, finite_logits
from .untrusted import check_weights, clear_build_errors
from .verification import write_manifest

_MEASURES = {
    "blank": "blank cells right, all cells at a look",
    "row": "rows that hold each digit once",
    "column": "columns",
    "box": "boxes",
    "stepwise_blank": "blank cells right, filled one cell at a time",
    "stepwise_exact": "puzzles solved, filled one cell at a time",
}


def stage_sudoku(subject: Subject, folder: Path, license: str | None, benchmark: str | None) -> Path:
    """Write a Sudoku network into a folder as it is published.

    Args:
        subject: The network, in a trial's folder or another one.
        folder: New or empty.
        license: The network's licence, None where its publisher states none.
        benchmark: What the card says of the run that it belongs to, as Markdown; None for nothing.

    Raises:
        OSError: If the folder cannot be written; nothing of it is left behind.
        ValueError: If the licence is not in its form, or the network computes no finite numbers.
        VerificationError: If there is no whole network.
    """
    source = Path(subject.path or subject.name)
    with naming(source):
        check_weights(source)
        with clear_build_errors():
            network = load_sudoku(source)
    check_weight_numbers(network)
    logits = finite_logits(network, str(source))
    record = None if subject.record is None else publishable(source, subject.record)
    stated: Any = base_weights(network, Start("random"), license).license_metadata()
    metadata = ModelCardData(**stated, library_name="timm-lp", tags=["sudoku", TAG])
    with new_folder(folder) as partial:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(source / name, partial / name)
        if record is not None:
            write_json(partial / RESULTS, as_json(record))
        card = render(
            "sudoku",
            metadata,
            repository=REPOSITORY,
            package_url=package_url(),
            masks_image=MASKS if draw_masks(network, partial / MASKS) else None,
            record=record,
            measures=_measures(record),
            benchmark=benchmark,
            parameters=f"{sum(parameter.numel() for parameter in network.parameters()):,}",
        )
        write_text(partial / CARD, card)
        write_manifest(partial, network, logits)
    return folder


def _measures(record: TrialRecord | None) -> str:
    metrics = (record.metrics if record else None) or {}
    rows = [[title, number(metrics[name], ".2f")] for name, title in _MEASURES.items() if name in metrics]
    return markdown_rows(["measure", "%"], rows) if rows else ""
