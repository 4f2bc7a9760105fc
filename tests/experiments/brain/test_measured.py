"""The measured figures that the README states are those of the result file."""

from functools import partial
from statistics import fmean, stdev
from typing import Any

from scipy.stats import ttest_ind, ttest_rel

from ..measured import EXPERIMENTS, numbers_after, read_measured

MEASURED, ROWS = read_measured("brain")
STATED = {cells[0]: cells[1:] for cells in ROWS}
AREAS = ROWS[0][1:]


def _name(group: str) -> str:
    return group.removeprefix("resnet18_small_stem (").removesuffix(")").replace("base, untrained", "untrained")


def _is_of(own: dict[str, Any], name: str, area: str) -> bool:
    return (_name(own["group"]), own["area"]) == (name, area)


def test_the_readmes_taus_are_the_measured_ones() -> None:
    groups = {_name(layer["group"]) for layer in MEASURED["best_layers"]}
    assert groups == {"base", "large", "lp2", "untrained", "pixels"}
    for group in groups:
        for area, cell in zip(AREAS, STATED[group], strict=True):
            found = [own for own in MEASURED["best_layers"] if (_name(own["group"]), own["area"]) == (group, area)]
            taus = [own["tau"] for own in found]
            assert cell == f"{fmean(taus):.3f}" + (f" ± {stdev(taus):.3f}" if len(taus) > 1 else "")
            assert {own["seed"] for own in found} == ({None} if group == "pixels" else {1, 2, 3})


def test_the_readmes_differences_are_the_measured_ones() -> None:
    differences = [cells for cells in ROWS if " - " in cells[0]]
    assert [cells[0] for cells in differences] == ["lp2 - base", "lp2 - large", "large - base"]
    for name, *cells in differences:
        pair = name.split(" - ")
        for area, cell in zip(AREAS, cells, strict=True):
            (own,) = (
                found
                for found in MEASURED["differences"]
                if found["area"] == area and {_name(found["first"]), _name(found["second"])} == {*pair}
            )
            sign = 1 if _name(own["first"]) == pair[0] else -1
            low, high = sorted((sign * own["low"], sign * own["high"]))
            assert cell == f"{sign * own['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def test_the_readmes_sentences_are_about_the_measured_figures() -> None:
    readme = EXPERIMENTS / "brain" / "README.md"
    training = [own for own in MEASURED["differences"] if _name(own["second"]) == "untrained"]
    masks = [own for own in MEASURED["differences"] if own not in training]
    assert numbers_after("- **Masks make no difference", readme) == [
        f"{min(own[p] for own in masks):.3f}" for p in ("p_images", "p_seeds")
    ]
    for area in AREAS:
        large, lp2, base = (
            fmean(own["tau"] for own in MEASURED["best_layers"] if (_name(own["group"]), own["area"]) == (group, area))
            for group in ("large", "lp2", "base")
        )
        assert large < lp2 < base
    gains = [own["difference"] for own in training]
    found = sum(own["p_seeds"] < 0.05 for own in training)
    assert numbers_after("- Training adds", readme) == [
        *(f"{min(gains):.2f}", f"{max(gains):.2f}", f"{max(own['p_images'] for own in training):.3f}"),
        *("0.05", str(found), str(len(training))),
    ]
    halves = [(own["high"] - own["low"]) / 2 for own in masks]
    assert numbers_after("The intervals of differences between", readme) == [f"{min(halves):.3f}", f"{max(halves):.3f}"]
    maxima = []
    for group in ("base", "large", "lp2"):
        own = [layer for layer in MEASURED["best_layers"] if _name(layer["group"]) == group]
        best = [max(layer["tau"] for layer in own if layer["seed"] == seed) for seed in (1, 2, 3)]
        maxima += [f"{fmean(best):.3f}", f"{stdev(best):.3f}"]
    assert numbers_after("That maximum is", readme) == maxima


def test_the_readmes_taus_at_equal_time_are_the_measured_ones() -> None:
    measured, rows = read_measured("brain", "equal_cost", end="\n\n")
    runs = {"ResNet, base, 40": "wider", "ConvNeXt, base, 28": "depthwise_wider"}
    for name, *cells in rows[2:]:
        tau = measured["runs"][f"short_cifar100_{runs.get(name, 'depthwise')}"]["tau"][name.split(", ")[1]]
        assert {tuple(tau[area]) for area in AREAS} == {("1", "2", "3")}
        assert cells == [f"{fmean(tau[area].values()):.3f} ± {stdev(tau[area].values()):.3f}" for area in AREAS]
    assert len(rows) == 6
    tau = {run: of_run["tau"] for run, of_run in measured["runs"].items()}
    masks_of_resnet = {
        area: {f"{own['seed']}": own["tau"] for own in MEASURED["best_layers"] if _is_of(own, "lp2", area)}
        for area in AREAS
    }
    pairs = [
        ([*map(one[area].__getitem__, "123")], [*map(other[area].__getitem__, "123")])
        for one, other in (
            (tau["short_cifar100_wider"]["base"], masks_of_resnet),
            (tau["short_cifar100_depthwise_wider"]["base"], tau["short_cifar100_depthwise"]["lp2"]),
        )
        for area in AREAS
    ]
    assert numbers_after("equal time, both pairs", EXPERIMENTS / "brain" / "README.md")[:2] == [
        f"{min(test(*pair).pvalue for pair in pairs):.3f}" for test in (partial(ttest_ind, equal_var=False), ttest_rel)
    ]
    pair = {"convnext_tiny (base)", "convnext_tiny (lp2)"}
    differences = measured["runs"]["short_cifar100_depthwise"]["differences"]
    masks = [own for own in differences if {own["first"], own["second"]} == pair]
    assert len(masks) == len(AREAS)
    assert numbers_after("- Between ConvNeXt's `lp2`", EXPERIMENTS / "brain" / "README.md") == [
        f"{min(own[p] for own in masks):.3f}" for p in ("p_images", "p_seeds")
    ]
