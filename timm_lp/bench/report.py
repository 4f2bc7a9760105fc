"""The tables and the plot of a benchmark's results."""

from pathlib import Path
from typing import Any

from ..markdown import markdown_rows

Results = dict[str, Any]

_COLUMNS = (
    ("training", "large"),
    ("training", "lp"),
    ("training", "base"),
    ("evaluation", "large"),
    ("evaluation", "lp"),
    ("evaluation", "merged"),
    ("evaluation", "cropped"),
    ("evaluation", "base"),
)


def to_markdown(content: Results, before: Results | None = None) -> str:
    """Return the results as Markdown: a line about the machine, and a table for each kind of case.

    All times are medians: milliseconds for "large", fractions of that for the other forms.

    Args:
        content: What `run_benchmark` returned.
        before: What `run_benchmark` returned another time, to compare the fractions of the Lp form.
    """
    parts = [_machine_line(content)]
    for kind in dict.fromkeys(result["kind"] for result in content["results"]):
        parts.append(_table([r for r in content["results"] if r["kind"] == kind], before))
    return "\n\n".join(parts)


def fraction(result: dict[str, Any], mode: str, form: str) -> float | None:
    """Return the time of a form as a fraction of that of "large", None if it was not measured."""
    times = result[mode]
    return times[form]["median_ms"] / times["large"]["median_ms"] if form in times else None


def _heading(mode: str, form: str) -> str:
    return f"{'train' if mode == 'training' else 'eval'} {form}{' (ms)' if form == 'large' else ''}"


def _machine_line(content: Results) -> str:
    machine = content["machine"]
    limits = (
        f", {machine['gflop_per_s']:.0f} GFLOP/s, {machine['gb_per_s']:.0f} GB/s" if "gflop_per_s" in machine else ""
    )
    return (
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}{limits}; "
        f"medians of {content['runs']} interleaved runs"
    )


def _table(results: list[dict[str, Any]], before: Results | None) -> str:
    columns = [column for column in _COLUMNS if any(column[1] in result[column[0]] for result in results)]
    header = ["case", *(_heading(mode, form) for mode, form in columns)]
    with_memory = any(result["training_peak_mib"] for result in results)
    if with_memory:
        header += ["memory large (MiB)", "lp"]
    header.append("GFLOP/s lp")
    old = {result["name"]: result for result in before["results"]} if before else {}
    if before:
        header += ["train lp before", "eval lp before"]
    lines = []
    for result in results:
        line = [result["name"]]
        for mode, form in columns:
            value = result[mode]["large"]["median_ms"] if form == "large" else fraction(result, mode, form)
            line.append(_number(value, ".1f" if form == "large" else ".2f"))
        if with_memory:
            peaks = result["training_peak_mib"]
            large, lp = peaks.get("large"), peaks.get("lp")
            line += [_number(large, ".0f"), _number(lp / large if lp and large else None, ".2f")]
        line.append(_number(1e3 * result["gflop"] / result["evaluation"]["lp"]["median_ms"], ".0f"))
        if before:
            same = old.get(result["name"])
            line += [
                _number(fraction(same, mode, "lp") if same else None, ".2f") for mode in ("training", "evaluation")
            ]
        lines.append(line)
    return markdown_rows(header, lines)


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
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(results)), layout="constrained")
    axes = figure.subplots()
    for offset, mode in ((0.18, "training"), (-0.18, "evaluation")):
        values = [fraction(result, mode, "lp") or 0.0 for result in results]
        errors = [
            [
                abs(quartile / result[mode]["large"]["median_ms"] - value)
                for quartile in result[mode]["lp"]["quartiles_ms"]
            ]
            for value, result in zip(values, results, strict=True)
        ]
        places = [place + offset for place in range(len(results))]
        axes.barh(places, values, height=0.34, xerr=list(zip(*errors, strict=True)), label=mode)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(results)), [result["name"] for result in results])
    axes.set_xlabel("time of the Lp-convolution / time of torch's convolution with the same kernels")
    axes.legend()
    figure.savefig(path, dpi=120)


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
