"""What the masks of saved networks look like (Figures 5b and 9, Tables 6 and 7)."""

from pathlib import Path

from ...masks.networks import load_groups
from ...masks.report import write_masks
from .report import trials_in


def report_masks(output_dir: Path) -> str:
    """Write tables and pictures of the masks of all saved networks, seeds together, and return the tables.

    Args:
        output_dir: In or below which the trials are; its folder `masks` gets what is written.

    Raises:
        ValueError: If no trial of a variant with masks ended well, or its network is not there.
    """
    trials = trials_in(output_dir)
    folders = [str(folder) for folder, record in trials if record.metrics and record.variant.startswith("lp")]
    if not folders:
        raise ValueError(f"`output_dir` must hold a trial with masks that ended well, got {output_dir} without one.")
    return write_masks(load_groups(folders), output_dir / "masks")
