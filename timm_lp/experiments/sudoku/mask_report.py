"""What the masks of saved networks look like (Figures 5b and 9, Tables 6 and 7)."""

from pathlib import Path

from ...masks.networks import load_groups
from ...masks.output import write_masks
from .report import read_trials
from .saving import load_sudoku


def report_masks(output_dir: Path) -> str:
    """Write tables and pictures of the masks of all saved networks, seeds together, and return the tables.

    Args:
        output_dir: Where the trials are; its folder `masks` gets what is written.

    Raises:
        ValueError: If no trial of a variant with masks ended well, or its network is not there.
    """
    records = [record for record in read_trials(output_dir) if record.metrics and record.variant.startswith("lp")]
    if not records:
        raise ValueError(f"`output_dir` must hold a trial with masks that ended well, got {output_dir} without one.")
    groups = load_groups([str(output_dir / record.folder) for record in records], load=load_sudoku)
    return write_masks(groups, output_dir / "masks")
