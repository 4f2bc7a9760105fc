"""The measured figures that the README states are those of the result file."""

import json
import re
import shlex
from functools import partial
from itertools import product
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import t, ttest_ind, ttest_rel
from statsmodels.stats.multitest import multipletests
from torch import nn

from timm_lp.experiments.sudoku.flags import DEMO_RECIPE, parse_arguments
from timm_lp.models.sudoku import create_network
from timm_lp.trials.record import read_record
from timm_lp.trials.statistics import Measurement, tabulate

from ..measured import EXPERIMENTS, ROOT, numbers_after

PACKAGE = EXPERIMENTS / "sudoku"
MEASURED = json.loads((PACKAGE / "recipes" / "onehot64.json").read_text())
SHIPPED = ROOT / "timm_lp" / "models" / "sudoku" / "shipped"
README = (PACKAGE / "README.md").read_text().partition("## A measured result")[2]
EQUAL_TIME = json.loads((PACKAGE / "recipes" / "equal_cost.json").read_text())
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


def test_the_network_that_ships_is_that_of_its_recipe() -> None:
    record = read_record(SHIPPED / "trial.json")
    config, _ = parse_arguments(["--config", "solver.yaml"])
    assert {name: value for name, value in vars(config).items() if name in record.settings} == {
        name: value for name, value in record.settings.items() if name in vars(config)
    }
    assert [(record.variant, record.seed)] == [*product(config.variants, config.seeds)]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 1.5e6


def test_the_network_that_ships_stands_beside_small_kernels_at_equal_size_and_puzzles() -> None:
    masks, small = read_record(SHIPPED / "trial.json"), read_record(PACKAGE / "recipes" / "solver_base.json")
    assert {key for key, value in masks.settings.items() if small.settings[key] != value} == {"channels"}
    text = " ".join((PACKAGE / "README.md").read_text().split())
    assert f"one-hot input, {masks.parameters:,} parameters" in text
    assert f"`base` with {small.settings['channels']} channels" in text
    assert f"{small.parameters:,} parameters) sees the same" in text
    solved = [f"{record.metrics['stepwise_exact']:.1f} %" for record in (small, masks)]
    assert f"solves {solved[0]} of the run's 1,000 test puzzles" in text
    assert f"where `lp2` solves {solved[1]}" in text


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


SHOWN = {name: name for name in ("blank", "row", "column", "box")}
TABLE = tabulate(
    [
        Measurement(variant, name, int(seed), value)
        for variant, metrics in SEEDS.items()
        for name in SHOWN
        for seed, value in metrics[name].items()
    ],
    [*SEEDS],
    SHOWN,
    "base",
)


def _gains(variant: str) -> tuple[list[float], list[float], list[float]]:
    """Return a variant's means minus base's, and the p-values of both tests, in the order of `SHOWN`."""
    means = [fmean(SEEDS[variant][name].values()) - fmean(SEEDS["base"][name].values()) for name in SHOWN]
    cells = [TABLE.cells[variant, name] for name in SHOWN]
    return means, [cell.p_value or 0.0 for cell in cells], [cell.paired_p_value or 0.0 for cell in cells]


def test_the_readmes_sentences_are_about_the_measured_figures() -> None:
    readme = PACKAGE / "README.md"
    (lp2, p_lp2, paired), (large, p_large, _), (lp16, p_lp16, paired_lp16) = map(_gains, ("lp2", "large", "lp16"))
    assert max(p_lp2) < 0.001
    assert f"{lp2[1]:.1f}" == f"{lp2[2]:.1f}"
    ahead = [lp2[0], lp2[1], lp2[3], *large]
    texts = [f"{value:.1f}" for value in ahead]
    assert numbers_after("- `lp2` is ahead of `base` by", readme)[:10] == [
        *(*texts[:3], "0.001", f"{max(paired):.3f}"),
        *(*texts[3:], f"{max(p_large):.3f}"),
    ]
    others = f"{max(lp16[1:]):.1f}", f"{min(p_lp16[1:]):.3f}"
    assert numbers_after("- `lp16`, whose masks start", readme) == [
        *(f"{lp16[0]:.1f}", f"{p_lp16[0]:.3f}", f"{paired_lp16[0]:.3f}", *others)
    ]
    solved = [f"{fmean(SEEDS[variant]['stepwise_exact'].values()):.0f}" for variant in ("lp2", "large", "base")]
    assert numbers_after("- Filling one cell at a time, ", readme) == solved[:2]
    assert numbers_after("Masks learn what a task asks for", ROOT / "README.md")[:2] == solved[:2]
    assert solved[2] == "0"


def _metrics(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    content = json.loads((PACKAGE / "recipes" / f"{row['results']}.json").read_text())
    return next(entry["metrics"] for entry in content["results"] if entry["variant"] == row["variant"])


def _minutes(row: dict[str, Any]) -> float:
    return row["seconds"] * row["puzzles"] / 6400 / 60


def test_the_readmes_table_at_equal_time_is_the_measured_one() -> None:
    text = README.split("<!-- measured: equal_cost -->\n")[1].partition("\n\n")[0]
    stated = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]

    def cell(row: dict[str, Any], metric: str, digits: int) -> str:
        values = [*_metrics(row)[metric].values()]
        return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}" if any(values) else "0"

    assert stated == [
        [
            *(row["variant"], f"{row['channels']}", f"{row['puzzles']:,}", f"{row['parameters']:,}"),
            f"{_minutes(row):.1f}",
            *(cell(row, metric, 2) for metric in ("blank", "stepwise_blank")),
            cell(row, "stepwise_exact", 1),
        ]
        for row in EQUAL_TIME["rows"]
    ]
    assert {tuple(_metrics(row)["blank"]) for row in EQUAL_TIME["rows"]} == {("1", "2", "3")}


def test_the_costs_at_equal_time_are_those_of_the_networks() -> None:
    for row in EQUAL_TIME["rows"]:
        network = create_network(variant=row["variant"], channels=row["channels"], depth=10, inputs="one-hot")
        assert row["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert row["macs"] == 81 * sum(conv.weight.numel() for conv in convs), "at each cell, each weight once"


@pytest.mark.parametrize("name", ["wider", "longer"])
def test_a_result_at_equal_time_is_that_of_its_command(name: str) -> None:
    recipe = json.loads((PACKAGE / "recipes" / f"onehot64_{name}.json").read_text())["recipe"]
    config, _ = parse_arguments(shlex.split(recipe["command"])[2:])
    now = {key: value for key, value in config.trial_settings().items() if key in recipe["settings"]}
    assert now == {key: recipe["settings"][key] for key in now}
    assert recipe["command"] in " ".join(README.replace("\\\n", "").split())


def test_the_readmes_sentences_at_equal_time_are_about_the_measured_figures() -> None:
    _, wider, longer, large, lp2 = EQUAL_TIME["rows"]
    assert all(_minutes(row) < _minutes(lp2) for row in (wider, longer, large))
    tested = [(row, metric) for row in (longer, wider) for metric in ("stepwise_exact", "blank")]
    pairs = [tuple([*_metrics(row)[metric].values()] for row in (one, lp2)) for one, metric in tested]
    welch, paired = (
        multipletests([test(*pair).pvalue for pair in pairs], method="holm")[1]
        for test in (partial(ttest_ind, equal_var=False), ttest_rel)
    )
    solved, blanks = (
        {row["results"]: fmean(_metrics(row)[metric].values()) for row in (wider, longer, lp2)}
        for metric in ("stepwise_exact", "blank")
    )
    long, wide, masks = "onehot64_longer", "onehot64_wider", "onehot64"
    readme = PACKAGE / "README.md"
    assert numbers_after("- **Small kernels that train as long, in more steps", readme) == [
        *(f"{solved[long]:.1f}", f"{solved[masks]:.1f}", f"{blanks[long]:.1f}", f"{blanks[masks]:.1f}"),
        *(f"{max(welch[:2]):.3f}", f"{max(paired[:2]):.3f}"),
    ]
    assert numbers_after("- **Wider ones, in as many steps, do not**", readme)[:5] == [
        *(f"{solved[wide]:.1f}", f"{blanks[wide]:.1f}", f"{100 * _minutes(wider) / _minutes(lp2):.0f}"),
        *(f"{max(welch[2:]):.3f}", f"{max(paired[2:]):.3f}"),
    ]
    first_page = " ".join((ROOT / "README.md").read_text().split())
    text = f"solves {solved[long]:.0f} % of the puzzles where masks solve {solved[masks]:.0f}"
    assert text in first_page


def test_the_readmes_p_values_of_ablations_are_those_of_its_differences() -> None:
    """The t-test of a mean over three networks, from it and its deviation."""
    rows = [line.split("|")[-2] for line in README.splitlines() if line.startswith(("| around ", "| as many random"))]
    assert len(rows) == 3
    assert (
        _after_holm(rows)
        == numbers_after("So masks along columns matter to columns more than to rows", PACKAGE / "README.md")[:3]
    )
    sentence = " ".join(README.split()).partition("no direction stands out (column - row ")[2].partition(")")[0]
    differences, _, least = sentence.partition("; p at least ")
    assert min(_after_holm(differences.split(","))) == least


def _after_holm(differences: list[str]) -> list[str]:
    p_values = []
    for difference in differences:
        mean, deviation = map(float, re.findall(r"[-+]?\d+\.\d+", difference))
        p_values.append(2 * t.sf(abs(mean) / (deviation / 3**0.5), 2))
    return [f"{p:.2f}" for p in multipletests(p_values, method="holm")[1]]


def test_the_readme_says_how_much_the_demonstration_trains() -> None:
    config, _ = parse_arguments(["--config", str(DEMO_RECIPE)])
    stated = numbers_after("That needs no data: it generates", PACKAGE / "README.md")
    assert stated == [f"{config.puzzles:,}", *map(str, (config.channels, config.depth)), f"{config.puzzles_seen:,}"]
