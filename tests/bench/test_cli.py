import json
import subprocess
import sys
from pathlib import Path

import pytest

from timm_lp.bench import cli
from timm_lp.bench.__main__ import PACKAGES
from timm_lp.bench.cases import Layer


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    layer = Layer(3, 2, 4, depthwise=True, batch=1)
    monkeypatch.setattr(cli, "LAYERS", (layer,))
    return layer


def test_measures_prints_and_saves(one_layer: Layer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--layers", "--runs", "2", "--no-memory", "--threads", "1", "--output", str(tmp_path)]
    cli.main(arguments)
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "results.json").read_text())
    assert [result["name"] for result in content["results"]] == [str(one_layer)]
    assert len(content["results"][0]["training"]["lp"]["runs_ms"]) == 2
    assert content["results"][0]["gflop"] == pytest.approx(2 * 2 * 16 * 9 / 1e9)
    assert (tmp_path / "results.md").read_text().strip() in printed
    cli.main([*arguments, "--compare", str(tmp_path / "results.json")])
    assert "train lp before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "`--only` must be part of a case's name, got 'nothing'"),
        (["--device", "cuda"], "`--device` must be there, got cuda"),
        (["--runs", "0"], "argument --runs: must be at least 1, got 0"),
        (["--runs", "many"], "argument --runs: invalid positive number value: 'many'"),
        (["--run"], "argument --runs: expected one argument"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m timm_lp.bench: error: {message}")


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"results": [{"name": "layer"}]}', '{"results": 3}'])
def test_results_of_something_else_are_refused_before_the_measurement(
    one_layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(cli, "run_benchmark", None)
    if content is not None:
        (tmp_path / "other.json").write_text(content)
    arguments = ["--layers", "--output", str(tmp_path / "out"), "--compare", str(tmp_path / "other.json")]
    with pytest.raises(
        SystemExit, match=r"bench: `--compare` must be a results\.json of this benchmark, got .*other\.json"
    ):
        cli.main(arguments)


def test_an_output_folder_that_cannot_be_is_refused_before_the_measurement(
    one_layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "run_benchmark", None)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"python -m timm_lp\.bench: \[Errno \d+\] .*file"):
        cli.main(["--layers", "--output", str(tmp_path / "file")])


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "timm_lp.bench", "--help"], capture_output=True, text=True, check=True, timeout=600
    )
    assert "--compare" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_one_line(package: str) -> None:
    code = f"import runpy, sys; sys.modules[{package!r}] = None; runpy.run_module('timm_lp.bench', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f'python -m timm_lp.bench: {package} must be installed. `pip install "timm-lp[bench]"` brings what is missing, '
        'in a clone `pip install -e ".[bench]"`.'
    ]
