"""The measured figures that the README states are those of the result file."""

import json
import re
from itertools import product
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t
from statsmodels.stats.multitest import multipletests

from timm_lp.experiments.sudoku.flags import DEMO_RECIPE, parse_arguments
from timm_lp.trials.record import read_record
from timm_lp.trials.statistics import Measurement, tabulate

from ..measured import EXPERIMENTS, ROOT, numbers_after

PACKAGE = EXPERIMENTS / "sudoku"
MEASURED = json.loads((PACKAGE / "recipes" / "onehot64.json").read_text())
SHIPPED = ROOT / "timm_lp" / "models" / "sudoku" / "shipped"
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
    first_page = " ".join((ROOT / "README.md").read_text().split())
    shares = [f"{record.metrics['stepwise_exact']:.0f}" for record in (small, masks)]
    assert f"it solves {shares[0]} % of the puzzles where masks solve {shares[1]} (one seed)" in first_page


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
