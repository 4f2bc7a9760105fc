import math

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from timm_lp.experiments.receptive_fields.fields import FieldFit
from timm_lp.experiments.receptive_fields.likelihood import P_MAX, P_MIN
from timm_lp.experiments.receptive_fields.report import (
    compare_groups,
    exponent_text,
    group_interval,
    results,
    to_csv,
    to_markdown,
)

EXPONENTS = {"a": [1.9, 2.0, 2.2], "b": [2.0, 2.3, 2.4, 2.1], "c": [8.0, 9.0, 7.0], "flat": [P_MAX] * 3, "one": [3.0]}


def _fits(*groups: str) -> list[FieldFit]:
    return [
        FieldFit(
            group,
            f"{place}",
            100,
            p,
            p == P_MAX,
            np.eye(2),
            *((1.5, math.inf, "profile", 0.01) if group == "one" else ()),
        )
        for group in groups or EXPONENTS
        for place, p in enumerate(EXPONENTS[group])
    ]


def _welch(a: list[float], b: list[float]) -> float:
    """Return the p-value of Welch's test of 1/p, written out."""
    x, y = 1 / np.array(a), 1 / np.array(b)
    parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / (len(x) - 1) + parts[1] ** 2 / (len(y) - 1))
    return 2 * t.sf(abs(x.mean() - y.mean()) / sum(parts) ** 0.5, degrees)


def test_the_p_values_are_welchs_after_holm() -> None:
    compared = compare_groups(_fits("a", "b", "c"))
    plain = {pair: _welch(EXPONENTS[pair[0]], EXPONENTS[pair[1]]) for pair in [("a", "b"), ("a", "c"), ("b", "c")]}
    largest = 0.0
    for rank, pair in enumerate(sorted(plain, key=lambda pair: plain[pair])):
        largest = max(largest, min(1, (3 - rank) * plain[pair]))
        assert compared[pair] == pytest.approx(largest, rel=1e-9)


def test_a_flat_group_is_at_0_and_groups_without_spread_are_not_compared() -> None:
    compared = compare_groups(_fits())
    assert {pair for pair in compared if "flat" in pair} == {("a", "flat"), ("b", "flat"), ("c", "flat")}
    assert not any("one" in pair for pair in compared)
    alone = compare_groups(_fits("c", "flat"))["c", "flat"]
    assert alone == pytest.approx(ttest_ind([1 / 8, 1 / 9, 1 / 7], [0, 0, 0], equal_var=False).pvalue)
    assert compare_groups(_fits("flat", "one")) == {}


def test_the_interval_of_a_group() -> None:
    low, high = group_interval([0.5, 0.4, 0.6]) or (0, 0)
    half = t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (low, high) == pytest.approx((1 / (0.5 + half), 1 / (0.5 - half)))
    assert group_interval([0.0, 0.0, 0.01]) == (pytest.approx(1 / (0.01 / 3 + t.ppf(0.975, 2) * 0.01 / 3)), math.inf)
    assert group_interval([0.0, 0.0]) == (math.inf, math.inf)
    assert group_interval([0.5]) is None


def test_the_tables() -> None:
    text = to_markdown(_fits(), synthetic=False)
    assert "ynthetic" not in text
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    }
    groups, _, table = text.partition("## Comparisons")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in groups.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[2:]] == list(EXPONENTS)
    assert lines[2][1:4] == ["3", "100", "2.00"]
    assert lines[5][3:6] == ["> 200", "> 200", "> 200"]
    assert lines[6][3:] == ["3.00", "> 1.50", "3.00 to 3.00", "1 of 1"]
    assert float(rows["c"][0]) == pytest.approx(compare_groups(_fits())["a", "c"], rel=0.05)
    assert (0.001 < float(rows["c"][0]) < 0.01, rows["a"][2]) == (True, r"\*\*")
    assert (float(rows["b"][0]) > 0.05, rows["a"][1]) == (True, "n.s.")
    assert rows["flat"][4] == "-"
    assert "Welch" in table
    assert "## Comparisons" not in to_markdown(_fits("a"), synthetic=False)
    flat = FieldFit("one", "flat", 100, 40.0, True, np.eye(2), 12.3, math.inf)
    assert "| 3.00 to > 12.3 |" in " ".join(to_markdown([*_fits("one"), flat], synthetic=False).split())


def test_an_exponent_at_a_bound_is_shown_as_one() -> None:
    def text(p: float, is_flat: bool, low: float | None = None, high: float | None = None) -> str:
        return exponent_text(FieldFit("a", "b", 100, p, is_flat, np.eye(2), low, high))

    assert [text(3.14159, False), text(P_MAX, True), text(P_MIN, False)] == ["3.14", "> 200", "< 0.30"]
    assert [text(40.0, True, 12.3, math.inf), text(P_MIN, False, 0.0, 0.37)] == ["> 12.3", "< 0.37"]


def test_the_results_have_no_number_that_json_lacks() -> None:
    content = results(_fits(), {"seed": 0}, synthetic=True)
    assert content["synthetic"] is True
    flat, one = content["groups"][3:]
    assert (flat["p_low"], flat["p_high"], flat["flat_fields"]) == (None, None, 3)
    assert one["fields"] == 1
    last = content["fits"][-1]
    assert (last["p_low"], last["p_high"], last["interval"]) == (1.5, None, "profile")
    assert content["comparisons"][0]["groups"] == ["a", "b"]
    lines = to_csv(_fits("one"), synthetic=True).splitlines()
    assert lines == [
        "synthetic,group,unit,num_synapses,p,is_flat,p_low,p_high,interval,gaussian_p_value,sigma",
        "True,one,0,100,3.0,False,1.5,,profile,0.01,1.0",
    ]
