"""The measured figures that the README states are those of the result file."""

from statistics import fmean

from ..measured import EXPERIMENTS, numbers_after, read_measured

MEASURED, ROWS = read_measured("robustness")
STATED = {cells[0]: cells[1:] for cells in ROWS}


def test_the_readmes_table_is_the_measured_one() -> None:
    wins = MEASURED["wins"]["counts"]["resnet18_small_stem"]
    for entry in MEASURED["summary"]:
        scores = [entry[score] for score in ("clean", "mean_common", "mean_all", "mce", "mce_relative")]
        assert STATED[entry["variant"]][:5] == [f"{score['mean']:.2f} ± {score['std']:.2f}" for score in scores]
        won = wins[entry["variant"]]
        text = f"{won['count']:.0f}" + (f" ({won['welch']} / {won['paired']})" if won["count"] else "")
        assert STATED[entry["variant"]][5] == text
    assert len(STATED) == 2 + len(MEASURED["summary"])


def test_the_images_are_named_as_what_they_are() -> None:
    assert MEASURED["data"]["severities"] == [1]
    assert "computed here, not comparable" in MEASURED["data"]["note"]
    assert len(MEASURED["data"]["corruptions"]) == 18


def test_the_readmes_sentences_are_about_the_measured_figures() -> None:
    readme = EXPERIMENTS / "robustness" / "README.md"
    names = MEASURED["data"]["corruptions"]
    summary = {entry["variant"]: entry for entry in MEASURED["summary"]}
    means = {
        (variant, name): fmean(
            own["top1"] for own in MEASURED["results"] if (own["variant"], own["corruption"]) == (variant, name)
        )
        for variant in summary
        for name in (*names, "clean")
    }
    others = [summary[variant][score] for variant in ("large", "lp2") for score in ("mean_common", "mean_all")]
    gains = [
        summary[variant][score]["mean"] - summary["base"][score]["mean"]
        for variant in ("large", "lp2")
        for score in ("mean_common", "mean_all")
    ]
    best = sum(means["lp2", name] == max(means[variant, name] for variant in summary) for name in names)
    assert numbers_after("- **With large kernels more corrupted images are right", readme) == [
        *(f"{min(gains):.1f}", f"{max(gains):.1f}"),
        *(f"{max(score[p] for score in others):.3f}" for p in ("p_value", "paired_p_value")),
        *(str(best), str(len(names))),
    ]
    noise = ("glass_blur", "gaussian_noise", "shot_noise", "speckle_noise", "impulse_noise")
    gaps = [means["large", name] - means["lp2", name] for name in noise]
    assert [gap > 0 for gap in gaps] == [True, True, True, True, False]
    losses = [
        means[variant, "clean"] - fmean(means[variant, name] for name in names) for variant in ("lp2", "base", "large")
    ]
    assert numbers_after("- **Against glass blur and most noise", readme) == [f"{abs(x):.1f}" for x in (*gaps, *losses)]
