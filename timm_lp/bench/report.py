"""The tables and the plot of a benchmark's results."""

from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

from ..files import PICTURE_WIDTH, write_figure
from ..reporting import markdown_rows, number, variant_style

Results = dict[str, Any]

_FORMS = {"large": "without masks", "lp": "with masks"}  # in a picture
_TOLERATED = 1.05  # of the time of "large"
_MAX_HEIGHT = 300.0  # inches: matplotlib's older releases draw less than 2**16 pixels

_COLUMNS = (
    ("training", "large"),
    ("training", "lp"),
    ("training", "large compiled"),
    ("training", "lp compiled"),
    ("training", "base"),
    ("evaluation", "large"),
    ("evaluation", "lp"),
    ("evaluation", "large compiled"),
    ("evaluation", "lp compiled"),
    ("evaluation", "merged"),
    ("evaluation", "cropped"),
    ("evaluation", "base"),
)


def to_markdown(content: Results, before: Results | None = None) -> str:
    """Return the results as Markdown: a line about the machine, and a table for each kind of case.

    All times are medians: milliseconds for "large", fractions of that for the other forms. Below the table of layers
    stand those that are slower than "large" by more than a twentieth.

    Args:
        content: What `run_benchmark` returned.
        before: What `run_benchmark` returned another time, to compare the fractions of the Lp form.
    """
    parts = [_machine_line(content)]
    for kind in dict.fromkeys(result["kind"] for result in content["results"]):
        results = [result for result in content["results"] if result["kind"] == kind]
        parts.append(_table(results, before))
        if kind == "layer":
            parts.append(_slower(results))
    return "\n\n".join(parts)


def fraction(result: dict[str, Any], phase: str, form: str) -> float | None:
    """Return the time of a form as a fraction of that of "large", None if it was not measured."""
    times = result[phase]
    return times[form]["median_ms"] / times["large"]["median_ms"] if form in times else None


def key(result: dict[str, Any]) -> tuple[str, str]:
    """Return what a result is of: the case and the mode."""
    return result["name"], result["mode"]


def _slower(results: list[dict[str, Any]]) -> str:
    slower = [
        f"- {result['name']}, {result['mode']}: {phase} {value:.2f}"
        for result in results
        for phase in ("training", "evaluation")
        if (value := fraction(result, phase, "lp")) is not None and value > _TOLERATED
    ]
    heading = f"Slower than {_TOLERATED:g} of large: {len(slower) or 'none'}"
    return "\n".join([heading, *([""] if slower else []), *slower])


def _heading(phase: str, form: str) -> str:
    return f"{'train' if phase == 'training' else 'eval'} {form}{' (ms)' if form == 'large' else ''}"


def _machine_line(content: Results) -> str:
    machine = content["machine"]
    limits = (
        f", {machine['gflop_per_s']:.0f} GFLOP/s ({machine['bf16_gflop_per_s']:.0f} in bfloat16), "
        f"{machine['gb_per_s']:.0f} GB/s"
        if "gflop_per_s" in machine
        else ""
    )
    runs = f"medians of {content['runs']} interleaved runs, {content['clock']} time"
    return f"{machine['device']}, torch {machine['torch']}{limits}; {runs}"


def _table(results: list[dict[str, Any]], before: Results | None) -> str:
    columns = [column for column in _COLUMNS if any(column[1] in result[column[0]] for result in results)]
    header = ["case", "mode", *(_heading(phase, form) for phase, form in columns)]
    with_memory = any(result["training_peak_mib"] for result in results)
    if with_memory:
        header += ["memory large (MiB)", "lp"]
    with_warm_up = any(result["warm_up_s"] for result in results)
    if with_warm_up:
        header += ["warm-up large compiled (s)", "lp compiled"]
    header.append("GFLOP/s lp")
    old = {key(result): result for result in before["results"]} if before else {}
    if before:
        header += ["train lp before", "eval lp before"]
    lines = []
    for result in results:
        line = [result["name"], result["mode"]]
        for phase, form in columns:
            times = result[phase].get("large")
            value = fraction(result, phase, form) if form != "large" else times and times["median_ms"]
            line.append(number(value, ".1f" if form == "large" else ".2f"))
        if with_memory:
            peaks = result["training_peak_mib"]
            large, lp = peaks.get("large"), peaks.get("lp")
            line += [number(large, ".0f"), number(lp / large if lp and large else None, ".2f")]
        if with_warm_up:
            large, lp = (result["warm_up_s"][f"{form} compiled"] for form in ("large", "lp"))
            line += [number(large, ".0f"), number(lp / large, ".2f")]
        line.append(number(1e3 * result["gflop"] / result["evaluation"]["lp"]["median_ms"], ".0f"))
        if before:
            same = old.get(key(result))
            line += [
                number(fraction(same, phase, "lp") if same else None, ".2f") for phase in ("training", "evaluation")
            ]
        lines.append(line)
    return markdown_rows(header, lines, left=2)


def plot(content: Results, path: Path) -> None:
    """Draw the Lp form's fractions of the large form's time, with their quartiles, as a picture.

    Args:
        content: What `run_benchmark` returned.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    results = content["results"][::-1]
    height = min(1.4 + 0.75 * len(results), _MAX_HEIGHT)
    figure = Figure(figsize=(PICTURE_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    for offset, phase in ((0.18, "training"), (-0.18, "evaluation")):
        bars = [(y + offset, result) for y, result in enumerate(results) if "lp" in result[phase]]
        values = [fraction(result, phase, "lp") or 0.0 for _, result in bars]
        errors = [
            [
                abs(quartile / result[phase]["large"]["median_ms"] - value)
                for quartile in result[phase]["lp"]["quartiles_ms"]
            ]
            for value, (_, result) in zip(values, bars, strict=True)
        ]
        ys = [y for y, _ in bars]
        axes.barh(ys, values, height=0.34, xerr=list(zip(*errors, strict=True)) or None, label=phase)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(results)), [fill(", ".join(key(result)), 24) for result in results])
    axes.set_xlabel("time with masks / without")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    write_figure(path, figure)


def plot_growth(content: Results, path: Path) -> None:
    """Draw how the time of each kind of layer grows with its kernel: the first mode, and the others faint.

    Args:
        content: What `run_benchmark` returned for layers.
        path: Where to write it; the ending chooses the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    results = content["results"]
    families, modes = (list(dict.fromkeys(result[name] for result in results)) for name in ("family", "mode"))
    figure = Figure(figsize=(PICTURE_WIDTH, 0.8 + 2.8 * len(families)), layout="constrained")
    panels = figure.subplots(len(families), 1, squeeze=False)[:, 0]
    for (axes, family), (mode, form) in product(zip(panels, families, strict=True), product(modes, ("large", "lp"))):
        times = [result for result in results if (result["family"], result["mode"]) == (family, mode)]
        medians = [result["training"][form]["median_ms"] for result in times]
        style: dict[str, Any] = {"alpha": 0.35} if mode != modes[0] else {"marker": "o", "label": _FORMS[form]}
        axes.plot([result["kernel_size"] for result in times], medians, color=variant_style(form)["color"], **style)
        axes.set_yscale("log")
        axes.set_title(fill(family, 50), fontsize=11)
        axes.set_xlabel("kernel (pixels)")
        axes.set_ylabel("training (ms)")
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    write_figure(path, figure)
