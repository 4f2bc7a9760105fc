"""The picture: corruptions by variants, each variant beside base."""

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ...files import PICTURE_LETTERS, PICTURE_WIDTH, write_figure
from ...variants import BASE
from ..data.corruptions.functions import is_common
from ..data.corruptions.images import CorruptedSet
from .scores import Scores, column

_LEAST_RANGE = 1.0  # points; smaller differences are not made to look large
_DARK = -0.1  # of the largest difference: text on the darker colours is white


def plot(scores: Scores, corrupted: CorruptedSet, path: Path, heading: str = "") -> None:
    """Draw a panel for each base network: the mean accuracy on each corruption, coloured by the difference from base.

    Args:
        scores: The accuracies.
        corrupted: The images.
        path: Where to write it; the ending chooses the format.
        heading: What stands above everything; nothing if empty.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    table = scores.by_corruption()
    shown = {
        model: [row for row in table.rows if (row, column(model, scores.corruptions[0])) in table.cells]
        for model in scores.models
    }
    means = {
        model: np.array(
            [[_or_nan(table.mean(row, column(model, name))) for row in rows] for name in scores.corruptions]
        ).reshape(len(scores.corruptions), len(rows))
        for model, rows in shown.items()
    }
    differences = {model: _minus_base(values, shown[model]) for model, values in means.items()}
    largest = max([_LEAST_RANGE, *(float(np.nanmax(np.abs(values), initial=0)) for values in differences.values())])
    height = 0.6 + 0.3 * len(scores.corruptions)
    figure = Figure(figsize=(PICTURE_WIDTH, 1.3 + height * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    names = [f"{name.replace('_', ' ')}{'' if is_common(name) else ' (extra)'}" for name in scores.corruptions]
    for axes, (model, rows) in zip(panels, shown.items(), strict=True):
        picture = axes.imshow(differences[model], cmap="cividis", vmin=-largest, vmax=largest, aspect="auto")
        _write_numbers(axes, means[model], differences[model], largest)
        axes.set_xticks(range(len(rows)), rows, rotation=30 if len(rows) > 3 else 0)
        axes.set_yticks(range(len(scores.corruptions)), names)
        axes.set_title(model, fontsize=11)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.axhline(len(scores.common) - 0.5, color="black", linewidth=0.8)
    if any(BASE in rows and len(rows) > 1 for rows in shown.values()):
        bar = figure.colorbar(picture, ax=list(panels), pad=0.02, aspect=40)
        bar.set_label(f"top-1 minus {BASE} (points)")
        bar.outline.set_visible(False)
    severities = ", ".join(map(str, scores.severities))
    lines = [
        *([heading] if heading else []),
        f"Top-1 (%), mean over seeds, severity {severities}",
        corrupted.name,
        *(corrupted.note.split("; ") if corrupted.note else []),
    ]
    figure.suptitle("\n".join(fill(line, PICTURE_LETTERS) for line in lines), fontsize=10)
    write_figure(path, figure)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _minus_base(means: np.ndarray, rows: list[str]) -> np.ndarray:
    """Return the differences from base; 0 everywhere where there is no base."""
    return means - means[:, [rows.index(BASE)]] if BASE in rows else np.zeros_like(means)


def _write_numbers(axes: Any, means: np.ndarray, differences: np.ndarray, largest: float) -> None:
    for (line, row), mean in np.ndenumerate(means):
        color = "white" if differences[line, row] < _DARK * largest else "black"
        text = "failed" if np.isnan(mean) else f"{mean:.1f}"
        axes.text(row, line, text, ha="center", va="center", color=color)
