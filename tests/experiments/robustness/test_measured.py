"""The measured figures that the README states are those of the result file."""

from functools import partial
from statistics import fmean, stdev

from scipy.stats import ttest_ind, ttest_rel
from statsmodels.stats.multitest import multipletests

from ..measured import EXPERIMENTS, ROOT, numbers_after, read_measured

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


EQUAL_COST, ROWS_AT_EQUAL_COST = read_measured("robustness", "equal_cost", end="\n\n")
RUN_OF = {
    ("ResNet", "base", "40"): "short_cifar100_wider",
    **{("ConvNeXt", variant, "24"): "short_cifar100_depthwise" for variant in ("base", "lp2")},
    ("ConvNeXt", "base", "28"): "short_cifar100_depthwise_wider",
}


def _at_equal_cost(network: str, variant: str, channels: str) -> dict[str, list[float]]:
    """Return the top-1 of each seed by corruption."""
    if run := RUN_OF.get((network, variant, channels)):
        top1 = EQUAL_COST["runs"][run]["top1"][variant]
        return {corruption: [value for _, value in sorted(seeds.items())] for corruption, seeds in top1.items()}
    top1 = {}
    for own in sorted(MEASURED["results"], key=lambda own: own["seed"]):
        if own["variant"] == variant:
            top1.setdefault(own["corruption"], []).append(own["top1"])
    return top1


def _mean_of_all(top1: dict[str, list[float]]) -> list[float]:
    names = EQUAL_COST["data"]["corruptions"]
    return [fmean(values) for values in zip(*(top1[name] for name in names), strict=True)]


def test_the_readmes_table_at_equal_time_is_the_measured_one() -> None:
    assert EQUAL_COST["data"] == MEASURED["data"]
    assert [*map(tuple, (row[:3] for row in ROWS_AT_EQUAL_COST[2:6]))] == [
        ("ResNet", variant, channels)
        for variant, channels in (("base", "16"), ("base", "40"), ("large", "16"), ("lp2", "16"))
    ]
    for row in ROWS_AT_EQUAL_COST[2:]:
        top1 = _at_equal_cost(*row[:3])
        mean = _mean_of_all(top1)
        lost = [one - other for one, other in zip(top1["clean"], mean, strict=True)]
        figures = (top1["clean"], mean, lost, top1["glass_blur"], top1["gaussian_noise"])
        assert row[3:] == [f"{fmean(values):.2f} ± {stdev(values):.2f}" for values in figures]


def test_the_readmes_sentences_at_equal_time_are_about_the_measured_figures() -> None:
    readme = EXPERIMENTS / "robustness" / "README.md"
    wide, large, lp2 = (
        _at_equal_cost("ResNet", *which) for which in (("base", "40"), ("large", "16"), ("lp2", "16"))
    )
    others = [_at_equal_cost("ConvNeXt", *which) for which in (("base", "24"), ("base", "28"), ("lp2", "24"))]
    pairs = [
        (_mean_of_all(one), _mean_of_all(other)) for one, other in ((wide, large), (wide, lp2), (others[2], others[1]))
    ]
    gains = [fmean(one) - fmean(other) for one, other in pairs]
    welch, paired = (
        [f"{p:.3f}" for p in multipletests([test(*pair).pvalue for pair in pairs], method="holm")[1]]
        for test in (partial(ttest_ind, equal_var=False), ttest_rel)
    )
    losses = [fmean(top1["clean"]) - fmean(_mean_of_all(top1)) for top1 in (wide, large, *others)]
    ahead = [
        [name for name in EQUAL_COST["data"]["corruptions"] if fmean(top1[name]) > fmean(wide[name])]
        for top1 in (large, lp2)
    ]
    assert ahead == [["gaussian_noise", "glass_blur"], []]
    leads = [fmean(large[name]) - fmean(wide[name]) for name in ("glass_blur", "gaussian_noise")]
    assert numbers_after("- **At equal time the wider ResNet", readme) == [
        *("18", f"{gains[0]:.1f}", welch[0], paired[0], f"{gains[1]:.1f}", welch[1], paired[1]),
        *(f"{value:.1f}" for value in (*losses[:2], *leads)),
    ]
    assert numbers_after("- **Of the ConvNeXts", readme) == [
        *(f"{choose(losses[2:]):.1f}" for choose in (min, max)),
        *(f"{gains[2]:.1f}", welch[2], paired[2]),
    ]
    recognized = [f"{fmean(_mean_of_all(top1)):.0f}" for top1 in (wide, large, lp2)]
    assert recognized[1] == recognized[2]
    assert numbers_after("- **Not to be closer to the visual cortex", ROOT / "README.md")[:2] == recognized[:2]
