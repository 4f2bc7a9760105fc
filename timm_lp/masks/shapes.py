"""A picture of what the numbers of a mask mean (Figures 5a and 14)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import write_figure
from ..ops import lp_mask
from ._conformation import conformation_matrix

_SIZE = 121  # pixels of a drawn mask
_ALPHA = 38.0
_P = (1.0, 2.0, 4.0, 16.0, 256.0)
_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
_GAMMA = (1.0, 1.2, 2.0, 3.0, 5.0)
_THETA = (0.0, 22.5, 45.0, 90.0, 135.0)
_LEFT = (0.0, 22.5, 45.0, 67.5, 90.0)


def draw_shapes(path: str | Path) -> None:
    """Draw masks over p, alpha, gamma, theta and the angle of U, one number after the other.

    Args:
        path: Where to write the picture; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows: list[tuple[str, Sequence[str], Tensor]] = [
        ("exponent p", [f"{p:g}" for p in _P], torch.cat([_mask(p=p) for p in _P])),
        ("scale alpha", [f"{100 * s:.0f} %" for s in _SCALES], torch.cat([_mask(scale=s) for s in _SCALES])),
        ("distortion gamma", [f"{gamma:g}" for gamma in _GAMMA], torch.cat([_mask(gamma=gamma) for gamma in _GAMMA])),
        (
            "rotation theta\n(gamma 3)",
            [f"{theta:g}°" for theta in _THETA],
            torch.cat([_mask(gamma=3.0, theta=theta) for theta in _THETA]),
        ),
        (
            "angle of U\n(gamma 2, p 16)",
            [f"{angle:g}°" for angle in _LEFT],
            torch.cat([_mask(p=16.0, gamma=2.0, left=angle) for angle in _LEFT]),
        ),
    ]
    figure = Figure(figsize=(8.5, 9.2), layout="constrained")
    grid = figure.subplots(len(rows), len(_P))
    for line, (label, values, masks) in zip(grid, rows, strict=True):
        for axes, value, mask in zip(line, values, masks, strict=True):
            _draw(axes, mask[0], value)
        line[0].set_ylabel(label, fontsize=10)
    figure.suptitle("One number changes in each row; the others are p 2, gamma 1, theta 0", fontsize=11)
    write_figure(path, figure, dpi=110, metadata={"Software": None})


def _mask(p: float = 2.0, scale: float = 1.0, gamma: float = 1.0, theta: float = 0.0, left: float = 0.0) -> Tensor:
    cos, sin = math.cos(math.radians(left)), math.sin(math.radians(left))
    C = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64) @ conformation_matrix(_ALPHA * scale, gamma, theta)
    return lp_mask(C, torch.tensor([math.log2(p)], dtype=torch.float64), (_SIZE, _SIZE))


def _draw(axes: Any, mask: Tensor, title: str) -> None:
    axes.imshow(mask.numpy(), cmap="magma", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
