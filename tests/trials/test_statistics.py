import math

import pytest
from scipy import stats

from timm_lp.trials.statistics import Cell, Measurement, Table, confidence_interval, tabulate

ROWS, COLUMNS = ["base", "large", "lp2"], {"dtd": "DTD", "pets": "PETS"}
MEASUREMENTS = [
    *(Measurement("lp2", "dtd", seed, value) for seed, value in enumerate([90.0, 91.0], 1)),
    Measurement("lp2", "dtd", 3, None, "an image cannot be read"),
    *(Measurement("base", "dtd", seed, value) for seed, value in enumerate([80.0, 82.0, 81.0], 1)),
    Measurement("large", "dtd", 1, None, "the loss became nan in epoch 2 of 5"),
    *(Measurement("base", "pets", seed, value) for seed, value in enumerate([70.0, 71.0, 69.0], 1)),
    *(Measurement("lp2", "pets", seed, value) for seed, value in enumerate([69.0, 70.5, 68.0], 1)),
]


def _table(base: dict[int, float], lp2: dict[int, float]) -> Table:
    measurements = [
        Measurement(row, "dtd", seed, value)
        for row, values in (("base", base), ("lp2", lp2))
        for seed, value in values.items()
    ]
    return tabulate(measurements, ROWS, {"dtd": "DTD"}, "base")


def test_table() -> None:
    table = tabulate(MEASUREMENTS, ROWS, COLUMNS, "base")
    assert table.rows == ["base", "large", "lp2"]
    assert table.columns == {"dtd": "DTD", "pets": "PETS"}
    assert table.mean("base", "dtd") == 81.0
    assert table.cells["base", "dtd"].std == pytest.approx(1.0)
    assert table.cells["lp2", "dtd"].values == {1: 90.0, 2: 91.0}
    assert table.average("base") == pytest.approx((81 + 70) / 2)
    assert table.average("large") is None
    assert [table.wins(variant) for variant in table.rows] == [1, 0, 1]
    assert table.cells["large", "dtd"].failures == {1: "the loss became nan in epoch 2 of 5"}


def test_rows_stand_as_the_caller_says_and_empty_ones_are_left_out() -> None:
    table = tabulate(MEASUREMENTS, ["lp4", "lp2", "base"], {"pets": "P", "dtd": "D"}, "base")
    assert (table.rows, list(table.columns.values())) == (["lp2", "base"], ["P", "D"])


def test_a_part_keeps_the_correction_for_all_comparisons() -> None:
    whole = tabulate(MEASUREMENTS, ROWS, COLUMNS, "base")
    part = whole.part({"pets": "Pets"})
    assert (part.rows, part.columns) == (["base", "lp2"], {"pets": "Pets"})
    assert part.cells == {place: cell for place, cell in whole.cells.items() if place[1] == "pets"}


def test_equal_means_both_win() -> None:
    table = _table({1: 0.1 + 0.2}, {1: 0.3})
    assert table.mean("base", "dtd") != table.mean("lp2", "dtd"), "rounded differently"
    assert table.best("dtd") == ["base", "lp2"]


def _welch(one: list[float], other: list[float]) -> float:
    """Return the p-value from the formulas."""

    def moments(values: list[float]) -> tuple[float, float]:
        mean = sum(values) / len(values)
        return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)

    (mean_1, v1), (mean_2, v2) = moments(one), moments(other)
    freedom = (v1 + v2) ** 2 / (v1**2 / (len(one) - 1) + v2**2 / (len(other) - 1))
    return 2 * float(stats.t.sf(abs(mean_1 - mean_2) / math.sqrt(v1 + v2), freedom))


def test_p_values_are_welchs_corrected_by_holm() -> None:
    table = tabulate(MEASUREMENTS, ROWS, COLUMNS, "base")
    raw = [_welch([90.0, 91.0], [80.0, 82.0, 81.0]), _welch([69.0, 70.5, 68.0], [70.0, 71.0, 69.0])]
    smaller, larger = sorted(raw)
    assert table.cells["lp2", "dtd"].p_value == pytest.approx(2 * smaller)
    assert table.cells["lp2", "pets"].p_value == pytest.approx(max(2 * smaller, larger))
    assert table.cells["base", "dtd"].p_value is None
    assert table.cells["large", "dtd"].p_value is None


def _paired(differences: list[float]) -> float:
    """Return the p-value from the formulas."""
    mean = sum(differences) / len(differences)
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(differences) - 1) / len(differences))
    return 2 * float(stats.t.sf(abs(mean) / error, len(differences) - 1))


def test_paired_p_values_are_of_the_seeds_that_both_have() -> None:
    table = tabulate(MEASUREMENTS, ROWS, COLUMNS, "base")
    smaller, larger = sorted([_paired([10.0, 9.0]), _paired([-1.0, -0.5, -1.0])])
    assert table.cells["lp2", "dtd"].paired_p_value == pytest.approx(max(2 * smaller, larger))
    assert table.cells["lp2", "pets"].paired_p_value == pytest.approx(2 * smaller)
    assert table.cells["base", "dtd"].paired_p_value is None
    assert table.cells["large", "dtd"].paired_p_value is None


def test_pairs_show_what_the_spread_of_the_draws_hides() -> None:
    base = [40.0, 50.0, 60.0, 70.0]
    cell = _table(dict(enumerate(base)), {seed: value + 1 + seed / 10 for seed, value in enumerate(base)})
    assert cell.cells["lp2", "dtd"].p_value > 0.9
    assert cell.cells["lp2", "dtd"].paired_p_value < 0.001


def test_no_spread_or_no_base_is_no_test() -> None:
    same = {1: 50.0, 2: 50.0}
    cell = _table(same, same).cells["lp2", "dtd"]
    assert (cell.p_value, cell.paired_p_value) == (None, None)
    cell = _table({}, same).cells["lp2", "dtd"]
    assert (cell.p_value, cell.paired_p_value) == (None, None)


def test_one_group_without_spread_has_a_p_value() -> None:
    table = _table(dict.fromkeys((1, 2, 3), 50.0), {seed: 50.0 + seed for seed in (1, 2, 3)})
    assert table.cells["lp2", "dtd"].p_value == pytest.approx(_welch([51.0, 52.0, 53.0], [50.0] * 3))


def test_equal_differences_are_no_pairs() -> None:
    base = {seed: 10.1 * seed for seed in (1, 2, 3)}
    cell = _table(base, {seed: value + 0.3 for seed, value in base.items()}).cells["lp2", "dtd"]
    assert cell.p_value is not None
    assert cell.paired_p_value is None


def test_confidence_interval() -> None:
    low, high = confidence_interval(Cell({1: 1.0, 2: 2.0, 3: 3.0}))
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-4)
    assert confidence_interval(Cell({1: 1.0})) is None
