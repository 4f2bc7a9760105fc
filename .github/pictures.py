"""Draws pictures of the READMEs from what the repository holds: `python .github/pictures.py`.

`masks.png` is of masks and of the Sudoku network that comes with the package, `equal_cost.png` and
`sudoku_equal_cost.png` are of the result files in the `recipes` of classification and Sudoku.
"""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from timm_lp import lp_mask
from timm_lp.files import PICTURE_WIDTH, write_figure
from timm_lp.masks.statistics import NEAR, layer_masks
from timm_lp.models.sudoku import load_sudoku
from timm_lp.reporting import variant_style

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent / "timm_lp" / "experiments"
COSTS = {"step_ms": "a training step (ms)", "parameters": "parameters", "macs": "multiplications"}
COSTS_OF_SUDOKU = {**COSTS, "step_ms": "training (minutes)"}
MEASURES = {"blank": "blank cells right (%)", "stepwise_exact": "puzzles solved (%)"}
Points = list[dict[str, Any]]


def draw_masks(path: Path) -> None:
    """Draw masks of several exponents at their start, and what became of some on Sudoku; dashed: the base kernel."""
    starts = {f"p = {p:g}": _start(7, 15, p) for p in (1, 2, 4, 16)}
    figure = Figure(figsize=(PICTURE_WIDTH, 2.85), layout="constrained")
    grid = figure.subplots(2, 4)
    rows = (("masks", starts, 7), ("on Sudoku", {"start": _start(3, 7, 2), **_learned()}, 3))
    for line, (label, masks, base) in zip(grid, rows, strict=True):
        line[0].set_ylabel(label)
        for axes, (title, mask) in zip(line, masks.items(), strict=True):
            axes.imshow(mask.numpy(), cmap="magma", vmin=0, vmax=1)
            axes.set(title=title, xticks=[], yticks=[])
            corner = (len(mask) - base) / 2 - 0.5
            axes.add_patch(Rectangle((corner, corner), base, base, fill=False, color="white", linestyle="--"))
    write_figure(path, figure)


def draw_costs(path: Path) -> None:
    """Draw accuracy over each cost: base at several widths on a line, other variants; means over seeds, and spread."""
    recipes = EXPERIMENTS / "classification" / "recipes"
    networks = json.loads((recipes / "equal_cost.json").read_text())["networks"]
    columns = {title: [_point(recipes, row, "top1") for row in rows] for title, rows in networks.items()}
    _draw_grid(path, columns, COSTS, "CIFAR-100 (%)")


def draw_sudoku_costs(path: Path) -> None:
    """Draw what Sudoku networks reach over each cost: all cells at a look, and one cell at a time."""
    recipes = EXPERIMENTS / "sudoku" / "recipes"
    rows = json.loads((recipes / "equal_cost.json").read_text())["rows"]
    columns = {}
    for measure, title in MEASURES.items():
        columns[title] = points = [_point(recipes, row, measure) for row in rows]
        for point in points:
            point["step_ms"] = point["seconds"] * point["puzzles"] / 6400 / 60
            if point["results"].endswith("longer"):
                point["series"] = "base, 3.75 times the puzzles"
    _draw_grid(path, columns, COSTS_OF_SUDOKU)


def _draw_grid(path: Path, columns: dict[str, Points], costs: dict[str, str], y_label: str = "") -> None:
    figure = Figure(figsize=(PICTURE_WIDTH, 5.0), layout="constrained")
    grid = figure.subplots(len(costs), len(columns), squeeze=False, sharey="col")
    for column, (title, points) in zip(grid.T, columns.items(), strict=True):
        for axes, (cost, label) in zip(column, costs.items(), strict=True):
            _draw_points(axes, points, cost)
            axes.set_xlabel(label)
        column[0].set_title(title)
    for line in grid:
        line[0].set_ylabel(y_label, fontsize=10)
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)), frameon=False)
    write_figure(path, figure)


def _start(base: int, size: int, p: float) -> Tensor:
    """Return a mask as it starts over a kernel of `base` pixels that became one of `size`, shape `(size, size)`."""
    return lp_mask(torch.eye(2)[None] * 2 / base, torch.tensor([p]).log2(), (size, size))[0, 0]


def _learned() -> dict[str, Tensor]:
    """Return the longest masks along a row and along a column, and the widest round one."""
    found: dict[str, tuple[float, Tensor]] = {}
    for layer in layer_masks(load_sudoku()):
        shape, masks = layer.conformation, layer.mask()
        for title, fits, measure in (
            ("a row", (shape.theta - 90).abs() > 90 - NEAR, shape.gamma),
            ("a column", (shape.theta - 90).abs() < NEAR, shape.gamma),
            ("wide", shape.gamma < 1.2, shape.alpha),
        ):
            most, place = measure.where(fits, 0.0).max(0)
            if most > found.get(title, (0.0, masks))[0]:
                found[title] = most.item(), masks[place].squeeze(0)
    return {title: mask for title, (_, mask) in found.items()}


def _point(recipes: Path, row: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return a network's costs and what it reached."""
    entries = json.loads((recipes / f"{row['results']}.json").read_text())["results"]
    entry = next(entry for entry in entries if entry["variant"] == row["variant"])
    costs = {key: entry.get(key, row.get(key)) for key in ("parameters", "macs")}
    return {"series": row["variant"], **row, **costs, "values": [*entry["metrics"][metric].values()]}


def _draw_points(axes: Any, points: Points, cost: str) -> None:
    for series in dict.fromkeys(point["series"] for point in points):
        own = sorted((point for point in points if point["series"] == series), key=lambda point: point[cost])
        axes.errorbar(
            [point[cost] for point in own],
            [fmean(point["values"]) for point in own],
            [stdev(point["values"]) if len(point["values"]) > 1 else 0.0 for point in own],
            label=series,
            color=variant_style(own[0]["variant"])["color"],
            marker="o" if series == own[0]["variant"] else "s",
            capsize=3,
        )
    axes.set_xlim(0, 1.1 * max(point[cost] for point in points))
    axes.xaxis.set_major_formatter(FuncFormatter(_in_millions))
    axes.locator_params(axis="x", nbins=4)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _in_millions(value: float, _: Any) -> str:
    return f"{value / 1e6:g} M" if value > 1e4 else f"{value:g}"


if __name__ == "__main__":
    draw_masks(HERE / "masks.png")
    draw_costs(HERE / "equal_cost.png")
    draw_sudoku_costs(HERE / "sudoku_equal_cost.png")
