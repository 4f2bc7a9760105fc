"""The measured figures that the README states are those of the result file."""

from statistics import fmean, stdev

from ..measured import read_measured

MEASURED, ROWS = read_measured("brain")
STATED = {cells[0]: cells[1:] for cells in ROWS}


AREAS = ROWS[0][1:]


def _name(group: str) -> str:
    return group.removeprefix("resnet18_small_stem (").removesuffix(")").replace("base, untrained", "untrained")


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
