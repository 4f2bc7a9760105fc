from pathlib import Path
from typing import Any

from timm_lp.bench.report import fraction, plot, plot_growth, to_markdown


def times(median: float) -> dict[str, Any]:
    return {"median_ms": median, "quartiles_ms": [median - 1, median + 1], "runs_ms": [median]}


def results(lp: float = 50.0) -> dict[str, Any]:
    limits = {"gflop_per_s": 100.0, "bf16_gflop_per_s": 250.0, "gb_per_s": 10.0}
    return {
        "machine": {"device": "a CPU", "torch": "2.9", **limits},
        "runs": 3,
        "clock": "wall",
        "results": [
            {
                "name": "a network",
                "kind": "network",
                "mode": "NHWC float32",
                "training": {"large": times(100.0), "lp": times(lp), "base": times(25.0)},
                "evaluation": {form: times(40.0) for form in ("large", "lp", "merged", "cropped", "base")},
                "training_peak_mib": {"large": 200.0, "lp": 202.0, "base": 100.0},
                "warm_up_s": {},
                "gflop": 2.0,
            },
            {
                "name": "a layer",
                "kind": "layer",
                "mode": "NHWC bfloat16",
                "family": "dense",
                "kernel_size": 7,
                "training": {"large": times(10.0), "lp": times(4.0)},
                "evaluation": {"large": times(4.0), "lp": times(2.0)},
                "training_peak_mib": {},
                "warm_up_s": {},
                "gflop": 1.0,
            },
        ],
    }


def test_markdown() -> None:
    text = to_markdown(results())
    assert text.startswith(
        "a CPU, torch 2.9, 100 GFLOP/s (250 in bfloat16), 10 GB/s; medians of 3 interleaved runs, wall time\n\n"
    )
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| a ")]
    assert cells[0] == ["a network", "NHWC float32", *"100.0 0.50 0.25 40.0 1.00 1.00 1.00 1.00 200 1.01 50".split()]
    assert cells[1] == ["a layer", "NHWC bfloat16", *"10.0 0.40 4.0 0.50 500".split()]


def test_markdown_beside_earlier_results() -> None:
    before = results(80.0)
    before["results"] = before["results"][:1]
    lines = [line for line in to_markdown(results(), before).splitlines() if line.startswith("| a ")]
    assert [cell.strip() for cell in lines[0].split("|")][-3:-1] == ["0.80", "1.00"]
    assert [cell.strip() for cell in lines[1].split("|")][-3:-1] == ["-", "-"]


def test_compiled_forms_stand_beside_the_others() -> None:
    content = results()
    content["results"][0]["training"].update({"large compiled": times(90.0), "lp compiled": times(55.0)})
    content["results"][0]["warm_up_s"] = {"large compiled": 40.0, "lp compiled": 30.0}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in to_markdown(content).splitlines()]
    (header,) = (line for line in lines if "train lp compiled" in line)
    (row,) = (line for line in lines if line[:1] == ["a network"])
    cells = dict(zip(header, row, strict=True))
    assert (cells["train large compiled"], cells["train lp compiled"], cells["train lp"]) == ("0.90", "0.55", "0.50")
    assert (cells["warm-up large compiled (s)"], cells["lp compiled"]) == ("40", "0.75")


def test_earlier_results_of_another_mode_are_not_compared() -> None:
    before = results()
    before["results"][0]["mode"] = "NCHW float32"
    line = next(line for line in to_markdown(results(), before).splitlines() if line.startswith("| a network"))
    assert [cell.strip() for cell in line.split("|")][-3:-1] == ["-", "-"]


def test_without_training() -> None:
    content = results()
    content["results"] = content["results"][:1]
    content["results"][0].update(training={}, training_peak_mib={})
    assert "train" not in to_markdown(content)


def test_layers_that_are_slower_are_listed() -> None:
    assert to_markdown(results()).endswith("Slower than 1.05 of large: none")
    content = results()
    content["results"][1]["training"]["lp"] = times(11.0)
    assert to_markdown(content).endswith("Slower than 1.05 of large: 1\n\n- a layer, NHWC bfloat16: training 1.10")


def test_fraction() -> None:
    network, layer = results()["results"]
    assert fraction(network, "training", "lp") == 0.5
    assert fraction(layer, "training", "base") is None


def test_plots(tmp_path: Path) -> None:
    evaluated_only = results()
    evaluated_only["results"][0]["training"] = {}
    layers = {**results(), "results": results()["results"][1:]}
    for content, draw in [(results(), plot), (evaluated_only, plot), (layers, plot_growth)]:
        draw(content, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
