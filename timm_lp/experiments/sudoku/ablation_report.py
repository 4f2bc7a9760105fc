"""What ablations gave: the tables, and the curves of the picture."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from ...layers import LpConv2d
from ...masks import conformation
from ...models.sudoku import SudokuNet
from ...reporting import counted, markdown_rows, mean_and_std, p_value
from ...trials.statistics import Measurement, Table, tabulate
from ...trials.tables import count_tests
from .ablation import gamma_threshold
from .board import KINDS

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
            changes = {name: [own[name] - intact[key][name] for key, own in per_network.items()] for name in KINDS}
            gap = [column - row for column, row in zip(changes["column"], changes["row"], strict=True)]
            channels = fmean(own["channels"] for own in per_network.values())
            numbers = [mean_and_std(values, sign="+") for values in (*changes.values(), gap)]
            p = p_value(gaps.cells["column", f"{layers} {kind}"].paired_p_value)
            lines.append([layers, _WORDS[kind], f"{channels:.1f}", *numbers, p])
    whole = ", ".join(f"{name} {mean_and_std([own[name] for own in intact.values()])}" for name in KINDS)
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
        for network, own in _per_network(rows, layers, kind, half_width).items():
            curves.setdefault(network, []).append((half_width, own[name] - intact[network][name]))
    return curves


def _columns_against_rows(rows: Sequence[Row], half_width: float) -> Table:
    """Return the changes of columns and rows by network, with a column for each range of layers and kind."""
    intact = _intact(rows)
    places = {
        f"{layers} {kind}": (layers, kind)
        for layers in dict.fromkeys(row["layers"] for row in rows)
        for kind in ABLATED
    }
    measurements = [
        Measurement(name, column, number, own[name] - intact[network][name])
        for column, place in places.items()
        for number, (network, own) in enumerate(_per_network(rows, *place, half_width).items())
        for name in ("column", "row")
    ]
    return tabulate(measurements, ["column", "row"], dict.fromkeys(places, ""), "row")


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
