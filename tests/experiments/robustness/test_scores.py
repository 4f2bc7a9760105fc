"""Means, errors and wins, against numbers computed by hand."""

from collections.abc import Mapping

import pytest

from timm_lp.experiments.data.corruptions import CLEAN
from timm_lp.experiments.data.corruptions.functions import CORRUPTIONS, is_common
from timm_lp.experiments.robustness.measure import Result
from timm_lp.experiments.robustness.networks import Candidate
from timm_lp.experiments.robustness.scores import Scores, column, mean_corruption_error


def results(
    variant: str, seed: int | None, tops: Mapping[tuple[str, int], float | None], model: str = "resnet18"
) -> list[Result]:
    subject = Candidate(f"{model}/{variant}-seed{seed}", model=model, variant=variant, seed=seed)
    return [Result(subject, *place, top, top, None if top is not None else "nan") for place, top in tops.items()]


def test_means_over_15_and_over_19_stand_apart() -> None:
    tops = {(name, step): 50.0 + step if is_common(name) else 10.0 for name in CORRUPTIONS for step in (1, 3)}
    scores = Scores(results("base", 1, {(CLEAN, 0): 70.0, **tops}))
    assert scores.summary("mean_common").mean("base", "resnet18") == pytest.approx(52)
    assert scores.summary("mean_all").mean("base", "resnet18") == pytest.approx((15 * 52 + 4 * 10) / 19)
    assert scores.summary("clean").mean("base", "resnet18") == 70
    assert scores.summary("mce").mean("base", "resnet18") == pytest.approx(48)
    assert (scores.corruptions, scores.severities) == ([*CORRUPTIONS], [1, 3])


def test_the_mean_corruption_error() -> None:
    errors = {"fog": [10.0, 30.0], "snow": [20.0, 60.0]}
    of_base = {"fog": [20.0, 20.0], "snow": [40.0, 120.0]}
    assert mean_corruption_error(errors) == 30  # of 20 and 40
    assert mean_corruption_error(errors, of_base) == 75  # of 40 / 40 and 80 / 160
    assert mean_corruption_error({**errors, "fog": [10.0, None]}) is None
    assert mean_corruption_error(errors, {**of_base, "fog": [0.0, 0.0]}) is None
    assert mean_corruption_error(errors, {**of_base, "snow": [None, 1.0]}) is None


def test_errors_are_relative_to_the_mean_of_bases_seeds() -> None:
    scores = Scores(
        [
            *results("base", 1, {("fog", 1): 80.0, ("snow", 1): 60.0}),
            *results("base", 2, {("fog", 1): 60.0, ("snow", 1): 60.0}),
            *results("lp2", 1, {("fog", 1): 85.0, ("snow", 1): 80.0}),
        ]
    )
    relative = scores.summary("mce_relative")
    assert relative.mean("lp2", "resnet18") == pytest.approx(50)  # 15 / 30 and 20 / 40
    assert relative.cells["base", "resnet18"].values == {
        1: pytest.approx(100 * (20 / 30 + 1) / 2),
        2: pytest.approx(100 * (40 / 30 + 1) / 2),
    }


def test_without_base_nothing_is_relative_to_it() -> None:
    scores = Scores(results("lp2", 1, {("fog", 1): 85.0}))
    assert scores.summary("mce_relative").mean("lp2", "resnet18") is None
    assert scores.summary("mce").mean("lp2", "resnet18") == 15


def test_wins_are_counted_ties_shared_and_only_clear_ones_stand() -> None:
    """lp2 is clearly above base in fog, hardly in snow, level in frost, below in contrast."""
    tops = {
        "base": {"fog": (50, 51, 52), "snow": (50, 60, 70), "frost": (40, 41, 42), "contrast": (30, 31, 32)},
        "lp2": {"fog": (90, 91, 92.1), "snow": (51, 62, 70), "frost": (40, 41, 42), "contrast": (20, 21, 22.1)},
        "large": {"fog": (10, 11, 12.1), "snow": (10, 20, 30.1), "frost": (10, 12, 13), "contrast": (10, 11, 12.2)},
    }
    scores = Scores(
        [
            result
            for variant, of_variant in tops.items()
            for seed in (1, 2, 3)
            for result in results(variant, seed, {(name, 1): float(own[seed - 1]) for name, own in of_variant.items()})
        ]
    )
    table = scores.by_corruption(1)
    wins = scores.wins(table, "resnet18")
    assert {row: own.count for row, own in wins.items()} == {"base": 1.5, "large": 0, "lp2": 2.5}
    assert (wins["lp2"].welch, wins["lp2"].paired) == (1, 1)
    assert (wins["base"].welch, wins["base"].paired, wins["large"].welch) == (0, 0, 0)
    place = column("resnet18", "fog")
    assert table.cells["lp2", place].p_value < 0.001  # type: ignore[operator] # it is there


def test_networks_without_a_seed_are_paired_with_none() -> None:
    tops = [{("fog", 1): top} for top in (50.0, 52.0, 60.0, 63.0)]
    several = zip(("base", "base", "lp2", "lp2"), tops, strict=True)
    table = Scores([result for row, own in several for result in results(row, None, own)]).by_corruption(1)
    cell = table.cells["lp2", column("resnet18", "fog")]
    assert sorted(cell.values.values()) == [60, 63]
    assert cell.p_value is not None
    assert cell.paired_p_value is None


def test_what_could_not_be_measured_leaves_no_mean() -> None:
    scores = Scores(results("lp2", 1, {("fog", 1): None, ("snow", 1): 50.0}))
    assert scores.summary("mean_all").mean("lp2", "resnet18") is None
    assert scores.by_corruption(1).mean("lp2", column("resnet18", "snow")) == 50
