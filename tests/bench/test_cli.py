import json
import subprocess
import sys
from pathlib import Path

import pytest

from timm_lp.bench import cli
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
        (["--compare", "missing.json"], "`--compare` must be a results.json of this benchmark, got missing.json"),
        (["--runs", "0"], "must be at least 1, got 0"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in " ".join(capsys.readouterr().err.split())


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "timm_lp.bench", "--help"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "--compare" in done.stdout
