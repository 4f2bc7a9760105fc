"""The measured figures that the README states are those of the result file."""

from math import floor

from ..measured import EXPERIMENTS, numbers_after, read_measured

MEASURED, ROWS = read_measured("receptive_fields")
STATED = {cells[0]: cells[1:] for cells in ROWS}


def _text(p: float) -> str:
    return "> 200" if p > 199.5 else f"{p:.1f}" if p >= 10 else f"{p:.2f}"


def test_the_readmes_exponents_are_the_measured_ones() -> None:
    medians = {group["group"]: group["p_median"] for group in MEASURED["groups"]}
    for variant in ("base", "large", "lp2"):
        *trained, untrained = STATED[variant]
        for shown, cell in zip(("images", "noise"), trained, strict=True):
            assert cell == " / ".join(_text(medians[f"{variant}-seed{seed}, trained, {shown}"]) for seed in (1, 2, 3))
            assert {_text(medians[f"{variant}-seed{seed}, untrained, {shown}"]) for seed in (1, 2, 3)} == {untrained}


def test_the_readmes_sentences_are_about_the_measured_figures() -> None:
    base, large, lp2 = (
        [
            own["p_median"]
            for own in MEASURED["groups"]
            if own["group"].startswith(variant) and ", trained" in own["group"]
        ]
        for variant in ("base", "large", "lp2")
    )
    stated = numbers_after("**With masks the fields come close", EXPERIMENTS / "receptive_fields" / "README.md")
    ends = [f"{min(lp2):.1f}", f"{max(lp2):.1f}", f"{min(large):.0f}", f"{max(large):.0f}", str(floor(min(base)))]
    assert stated[:6] == ["2", *ends]
