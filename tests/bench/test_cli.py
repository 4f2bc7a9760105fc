import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from timm_lp.bench import benchmark, cli
from timm_lp.bench.cases import SUITES, Case, Layer

from ..trials.records import save_trial

LAYER = Layer(3, 2, 4, groups=2, batch=1)


@pytest.fixture(autouse=True, scope="module")
def _limits_measured_once() -> Iterator[None]:
    """Measure the machine's best speeds, which takes seconds, for the first command alone, and once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "machine_limits", cache(partial(benchmark.machine_limits, runs=1)))
        yield


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    monkeypatch.setitem(SUITES, "layers", (LAYER,))
    return LAYER


def measure(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    cli.main([*arguments, "--runs", "2", "--no-memory", "--output", str(folder)])
    return json.loads((folder / "results.json").read_text())["results"]


def test_measures_prints_and_saves(one_layer: Layer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = measure(tmp_path, "layers", "--threads", "1")
    printed = capsys.readouterr().out
    assert (result["name"], result["mode"]) == (str(one_layer), "NCHW float32, 1 thread")
    assert len(result["training"]["lp"]["runs_ms"]) == 2
    assert result["gflop"] == pytest.approx(2 * 2 * 16 * 9 / 1e9)
    assert (tmp_path / "results.md").read_text().strip() in printed
    measure(tmp_path, "layers", "--threads", "1", "--compare", str(tmp_path / "results.json"))
    assert "train lp before" in capsys.readouterr().out


def test_given_networks_are_measured_at_their_own_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_trial(tmp_path, model_config={"pretrained_cfg": {"input_size": (3, 32, 32)}})
    networks = ["--network", str(folder), "test_resnet", "--only", "lp2-seed1"]
    results = measure(tmp_path / "out", *networks, "--batch-size", "4")
    assert [(one["name"], one["kind"]) for one in results] == [("lp2-seed1, 32 px, batch 4", "network")]
    assert results[0]["training"].keys() == {"large", "base", "lp"}
    assert results[0]["evaluation"].keys() == {"large", "base", "lp", "merged", "cropped"}
    assert "| lp2-seed1, 32 px, batch 4 " in capsys.readouterr().out
    assert (tmp_path / "out" / "results.png").read_bytes().startswith(b"\x89PNG")
    (alone,) = measure(tmp_path / "one", *networks, "--batch-size", "1")
    assert (alone["name"], alone["training"]) == ("lp2-seed1, 32 px, batch 1", {})
    with pytest.raises(SystemExit, match=r"bench: `NETWORK` must be .*, got 'resnet17'"):
        cli.main(["--network", "resnet17"])


def test_every_mode_is_measured(one_layer: Layer, tmp_path: Path) -> None:
    modes = ["--format", "NCHW", "NHWC", "--dtype", "float32", "autocast", "bfloat16", "--threads", "1", "2"]
    results = measure(tmp_path, "layers", "--optimizer", *modes)
    assert [result["mode"] for result in results] == [
        f"{memory_format} {dtype}, AdamW, {threads}"
        for memory_format in ("NCHW", "NHWC")
        for dtype in ("float32", "bf16 autocast", "bfloat16")
        for threads in ("1 thread", "2 threads")
    ]


def test_compiled_forms(one_layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager")
    )  # in a tenth of the time
    (result,) = measure(tmp_path, "layers", "--compile")
    for phase in ("training", "evaluation"):
        assert [*result[phase]] == ["large", "lp", "large compiled", "lp compiled"]
    assert all(seconds > 0 for seconds in result["warm_up_s"].values())


@pytest.mark.parametrize(
    ("suite", "case", "phases"),
    [
        ("growth", LAYER, ["training", "evaluation"]),
        ("latency", replace(LAYER, training=False), ["evaluation"]),
    ],
    ids=["growth", "latency"],
)
def test_suites_of_their_own_kind(
    suite: str, case: Case, phases: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, suite, (case,))
    (result,) = measure(tmp_path, suite)
    assert [phase for phase in ("training", "evaluation") if result[phase]] == phases
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "`--only` must be part of a case's name, got 'nothing'"),
        (["--device", "cuda"], "`--device` must be there, got cuda"),
        (["growth", "--network", "resnet18"], "`--network` must not come with a suite, got growth too"),
        (["--threads", "1", "1"], "`threads` must name at least one, and none twice, got [1, 1]"),
        (["--device", "cuda", "--threads", "1"], "`--threads` must come with --device cpu, got it with cuda"),
        (["training", "--batch-size", "64"], "`--batch-size` must come with --network, got 64 alone"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"timm-lp bench: error: {message}")


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"results": [{"name": "layer"}]}', '{"results": 3}'])
def test_results_of_something_else_are_refused_before_the_measurement(
    one_layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(cli, "run_benchmark", None)
    if content is not None:
        (tmp_path / "other.json").write_text(content)
    arguments = ["layers", "--output", str(tmp_path / "out"), "--compare", str(tmp_path / "other.json")]
    with pytest.raises(
        SystemExit, match=r"bench: `--compare` must be a results\.json of this benchmark, got .*other\.json"
    ):
        cli.main(arguments)


def test_an_output_folder_that_cannot_be_is_refused_before_the_measurement(
    one_layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "run_benchmark", None)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"timm-lp bench: \[Errno \d+\] .*file"):
        cli.main(["layers", "--output", str(tmp_path / "file")])
