from timm_lp.trials.statistics import Measurement, tabulate
from timm_lp.trials.tables import accuracy_table, count_tests, difference_table, failures, number_table

TABLE = tabulate(
    [
        *(Measurement("none", "a", seed, value) for seed, value in enumerate([10.0, 12.0], 1)),
        *(Measurement("blur", "a", seed, value) for seed, value in enumerate([5.0, 8.0], 1)),
        Measurement("blur", "b", 1, 7.0),
        Measurement("fog", "b", 1, None, "it was too dark"),
    ],
    ["none", "blur", "fog"],
    {"a": "alexnet", "b": "vgg16"},
    "none",
)


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "---" not in line]


def test_means_and_spreads() -> None:
    assert _cells(accuracy_table(TABLE, "corruption", {"cost": {"none": "1 s", "blur": "2 s"}})) == [
        ["corruption", "alexnet", "vgg16", "average", "wins", "cost"],
        ["none", "**11.00 ± 1.41**", "-", "-", "1", "1 s"],
        ["blur", "6.50 ± 2.12", "**7.00** (1 of 2 seeds)", "6.75", "1", "2 s"],
        ["fog", "-", "1 of 1 failed, 1 of 2 seeds", "-", "0", "-"],
    ]


def test_measures_of_the_same_thing_have_no_average_and_no_wins() -> None:
    rows = _cells(accuracy_table(TABLE, "corruption", {"cost": {"none": "1 s"}}, summary=False))
    assert rows[:2] == [["corruption", "alexnet", "vgg16", "cost"], ["none", "**11.00 ± 1.41**", "-", "1 s"]]


def test_nothing_is_in_bold_where_all_are_level() -> None:
    measured = [Measurement(row, "a", 1, 0.0) for row in ("none", "blur")]
    rows = _cells(accuracy_table(tabulate(measured, ["none", "blur"], {"a": "alexnet"}, "none"), "corruption"))
    assert [cells[1:] for cells in rows[1:]] == [["0.00", "1"], ["0.00", "1"]]


def test_differences_from_the_baseline() -> None:
    rows = _cells(difference_table(TABLE, "corruption"))
    assert rows[0] == ["corruption", "alexnet", "vgg16"]
    assert rows[1][1].startswith("-4.50 (p 0.")
    assert (rows[1][2], rows[2][1:]) == ("-", ["-", "-"])
    assert count_tests(TABLE) == (1, 1)


def test_failures_are_named() -> None:
    assert failures(TABLE) == "Failed: fog on vgg16, seed 1: it was too dark"


def test_a_number_for_each_cell() -> None:
    assert _cells(number_table({("none", "a"): 1234567, ("blur", "b"): 3}, TABLE, "corruption", ","))[1:] == [
        ["none", "1,234,567", "-"],
        ["blur", "-", "3"],
        ["fog", "-", "-"],
    ]
