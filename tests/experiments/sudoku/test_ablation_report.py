from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_1samp

from timm_lp.experiments.sudoku.ablation_report import Oriented, changes, draw_ablations, to_markdown
from timm_lp.masks import conformation_matrix
from timm_lp.models.sudoku import create_network

WIDTHS = (0, 45)


def _rows() -> list[dict[str, Any]]:
    """Return what two networks would lose: `near 90` 1 and 3 columns a degree, random channels what their draw says."""
    rows = []
    for network, loss in (("a", 1.0), ("b", 3.0)):
        intact = {"row": 50.0, "column": 60.0, "box": 40.0}
        common = {"network": network, "seed": 1, "draw": None, "channels": 0}
        rows.append({**common, "layers": "1-2", "ablated": "none", "half_width": 0, **intact})
        for layers, width in product(("1-2", "1-1"), WIDTHS):
            place = {**common, "layers": layers, "half_width": width, "channels": width}
            rows.append({**place, "ablated": "near 90", **intact, "column": 60 - loss * width})
            rows.append({**place, "ablated": "near 0", **intact, "row": 50 - width})
            for draw in (0, 1):
                rows.append({**place, "ablated": "random", "draw": draw, **intact, "box": 40 - draw * width})
    return rows


def _oriented(*gammas: float) -> Oriented:
    """Return the masks of a network of two layers, the second with a tenth more distortion."""
    network = create_network("lp2", channels=len(gammas), depth=2, inputs="one-hot")
    with torch.no_grad():
        for layer, conv in enumerate(network.convs):
            conv.C.copy_(conformation_matrix(2.0, (1 + 0.1 * layer) * torch.tensor(gammas), 30.0))
    return Oriented.of("net", network, 3.0)


def test_reads_the_masks_of_each_layer() -> None:
    masks = _oriented(4.0, 2.0)
    assert masks.threshold == 3.0
    for scale, gamma, theta in zip((1.0, 1.1), masks.gammas, masks.thetas, strict=True):
        np.testing.assert_allclose(gamma, [4.0 * scale, 2.0 * scale], rtol=1e-5)
        np.testing.assert_allclose(theta, [30.0, 30.0], rtol=1e-4)


def test_says_the_threshold_that_it_took() -> None:
    above, below = _oriented(4.0, 2.0), _oriented(1.5, 2.0)
    text = to_markdown(_rows(), [above, below], 3.0, 70)
    assert "Ablation of 2 networks on 70 test puzzles; intact (%): row 50.00 ± 0.00" in text
    assert "- net: 2 of 4 masks have a gamma above 3 (largest 4.40)" in text
    assert "- net: no gamma is above 3 (largest 2.20); instead, the 1 of 4 masks above 2.000 are taken" in text
    assert "theta counts from the width axis, counter-clockwise" in text


def test_the_table_has_the_changes_in_the_widest_window() -> None:
    lines = [line for line in to_markdown(_rows(), [], 3.0, 70).splitlines() if line.startswith("| 1-")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    zero = "+0.00 ± 0.00"
    assert [row[0] for row in cells] == ["1-2"] * 3 + ["1-1"] * 3
    assert cells[0][2:-1] == ["45.0", zero, "-90.00 ± 63.64", zero, "-90.00 ± 63.64"]
    assert cells[1][2:-1] == ["45.0", "-45.00 ± 0.00", zero, zero, "+45.00 ± 0.00"]
    assert cells[2][2:-1] == ["45.0", zero, zero, "-22.50 ± 0.00", zero]


def test_columns_are_tested_against_rows_by_network() -> None:
    losses = {"near 90": [(1.0, 3.0), (2.0, 4.5), (1.5, 3.0)], "near 0": [(4.0, 3.0), (3.0, 3.5), (5.0, 2.0)]}
    rows = [_row("1-2", "none", network) for network in range(3)]
    rows += [_row("1-2", kind, network, *loss) for kind, each in losses.items() for network, loss in enumerate(each)]
    rows += [_row("1-2", "random", network, 2.0, 2.0) for network in range(3)]
    p = {kind: ttest_1samp([column - row for row, column in each], 0.0).pvalue for kind, each in losses.items()}
    smaller, larger = sorted(p, key=lambda kind: p[kind])
    text = to_markdown(rows, [], 3.0, 70)
    stated = {line.split("|")[2].strip(): line.split("|")[-2].strip() for line in text.splitlines() if "| 1-2" in line}
    words = {"near 90": "around 90 degrees (columns)", "near 0": "around 0 degrees (rows)"}
    assert stated[words[smaller]] == f"{2 * p[smaller]:.3f}"
    assert stated[words[larger]] == f"{max(2 * p[smaller], p[larger]):.3f}"
    assert stated["as many random channels as around 90 degrees"] == "-"
    assert "paired by network, after Holm-Bonferroni over 2 comparisons" in text


def _row(layers: str, kind: str, network: int, row: float = 0.0, column: float = 0.0) -> dict[str, Any]:
    accuracies = {"row": 50 - row, "column": 60 - column, "box": 40.0}
    place = {"network": str(network), "layers": layers, "ablated": kind, "half_width": 0 if kind == "none" else 45}
    return {**place, "seed": network, "draw": None, "channels": 3, **accuracies}


def test_a_curve_has_the_change_of_each_network_and_the_mean_of_its_draws() -> None:
    assert changes(_rows(), "1-1", "near 90", "column") == {"a": [(0, 0.0), (45, -45.0)], "b": [(0, 0.0), (45, -135.0)]}
    assert changes(_rows(), "1-2", "random", "box")["a"] == [(0, 0.0), (45, -22.5)]


def test_draws_all_layers_whichever_parts_of_them_were_looked_at_too(tmp_path: Path) -> None:
    rows = _rows()
    draw_ablations(rows, tmp_path / "two.png", "title")
    draw_ablations([row for row in rows if row["layers"] == "1-2"], tmp_path / "one.png", "title")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
