"""Draws two pictures of the first page from what the repository holds: `python .github/pictures.py`.

`masks.png` is of masks and of the Sudoku network that comes with the package, `equal_cost.png` of the result files in
`timm_lp/experiments/classification/recipes`.
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
RECIPES = HERE.parent / "timm_lp" / "experiments" / "classification" / "recipes"
COSTS = {"step_ms": "a training step (ms)", "parameters": "parameters", "macs": "multiplications"}


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
    networks = json.loads((RECIPES / "equal_cost.json").read_text())["networks"]
    figure = Figure(figsize=(PICTURE_WIDTH, 5.0), layout="constrained")
    grid = figure.subplots(len(COSTS), len(networks), squeeze=False, sharey="col")
    for column, (title, rows) in zip(grid.T, networks.items(), strict=True):
        points = [_point(row) for row in rows]
        for axes, (cost, label) in zip(column, COSTS.items(), strict=True):
            _draw_points(axes, points, cost)
            axes.set_xlabel(label)
        column[0].set_title(title)
    for line in grid:
        line[0].set_ylabel("CIFAR-100 (%)", fontsize=10)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
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


def _point(row: dict[str, Any]) -> dict[str, Any]:
    """Return a network's costs and its accuracies."""
    entries = json.loads((RECIPES / f"{row['results']}.json").read_text())["results"]
    entry = next(entry for entry in entries if entry["variant"] == row["variant"])
    return {**row, **{key: entry[key] for key in ("parameters", "macs")}, "top1": [*entry["metrics"]["top1"].values()]}


def _draw_points(axes: Any, points: list[dict[str, Any]], cost: str) -> None:
    for variant in dict.fromkeys(point["variant"] for point in points):
        own = sorted((point for point in points if point["variant"] == variant), key=lambda point: point[cost])
        axes.errorbar(
            [point[cost] for point in own],
            [fmean(point["top1"]) for point in own],
            [stdev(point["top1"]) for point in own],
            label=variant,
            color=variant_style(variant)["color"],
            marker="o",
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
