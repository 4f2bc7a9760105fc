"""The measured figures that the README states are those of the result file."""

import json
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "timm_lp" / "experiments" / "robustness"
MEASURED = json.loads((PACKAGE / "measured" / "short_cifar100.json").read_text())
TEXT = (PACKAGE / "README.md").read_text().split("<!-- measured: short_cifar100 -->\n")[1].partition("\n\n![")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("|")]
STATED = {cells[0]: cells[1:] for cells in ROWS}


def test_the_readmes_table_is_the_measured_one() -> None:
    wins = MEASURED["wins"]["counts"]["resnet18_small_stem"]
    for entry in MEASURED["summary"]:
        scores = [entry[score] for score in ("clean", "mean_common", "mean_all", "mce", "mce_relative")]
        assert STATED[entry["variant"]][:5] == [f"{score['mean']:.2f} ± {score['std']:.2f}" for score in scores]
        won = wins[entry["variant"]]
        text = f"{won['count']:.0f}" + (f" ({won['welch']} / {won['paired']})" if won["count"] else "")
        assert STATED[entry["variant"]][5] == text
    assert len(STATED) == 2 + len(MEASURED["summary"])


def test_the_images_are_named_as_what_they_are() -> None:
    assert MEASURED["data"]["severities"] == [1]
    assert "computed here, not comparable" in MEASURED["data"]["note"]
    assert len(MEASURED["data"]["corruptions"]) == 18
