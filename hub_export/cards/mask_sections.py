"""What a model's card says of its masks."""

from collections.abc import Sequence
from itertools import groupby

import torch

from timm_lp.masks.report import percent
from timm_lp.masks.statistics import (
    BY_CHANCE,
    ELONGATED,
    NEAR,
    ORIENTED,
    LayerMasks,
    Spread,
    orientation_shares,
    share,
)

from .templates import by, table

BIOLOGY_NOTE = (
    "The paper fits p of about 2 to the functional synapses of mouse V1 (layer 2/3), and of 3.7 to 3.8 to the weighted "
    "inputs of a trained AlexNet's first layer (Figure 1). It fits distributions of standardised offsets, with one "
    "width for all directions, and no masks. So a mask's p can be set beside them as a tendency only, also because "
    "masks end near their start (Tables 6 and 7)."
)


def masks_note(layers: Sequence[LayerMasks]) -> str:
    """Return how far the masks are from new ones, in words."""
    p, sigma = Spread.over(layer.p_change for layer in layers), Spread.over(layer.sigma_change for layer in layers)
    text = (
        f"Each of the {sum(map(len, layers)):,} masks has an exponent p (2 is a Gaussian, 16 almost a box) and a width "
        "sigma along the kernel's height and width."
    )
    if all(layer.are_new for layer in layers):
        return f"{text} They are as new."
    if str(p) == str(sigma) == "1":
        return f"{text} Their p and sigma are within 0.5 % of those of new masks."
    return (
        f"{text} They have {p} times the p of new masks (median {p.median:.3f}), and {sigma} times their sigma (median "
        f"{sigma.median:.3f})."
    )


def moved_table(layers: Sequence[LayerMasks]) -> str:
    """Return what moved from the start, and what of it can be set beside biology; empty where nothing moved."""
    if all(layer.are_new for layer in layers):
        return ""
    p, moved, sigma, gamma, theta = (
        torch.cat(values)
        for values in zip(
            *((m.p, m.p_moved, m.sigma_change.flatten(), m.conformation.gamma, m.conformation.theta) for m in layers),
            strict=True,
        )
    )
    p_start = ", ".join(f"{start:g}" for start in sorted({layer.p_init for layer in layers}))
    gamma_start = Spread.of(torch.tensor([max(layer.sigma_init) / min(layer.sigma_init) for layer in layers]))
    long = f"{_median(gamma)}; {percent(share(gamma > ELONGATED))} above {ELONGATED:g}"
    rows = [
        ("p", p_start, f"{_median(p)}; {percent(share(moved))} moved", "as a tendency"),
        ("sigma over its start", "1", _median(sigma), "no: the offsets are standardised"),
        ("gamma: longest over shortest width", gamma_start, long, "no: one width is fitted"),
        (f"direction where gamma is above {ORIENTED:g}", "-", _directions(gamma, theta), "no: no figure is given"),
    ]
    return table(("masks", "at the start", "now: median (range)", "comparable with biology"), rows, left=4)


def masks_table(layers: Sequence[LayerMasks]) -> str:
    """Return the masks' p and sigma by kernel size, as a table."""
    rows = []
    for size, group in groupby(sorted(layers, key=lambda m: m.kernel_size, reverse=True), lambda m: m.kernel_size):
        same = list(group)
        p, sigma = Spread.over(layer.p for layer in same), Spread.over(layer.sigma for layer in same)
        rows.append((by(size), len(same), f"{sum(map(len, same)):,}", p, sigma))
    return table(("kernel", "layers", "masks", "p", "sigma (pixels)"), rows) if rows else ""


def layers_table(layers: Sequence[LayerMasks]) -> str:
    """Return the masks' statistics layer by layer, as a table; empty where no layer's masks differ."""
    if all(layer.are_alike for layer in layers):
        return ""
    header = (
        *("layer", "kernel", "masks", "p start", "p min", "median", "max"),
        *("sigma start (pixels)", "min", "median", "max", "gamma median", "max"),
    )
    rows = [
        (
            *(layer.fqn, by(layer.kernel_size), len(layer), f"{layer.p_init:g}"),
            *(f"{value:.3f}" for value in Spread.of(layer.p)),
            "x".join(f"{sigma:g}" for sigma in dict.fromkeys(layer.sigma_init)),
            *(f"{value:.3f}" for value in Spread.of(layer.sigma)),
            *(f"{value:.2f}" for value in Spread.of(layer.conformation.gamma)[1:]),
        )
        for layer in layers
    ]
    return table(header, rows)


def _median(values: torch.Tensor) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.3g} ({spread})"


def _directions(gamma: torch.Tensor, theta: torch.Tensor) -> str:
    count = int((gamma > ORIENTED).sum())
    if not count:
        return "none has one"
    horizontal, vertical = orientation_shares(gamma, theta)
    return (
        f"{count:,} have one: {percent(horizontal)} within {NEAR:g} degrees of horizontal, {percent(vertical)} of "
        f"vertical ({percent(BY_CHANCE)} each if at random)"
    )
