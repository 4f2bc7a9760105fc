"""What an experiment's result file holds, and what its README states of it."""

import json
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).parents[2] / "timm_lp" / "experiments"


def read_measured(package: str) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the contents of `measured/short_cifar100.json`, and the rows of the README's tables of it."""
    folder = EXPERIMENTS / package
    measured = json.loads((folder / "measured" / "short_cifar100.json").read_text())
    text = (folder / "README.md").read_text().split("<!-- measured: short_cifar100 -->\n")[1].partition("\n\n![")[0]
    rows = (row for row in text.splitlines() if row.startswith("|"))
    return measured, [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
