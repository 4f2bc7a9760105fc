"""The tables and the pictures of the masks of some networks, in a folder."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..reporting import write_page
from .gallery import draw_gallery
from .networks import Group
from .plots import plot_conformation, plot_p
from .report import masks_to_csv, to_csv, to_json, to_markdown
from .shapes import draw_shapes


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


def _endings(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what tells the groups' pictures apart; nothing for one group."""
    for number, group in enumerate(groups, start=1):
        name = re.sub(r"[^\w.]+", "-", group.name).strip("-")
        yield f"-{number}-{name}" if len(groups) > 1 else ""
