import re
from pathlib import Path

import pytest

from timm_lp.experiments.data.corruptions.functions import CORRUPTIONS
from timm_lp.experiments.data.corruptions.images import CorruptedSet
from timm_lp.experiments.robustness.plot import plot
from timm_lp.experiments.robustness.scores import Scores

from .test_scores import results


def _texts(scores: Scores, path: Path, heading: str = "") -> list[str]:
    """Return what stands in the picture; in SVG files, matplotlib leaves it as comments."""
    plot(scores, CorruptedSet("TOYS-C", "made up; of toys", {}, None, 3), path, heading)
    return re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL)


def test_the_picture_shows_corruptions_by_variants(tmp_path: Path) -> None:
    tops: dict[tuple[str, int], float | None] = {(name, 1): 50.0 + place for place, name in enumerate(CORRUPTIONS)}
    failed = {place: None for place in tops}
    rows = [*results("base", 1, tops), *results("lp2", 1, {**tops, ("fog", 1): 33.3}), *results("lp4", 1, failed)]
    texts = _texts(Scores([*rows, *results("base", 1, tops, "vgg16")]), tmp_path / "it.svg", "A heading")
    assert {"base", "lp2", "lp4", "resnet18", "vgg16", "gaussian noise", "spatter (extra)"} <= {*texts}
    assert {"A heading", "TOYS-C", "made up", "of toys"} <= {line for text in texts for line in text.split("\n")}
    assert texts.count("33.3") == 1
    assert texts.count("50.0") == 3
    assert texts.count("failed") == 19
    assert "top-1 minus base (points)" in texts


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_nothing_to_compare_with_has_no_scale(tmp_path: Path, variant: str) -> None:
    texts = _texts(Scores(results(variant, 1, {("fog", 1): 50.0})), tmp_path / "it.svg")
    assert {variant, "fog", "50.0"} <= {*texts}
    assert "top-1 minus base (points)" not in texts
