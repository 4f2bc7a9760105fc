from pathlib import Path
from typing import Any

from timm_lp.bench.report import fraction, plot, to_markdown


def times(median: float) -> dict[str, Any]:
    return {"median_ms": median, "quartiles_ms": [median - 1, median + 1], "runs_ms": [median]}


def results(lp: float = 50.0) -> dict[str, Any]:
    return {
        "machine": {"device": "a CPU", "threads": 2, "torch": "2.9", "gflop_per_s": 100.0, "gb_per_s": 10.0},
        "runs": 3,
        "results": [
            {
                "name": "a network",
                "kind": "network",
                "training": {"large": times(100.0), "lp": times(lp), "base": times(25.0)},
                "evaluation": {form: times(40.0) for form in ("large", "lp", "merged", "cropped", "base")},
                "training_peak_mib": {"large": 200.0, "lp": 202.0, "base": 100.0},
                "gflop": 2.0,
            },
            {
                "name": "a layer",
                "kind": "layer",
                "training": {"large": times(10.0), "lp": times(4.0)},
                "evaluation": {"large": times(4.0), "lp": times(2.0)},
                "training_peak_mib": {},
                "gflop": 1.0,
            },
        ],
    }


def test_markdown() -> None:
    text = to_markdown(results())
    assert text.startswith("a CPU, 2 threads, torch 2.9, 100 GFLOP/s, 10 GB/s; medians of 3 interleaved runs\n\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| a ")]
    assert cells[0] == ["a network", *"100.0 0.50 0.25 40.0 1.00 1.00 1.00 1.00 200 1.01 50".split()]
    assert cells[1] == ["a layer", *"10.0 0.40 4.0 0.50 500".split()]


def test_markdown_beside_earlier_results() -> None:
    before = results(80.0)
    before["results"] = before["results"][:1]
    lines = [line for line in to_markdown(results(), before).splitlines() if line.startswith("| a ")]
    assert [cell.strip() for cell in lines[0].split("|")][-3:-1] == ["0.80", "1.00"]
    assert [cell.strip() for cell in lines[1].split("|")][-3:-1] == ["-", "-"]


def test_fraction() -> None:
    network, layer = results()["results"]
    assert fraction(network, "training", "lp") == 0.5
    assert fraction(layer, "training", "base") is None


def test_plot(tmp_path: Path) -> None:
    plot(results(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
