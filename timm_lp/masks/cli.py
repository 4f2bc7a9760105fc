"""The command line of the masks' numbers and pictures."""

import argparse
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.utils import logging as hub_logging
from tqdm import tqdm

from ..command import CommandParser, failures_in_one_line
from ..files import write_json, write_text
from .demo import demonstration
from .gallery import draw_gallery
from .networks import POOLING, Group, load_groups
from .plots import plot_conformation, plot_p
from .report import masks_to_csv, to_csv, to_json, to_markdown
from .shapes import draw_shapes

_logger = logging.getLogger(__name__)


@failures_in_one_line("python -m timm_lp.masks")
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and the pictures of the masks of some networks, and print the tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a network has no masks, or cannot be had; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    hub_logging.disable_propagation()  # it prints its warnings itself
    options = _parser().parse_args(arguments)
    groups = load_groups(options.networks, options.pool) if options.networks else [demonstration()]
    folder = options.output_dir
    text = to_markdown(groups)
    write_text(folder / "report.md", text)
    write_text(folder / "report.csv", to_csv(groups))
    write_text(folder / "masks.csv", masks_to_csv(groups))
    write_json(folder / "results.json", to_json(groups))
    try:
        _draw(groups, folder)
    except ImportError:
        _logger.warning("No pictures: matplotlib is not installed. `pip install matplotlib` brings it.")
    print(f"{text}\nTables and pictures: {folder}")


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


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m timm_lp.masks",
        description="What the masks of networks look like: tables and pictures, layer by layer.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help="a registered name, hf-hub:ORG/NAME, local-dir:FOLDER or a trial's folder; "
        "if none is given, a demonstration whose masks no training moved",
    )
    parser.add_argument(
        "--pool",
        choices=POOLING,
        default=POOLING[0],
        help="which networks to take together: trials, whose names differ only in the -seed1 at their end; "
        "all; or none (default: trials)",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("output/masks"), help="default: output/masks")
    return parser
