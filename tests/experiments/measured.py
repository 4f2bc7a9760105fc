"""What an experiment's result file holds, and what its README states of it."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "timm_lp" / "experiments"


def read_measured(package: str, name: str = "short_cifar100", end: str = "\n\n![") -> tuple[Any, list[list[str]]]:
    """Return the contents of a file in `measured`, and the rows of the README's tables of it, up to `end`."""
    folder = EXPERIMENTS / package
    measured = json.loads((folder / "measured" / f"{name}.json").read_text())
    text = (folder / "README.md").read_text().split(f"<!-- measured: {name} -->\n")[1].partition(end)[0]
    rows = (row for row in text.splitlines() if row.startswith("|"))
    return measured, [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def numbers_after(beginning: str, readme: Path) -> list[str]:
    """Return the numbers, as they are written, of the paragraph or list item of a README that begins so.

    Numbers in names, such as `lp2`, CIFAR-10 and 3x3, do not count.
    """
    _, found, rest = readme.read_text().partition(beginning)
    assert found, f"{readme} lacks {beginning!r}"
    return re.findall(r"(?<![\w.-])\d+(?:,\d{3})*(?:\.\d+)?\b(?!x)", re.split(r"\n- |\n\n", rest)[0])
