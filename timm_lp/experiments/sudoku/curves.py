"""The picture of trainings as Figure 4b: loss and accuracies on the test puzzles, per puzzle seen and per second."""

from collections.abc import Sequence
from pathlib import Path

from ...trials import plots
from ...trials.record import TrialRecord

_PANELS = {
    "loss": "loss on the test",
    "blank": "blank cells right (%)",
    "row": "rows valid (%)",
    "column": "columns valid (%)",
    "box": "boxes valid (%)",
    "sudoku": "boards valid (%)",
}
_PERCENT = (("blank",), ("row", "column", "box"), ("sudoku",))
_X = {"puzzles": "puzzles seen", "seconds": "seconds of training"}


def draw_curves(records: Sequence[TrialRecord], path: Path, title: str) -> None:
    """Draw each measure over the puzzles seen, and over the time of the training; valid boards where there are any.

    Args:
        records: Trials of one network, in the order of the legend; those that failed are left out.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    known = plots.curves_of(records)
    any_valid = any(max(history["sudoku"]) > 0 for histories in known.values() for history in histories)
    panels = {name: label for name, label in _PANELS.items() if name != "sudoku" or any_valid}
    plots.draw_curves(known, path, title, x=_X, panels=panels, percent=_PERCENT)
