"""The measured figures that the README states are those of the result file."""

from ..measured import read_measured

MEASURED, ROWS = read_measured("robustness")
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
