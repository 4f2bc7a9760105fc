"""The tables and the pictures of the masks of some networks, in a folder."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ..files import write_json, write_text
from .gallery import draw_gallery
from .networks import Group
from .plots import plot_conformation, plot_p
from .report import masks_to_csv, to_csv, to_json, to_markdown
from .shapes import draw_shapes

_logger = logging.getLogger(__name__)


def write_masks(groups: Sequence[Group], folder: Path) -> str:
    """Write the tables and the pictures of masks, and return the tables; no pictures without matplotlib.

    Args:
        groups: The networks' masks.
        folder: Where to.
    """
    text = to_markdown(groups)
    write_text(folder / "report.md", text)
    write_text(folder / "report.csv", to_csv(groups))
    write_text(folder / "masks.csv", masks_to_csv(groups))
    write_json(folder / "results.json", to_json(groups))
    try:
        _draw(groups, folder)
    except ImportError:
        _logger.warning("No pictures: matplotlib is not installed. `pip install matplotlib` brings it.")
    return text


def _draw(groups: Sequence[Group], folder: Path) -> None:
    draw_shapes(folder / "shapes.png")
    plot_p(groups, folder / "p.png")
    endings = tqdm(list(_endings(groups)), desc="pictures", unit="network", disable=None)
    for group, ending in zip(groups, endings, strict=True):
        draw_gallery(group, folder / f"gallery{ending}.png")
        plot_conformation(group, folder / f"conformation{ending}.png")


def _endings(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what tells the groups' pictures apart; nothing for one group."""
    for place, group in enumerate(groups, start=1):
        name = re.sub(r"[^\w.]+", "-", group.name).strip("-")
        yield f"-{place}-{name}" if len(groups) > 1 else ""
