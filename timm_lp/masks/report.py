"""The page of masks: Markdown and pictures for people, CSV and JSON for programs."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from ..markup import Page
from ..reporting import NOTHING, csv_text, markdown_rows, write_page
from .gallery import draw_gallery, draw_shapes
from .group import Group
from .history import animate
from .plots import plot_conformation, plot_p
from .statistics import BY_CHANCE, ELONGATED, NEAR, ORIENTED, LayerMasks, LayerSummary, all_masks, summarize

DEMONSTRATION_NOTE = (
    "A demonstration: untrained networks whose masks were moved at random. Nothing was learned, so nothing can be "
    "concluded. Name networks of yours to see theirs."
)
_ALL = "all layers"
_COLUMNS = (
    *("network", "layer", "channel", "p", "p_init", "alpha", "gamma", "theta", "u_angle"),
    *("radius", "radius_in_kernel", "sigma_height", "sigma_width"),
)
_LEGEND = f"""\
- p: median and standard deviation over the masks; "moved" is the share whose p is not that of the start.
- alpha: median scale, the root of the mask's squared widths along both its axes. It compares sizes at one p only.
- radius: median root mean square radius of the mask, and of what the kernel's taps leave of it. It compares all sizes.
- gamma: median distortion, the width along the long axis over that along the short one, and the share above \
{ELONGATED:g}.
- oriented: masks with gamma above {ORIENTED:g}. Of these, the shares with theta within {NEAR:g} degrees of 0 (long \
along the width: horizontal, sees a row) and of 90 (long along the height: vertical, sees a column). Of directions at \
random, each is {BY_CHANCE:.0%}."""


def write_masks(groups: Sequence[Group], folder: Path) -> str:
    """Write the tables and the pictures of masks, and return the tables and where all lies.

    Args:
        groups: The networks' masks.
        folder: Where to.
    """
    text = to_markdown(groups).rstrip("\n")
    pictures: dict[str, Callable[[Path], None]] = {"shapes.png": draw_shapes, "p.png": partial(plot_p, groups)}
    for group, ending in zip(groups, _endings(groups), strict=True):
        pictures[f"gallery{ending}.png"] = partial(draw_gallery, group)
        pictures[f"conformation{ending}.png"] = partial(plot_conformation, group)
        if group.history:
            pictures[f"animation{ending}.gif"] = partial(animate, group.name, group.history)
    page = write_page(
        folder,
        "report",
        text,
        tables={"report.csv": to_csv(groups), "masks.csv": masks_to_csv(groups)},
        data={"results.json": to_json(groups)},
        pictures=pictures,
        progress=partial(tqdm, desc="pictures", unit="picture", disable=None),
    )
    return f"{text}\n\n{page}"


def summaries(group: Group) -> list[LayerSummary]:
    """Return the lines of a group's table: each layer, and all layers together where p started alike."""
    lines = [summarize([layer]) for layer in group.layers]
    if len(lines) > 1 and len({layer.p_init for layer in group.layers}) == 1:
        lines.append(summarize(group.layers, _ALL))
    return lines


def table(model: nn.Module) -> Page:
    """Return the numbers of the masks of a network in memory, layer by layer, as Markdown; notebooks show it.

    Args:
        model: A network with `LpConv2d` layers, of any library.

    Raises:
        ValueError: If it has no masks, or one is not finite.
    """
    return Page(_layer_table(Group(type(model).__name__, (), all_masks(model))))


def to_markdown(groups: Sequence[Group]) -> str:
    """Return the tables of some groups, and how to read them."""
    parts = ["# Masks", *([DEMONSTRATION_NOTE] if _is_demonstration(groups) else []), _LEGEND]
    for group in groups:
        trials = f"{len(group.networks)} networks together: " if len(group.networks) > 1 else ""
        parts += [f"## {group.name}", trials + ", ".join(f"`{name}`" for name in group.networks), _layer_table(group)]
    parts += _comparisons(groups)
    return "\n\n".join(parts) + "\n"


def to_csv(groups: Sequence[Group]) -> str:
    """Return the lines of all tables: one for each layer, and one for all layers together."""
    header = ["network", *(field.name for field in fields(LayerSummary))]
    lines = [[group.name, *asdict(line).values()] for group in groups for line in summaries(group)]
    return _csv(header, lines)


def masks_to_csv(groups: Sequence[Group]) -> str:
    """Return every mask's numbers, as they are: infinite and undefined ones too."""
    return _csv(_COLUMNS, [line for group in groups for layer in group.layers for line in _mask_lines(group, layer)])


def to_json(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the tables as JSON holds them; what is infinite or undefined is null."""
    return {
        "demonstration": _is_demonstration(groups),
        "groups": [
            {
                "name": group.name,
                "networks": list(group.networks),
                "layers": [
                    {name: _finite_or_none(value) for name, value in asdict(line).items()} for line in summaries(group)
                ],
            }
            for group in groups
        ],
    }


def _endings(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what tells the groups' pictures apart; nothing for one group."""
    for number, group in enumerate(groups, start=1):
        name = re.sub(r"[^\w.]+", "-", group.name).strip("-")
        yield f"-{number}-{name}" if len(groups) > 1 else ""


def _is_demonstration(groups: Sequence[Group]) -> bool:
    return any(group.is_demonstration for group in groups)


def _layer_table(group: Group) -> str:
    header = (
        *("layer", "kernel", "masks", "p start", "p", "moved", "alpha (px)", "radius (px)", "in kernel (px)"),
        *("gamma", f"above {ELONGATED:g}", "oriented", "near 0", "near 90"),
    )
    return markdown_rows(header, [_layer_line(line) for line in summaries(group)], left=2)


def _layer_line(line: LayerSummary) -> list[str]:
    return [
        *(line.layer, line.kernel, f"{line.masks:,}", f"{line.p_init:g}", _p(line), percent(line.p_moved)),
        *(f"{line.alpha:.2f}", f"{line.radius:.2f}", f"{line.radius_in_kernel:.2f}"),
        *(f"{line.gamma:.2f}", percent(line.elongated)),
        *(f"{line.oriented:,}", percent(line.horizontal), percent(line.vertical)),
    ]


def _comparisons(groups: Sequence[Group]) -> list[str]:
    """Return a table of p, layers by networks, for each set of networks that have the same layers (Tables 6 and 7)."""
    alike: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        alike.setdefault(tuple(layer.fqn for layer in group.layers), []).append(group)
    tables = [_comparison(same) for same in alike.values() if len(same) > 1]
    return ["## p side by side", "Median and standard deviation, as in Tables 6 and 7 of the paper.", *tables] * bool(
        tables
    )


def _comparison(groups: Sequence[Group]) -> str:
    groups = sorted(groups, key=lambda group: group.layers[0].p_init)
    columns = [[_p(line) for line in summaries(group)[: len(group.layers)]] for group in groups]
    lines = [
        [str(number), layer.fqn, *cells]
        for number, (layer, *cells) in enumerate(zip(groups[0].layers, *columns, strict=True), start=1)
    ]
    return markdown_rows(["", "layer", *(group.name for group in groups)], lines, left=2)


def _mask_lines(group: Group, layer: LayerMasks) -> list[list[Any]]:
    numbers = (
        *(layer.p, *layer.conformation, layer.left_angle),
        *(layer.radius, layer.radius_in_kernel, *layer.sigma.unbind(dim=1)),
    )
    channels = len(layer) // len(group.networks)
    return [
        [group.networks[index // channels], layer.fqn, index % channels, values[0], layer.p_init, *values[1:]]
        for index, values in enumerate(zip(*(number.tolist() for number in numbers), strict=True))
    ]


def _csv(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    return csv_text(
        header, [[f"{value:.7g}" if isinstance(value, float) else value for value in line] for line in lines]
    )


def _p(line: LayerSummary) -> str:
    return f"{line.p_median:.2f} ± {line.p_std:.2f}"


def percent(share: float) -> str:
    """Return a share as text, in percent; what is little or nearly all does not look like none or all."""
    if math.isnan(share):
        return NOTHING
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
