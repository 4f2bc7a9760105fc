"""The measured figures that the README states are those of the result file."""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from timm_lp.experiments.sudoku.flags import parse_arguments

PACKAGE = Path(__file__).parents[3] / "timm_lp" / "experiments" / "sudoku"
MEASURED = json.loads((PACKAGE / "recipes" / "onehot64.json").read_text())
README = (PACKAGE / "README.md").read_text().partition("## A measured result")[2]
SEEDS = {entry["variant"]: entry["metrics"] for entry in MEASURED["results"]}


def _cell(variant: str, metric: str, digits: int = 2) -> str:
    values = [*SEEDS[variant][metric].values()]
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}" if any(values) else "0"


def test_the_result_is_that_of_its_recipe() -> None:
    config, _ = parse_arguments(["--config", "onehot64.yaml", "--mixed-precision", "no"])
    assert [*SEEDS] == config.variants
    for metrics in SEEDS.values():
        assert {*map(int, metrics["blank"])} == {*config.seeds}
    settings: dict[str, Any] = MEASURED["recipe"]["settings"]
    assert {name: value for name, value in vars(config).items() if name in settings} == {
        name: value for name, value in settings.items() if name in vars(config)
    }


def test_the_readmes_table_is_the_measured_one() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("|")]
    stated = {cells[0]: cells[1:8] for cells in rows if cells[0] in SEEDS and len(cells) == 9}
    for variant in SEEDS:
        assert stated[variant] == [
            *(_cell(variant, metric) for metric in ("row", "column", "box", "blank")),
            f"{fmean(SEEDS[variant]['loss'].values()):.3f}",
            _cell(variant, "stepwise_blank"),
            _cell(variant, "stepwise_exact", digits=1),
        ]


@pytest.mark.parametrize("metric", ["blank", "row", "column", "box"])
def test_the_readmes_differences_are_the_measured_ones(metric: str) -> None:
    base, lp2, large = (fmean(SEEDS[variant][metric].values()) for variant in ("base", "lp2", "large"))
    sentence = " ".join(README.partition("- `lp2` is ahead of `base` by")[2].partition("\n- ")[0].split())
    assert {f"{lp2 - base:.1f}", f"{large - base:.1f}"} <= {*sentence.replace(",", "").split()}
