"""The picture of trainings whose accuracy was followed: loss and accuracy, epoch by epoch."""

from collections.abc import Sequence
from pathlib import Path

from ...trials import plots
from ...trials.record import TrialRecord

_PANELS = {"loss": "training loss", "top1": "top-1 on the test images (%)"}
_X = {"epoch": "epochs"}


def draw_curves(records: Sequence[TrialRecord], path: Path, title: str) -> None:
    """Draw the mean loss of each epoch, on the images as they are augmented, and the accuracy after it.

    Args:
        records: Trials of one network on one data set, in the order of the legend, whose accuracy was followed; those
            that failed are left out.
        path: Where to write the picture; the ending chooses the format.
        title: What stands above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    known = {
        variant: [{"epoch": list(map(float, range(1, len(own["loss"]) + 1))), **own} for own in histories]
        for variant, histories in plots.curves_of(records).items()
    }
    plots.draw_curves(known, path, title, x=_X, panels=_PANELS)
