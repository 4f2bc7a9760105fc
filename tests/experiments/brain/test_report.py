from dataclasses import replace

import numpy as np
import pytest

from timm_lp.experiments.brain.alignment import align, sample_images
from timm_lp.experiments.brain.analysis import Analysis, area_rsms
from timm_lp.experiments.brain.ceiling import Ceiling, ceiling_of
from timm_lp.experiments.brain.comparison import Difference, differences
from timm_lp.experiments.brain.groups import Aligned, groups_of
from timm_lp.experiments.brain.report import difference_rows, to_csv, to_markdown
from timm_lp.experiments.brain.similarity import rsm_of_responses

from .data import IMAGES, small_cortex


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    responses = small_cortex().responses
    samples = sample_images(IMAGES, resamples=10, splits=2, permutations=3, seed=0)
    areas = area_rsms(responses)
    aligned = []
    for group, seed in (("net", 0), ("net", 1), ("other", None)):
        noise = np.random.default_rng(len(aligned)).normal(size=(IMAGES, 1, 9))
        layers = {f"layer{n}": rsm_of_responses(noise + n, True) for n in range(2)}
        aligned.append(Aligned(f"{group} {seed}", group, seed, False, align(layers, areas, samples)))
    groups = groups_of(aligned)
    ceilings = {name: ceiling_of(area, True) for name, area in responses.areas.items()}
    return Analysis(responses, ceilings, groups, differences(groups))


def test_the_tables_have_a_line_for_each_network_and_area(analysis: Analysis) -> None:
    text = to_markdown(analysis)
    net, other = analysis.groups
    taus = net.best_taus[:, 0]
    (line,) = (line for line in text.splitlines() if line.startswith("| net ") and "| fine " in line and "±" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[4] == f"{taus.mean():.3f} ± {taus.std(ddof=1):.3f}"
    assert cells[8] == f"{100 * taus.mean() / analysis.ceilings['fine'].tau:.0f} %"
    assert f"{other.maxima[0]:.3f}" in text
    unrelated = replace(analysis, ceilings={name: Ceiling("halves of trials", 0.0, -0.01) for name in net.areas})
    (line,) = (
        line
        for line in to_markdown(unrelated).splitlines()
        if line.startswith("| other ") and "| fine " in line and "%" not in line
    )
    assert line.split("|")[8].strip() == "-", "halves that do not agree give no ceiling to divide by"
    assert text.count("net - other") == 2
    assert "SYNTHETIC cortex, no measurement (fine, coarse)" in text
    assert f"Source: {analysis.responses.source}." in text
    assert "-0.000" not in text


def test_says_why_there_is_no_ceiling_across_mice(analysis: Analysis) -> None:
    kinds = {"fine": Ceiling("none", reason="One mouse has all of it."), "coarse": Ceiling("across mice", 0.5, 0.4)}
    text = to_markdown(replace(analysis, ceilings=kinds))
    assert "\n\nfine: One mouse has all of it.\n\n" in text
    assert "coarse: " not in text


@pytest.mark.parametrize(("p_value", "said"), [(1e-9, "< 0.001"), (0.0123, "0.012"), (None, "-")])
def test_small_p_values_are_bounds(analysis: Analysis, p_value: float | None, said: str) -> None:
    difference = Difference("a", "b", "fine", -1e-6, -0.1, 0.1, 0.5, 2, p_value)
    text = to_markdown(Analysis(analysis.responses, analysis.ceilings, analysis.groups, [difference]))
    (line,) = (line for line in text.splitlines() if line.startswith("| a - b"))
    assert [cell.strip() for cell in line.split("|")][3:8] == ["+0.000", "-0.100 to 0.100", "0.500", "2", said]
    assert "These 16 images tell two networks apart that differ by about 0.100" in text


def test_rows_of_differences_say_where_their_data_come_from(analysis: Analysis) -> None:
    rows = difference_rows(analysis)
    assert [(row["first"], row["area"], row["synthetic"]) for row in rows] == [
        ("net", a, True) for a in ("fine", "coarse")
    ]
    lines = to_csv(rows).splitlines()
    assert lines[0].startswith("first,second,area,difference,low,high,p_images,seeds,p_seeds,synthetic,source")
    assert len(lines) == 3
