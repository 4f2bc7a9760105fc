"""The benchmark from Python: the command's run and files, and its table as an object."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pandas
import pytest
from accelerate import Accelerator

from timm_lp.experiments.classification import Comparison, compare
from timm_lp.experiments.classification.flags import COMMAND

from ...trials.records import RECORDS
from ..networks import TINY

ROOT = Path(__file__).parents[3]
README = ROOT / "timm_lp" / "experiments" / "classification" / "README.md"
SHORT = {"model_kwargs": TINY, "shots": 2, "epochs": 1, "seeds": [1], "cpu_threads": 1}


def test_the_readmes_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(code, names)
    out = capsys.readouterr().out
    assert re.search(r"^\| lp2 +\|", out, re.MULTILINE)
    assert out.startswith("resnet18(layers=[1, 1, 1, 1]")
    assert (tmp_path / "output" / "compared" / "compared.png").stat().st_size


def test_it_is_the_command_s_run_in_any_number_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4)
    plain = compare("digits.yaml", **SHORT, variants=["base"], output_dir="plain")
    assert {record.settings["mixed_precision"] for record in plain.records} == {"no"}
    half = compare("digits.yaml", **SHORT, variants=["base"], output_dir="half", mixed_precision="bf16")
    assert {record.settings["mixed_precision"] for record in half.records} == {"bf16"}
    assert (mine.mixed_precision, mine.gradient_accumulation_steps) == ("bf16", 4)
    assert Accelerator().mixed_precision == "bf16"

    names = {path.name for path in plain.output_dir.iterdir()}
    assert names == {"digits", "results.json", "report.md", "report.tex", "report.csv", "report.png"}
    assert (plain.output_dir / "report.md").read_text() == plain.to_markdown() + "\n"
    assert (plain.output_dir / "report.tex").read_text() == plain.to_latex()
    trial = plain.output_dir / "digits" / "resnet18" / "base-seed1" / "trial.json"
    before = trial.stat().st_mtime_ns
    command = json.loads((plain.output_dir / "results.json").read_text())["recipe"]["command"]
    settings, _ = COMMAND.parse_with_action(shlex.split(command.removeprefix(COMMAND.launcher)))
    repeated = {option.name: getattr(settings, option.name) for option in fields(settings)}
    again = compare(**repeated | {"output_dir": "plain"})
    assert again.table == plain.table
    assert trial.stat().st_mtime_ns == before


def test_the_table(tmp_path: Path) -> None:
    result = Comparison(RECORDS, tmp_path)
    rows = {(row["dataset"], row["variant"]): row for row in result.table}
    assert [*rows] == [("DTD", "base"), ("DTD", "large"), ("DTD", "lp2"), ("PETS", "base"), ("PETS", "lp2")]
    base, large, lp2 = (rows["DTD", variant] for variant in ("base", "large", "lp2"))
    assert (base["top1"], base["top1_std"], base["mean_per_class"]) == pytest.approx((81.0, 1.0, 80.0))
    assert (base["minus_base"], base["p_value"], base["seeds"], base["failed"]) == (None, None, 3, 0)
    assert (large["top1"], large["minus_base"], large["parameters"], large["failed"]) == (None, None, None, 1)
    assert (lp2["minus_base"], lp2["seeds"], lp2["failed"]) == (pytest.approx(9.5), 2, 1)
    assert (lp2["parameters"], lp2["macs"], lp2["train_seconds"]) == (1234567, 7654321, 3.0)
    assert 0 < lp2["p_value"] < 0.05
    assert rows["PETS", "lp2"]["minus_base"] == pytest.approx(-5 / 6)
    assert isinstance(result.to_pandas(), pandas.DataFrame)
    assert result.to_pandas().set_index(["dataset", "variant"])["top1"]["PETS", "base"] == 70.0
    assert result.plot().axes[-1].get_xlabel() == "top-1 accuracy (%)"
    assert repr(result) == result.to_markdown()
    assert re.search(r"<tr><td[^>]*>lp2</td>", result._repr_html_())


def test_what_cannot_be_compared_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`lr` must be at least 1e-12 and finite, got nan"):
        compare("digits.yaml", lr=float("nan"), output_dir=str(tmp_path))
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        compare(epoch=3)
    with pytest.raises(ValueError, match=r"`push_to_hub` must be left to the command, got 'me/net'"):
        compare("digits.yaml", push_to_hub="me/net", output_dir=str(tmp_path))
    assert not any(tmp_path.iterdir())
