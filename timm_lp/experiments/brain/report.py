"""The tables of an analysis, as Markdown and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...reporting import NOTHING, csv_text, interval, markdown_rows, mean_and_std, number, p_value
from .analysis import Analysis
from .comparison import Difference, resolution
from .groups import Group
from .recordings import Recording
from .responses import Responses

_TAU = ".3f"  # how a tau is written


def to_markdown(analysis: Analysis) -> str:
    """Return the tables of an analysis, with where its data come from and what they can resolve."""
    parts = [
        f"# Representational similarity: {title_of(analysis.responses)}",
        _introduction(analysis.responses),
        _ceilings(analysis),
        "## The best layer of each area",
        _best_layers(analysis),
        "A line is the mean over a network's seeds; ± is their standard deviation. `other half`: half of the images "
        "choose the layer, and tau is taken on the rest. `chance`: 95 % of the best layers stay below it with shuffled "
        "images.",
        "## The maximum over layers and areas (Figure 6b)",
        _maxima(analysis.groups),
        "A maximum grows with the number of layers and areas that it is taken over; `chance` grows with it.",
    ]
    if analysis.differences:
        parts += [
            "## Differences between the best layers",
            _differences(analysis.differences),
            "Intervals over samples of the images, the same for both networks. Both p-values are corrected by Holm for "
            "all lines.",
        ]
    smallest = resolution(analysis.differences)
    if smallest is not None:
        parts.append(
            f"These {analysis.responses.num_images} images tell two networks apart that differ by about {smallest:.3f} "
            "(half the median interval)."
        )
    return "\n\n".join(parts)


def to_table(responses: Responses, recordings: Sequence[Recording], left_out: Mapping[str, int]) -> str:
    """Return what a responses file was made of, as Markdown.

    Args:
        responses: What it holds.
        recordings: What was taken.
        left_out: How many recordings were not, by reason.
    """
    lines = []
    for name, area in responses.areas.items():
        taken = [recording for recording in recordings if recording.area == name]
        mice = len({recording.mouse for recording in taken})
        trials, neurons = area.responses.shape[1:]  # type: ignore[union-attr] # it was just read from recordings
        lines.append([name, *map(str, (len(taken), mice, neurons, trials))])
    reasons = ", ".join(f"{count} ({reason})" for reason, count in left_out.items())
    return (
        markdown_rows(["area", "recordings", "mice", "neurons", "trials"], lines)
        + f"\n\n{responses.num_images} images. Recordings left out: {reasons or 'none'}."
    )


def title_of(responses: Responses) -> str:
    """Return what the networks were compared with."""
    areas = ", ".join(responses.areas)
    return f"a SYNTHETIC cortex, no measurement ({areas})" if responses.synthetic else areas


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV under the keys of the first."""
    return csv_text(list(rows[0]), rows)


def difference_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the differences as rows, each saying where its data come from."""
    about = {"synthetic": analysis.responses.synthetic, "source": analysis.responses.source}
    return [{**asdict(difference), **about} for difference in analysis.differences]


def _introduction(responses: Responses) -> str:
    return (
        f"Source: {responses.source}. {responses.num_images} images. Each unit's mean over the images is "
        f"{'subtracted' if responses.centred else 'kept'}, in the cortex and in the networks. Kendall's tau-b; "
        "intervals are 95 % over samples of the images."
    )


def _ceilings(analysis: Analysis) -> str:
    lines = [
        [area, number(ceiling.tau, _TAU), ceiling.kind, number(ceiling.agreement, _TAU)]
        for area, ceiling in analysis.ceilings.items()
    ]
    reasons = [f"{area}: {ceiling.reason}" for area, ceiling in analysis.ceilings.items() if ceiling.reason]
    return "\n\n".join([markdown_rows(["area", "ceiling", "kind", "tau between two parts"], lines), *reasons])


def _best_layers(analysis: Analysis) -> str:
    header = ["network", "area", "layer", "tau", "95 %", "other half", "chance", "of the ceiling"]
    lines = []
    for group in analysis.groups:
        low, high = group.interval
        for column, area in enumerate(group.areas):
            taus, ceiling = group.best_taus[:, column], analysis.ceilings[area].tau
            lines.append(
                [
                    *(group.name, area, _first(group.best_layers(area)), mean_and_std(taus.tolist(), _TAU)),
                    interval(low[column], high[column], _TAU),
                    number(group.held_out[column], _TAU),
                    number(group.chance()[0], _TAU),
                    f"{round(100 * taus.mean() / ceiling)} %" if ceiling else NOTHING,
                ]
            )
    return markdown_rows(header, lines, left=3)


def _maxima(groups: Sequence[Group]) -> str:
    lines = [
        [
            *(group.name, _first(group.where_maximal())),
            *(mean_and_std(group.maxima.tolist(), _TAU), number(group.chance()[1], _TAU)),
        ]
        for group in groups
    ]
    return markdown_rows(["network", "where", "maximum", "chance"], lines, left=2)


def _differences(differences: Sequence[Difference]) -> str:
    header = ["networks", "area", "difference", "95 % over images", "p over images", "seeds", "p over seeds"]
    lines = [
        [
            *(f"{pair.first} - {pair.second}", pair.area, f"{round(pair.difference, 3) + 0.0:+.3f}"),  # no -0.000
            *(interval(pair.low, pair.high, _TAU), p_value(pair.p_images)),
            *(str(pair.seeds or NOTHING), p_value(pair.p_seeds)),
        ]
        for pair in differences
    ]
    return markdown_rows(header, lines, left=2)


def _first(names: Sequence[str]) -> str:
    """Return the first name, and how many others there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
