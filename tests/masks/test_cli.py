import csv
import json
import re
from pathlib import Path

import pytest

from timm_lp.masks import cli

from .networks import save, save_trial

README = Path(cli.__file__).parent / "README.md"
TABLES = {"report.md", "report.tex", "report.csv", "masks.csv", "results.json"}


def test_trials_and_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "lp16", "lp16_resnet18")
    names = [*(save_trial(tmp_path / "run", seed=seed) for seed in (1, 2)), str(tmp_path / "lp16")]
    output = tmp_path / "output"
    cli.main([*names, "--output-dir", str(output)])
    printed = capsys.readouterr().out
    of_groups = (f"{kind}-{group}.png" for group in ("1-lp2", "2-lp16") for kind in ("gallery", "conformation"))
    pictures = ["shapes.png", "p.png", *of_groups]
    assert {path.name for path in output.iterdir()} == {*TABLES, *pictures}
    assert printed.startswith((output / "report.md").read_text())
    assert printed.endswith(f", results.json, {', '.join(pictures)}\n")
    assert "## p side by side" in printed
    content = json.loads((output / "results.json").read_text())
    assert content["demonstration"] is False
    assert [(group["name"], len(group["networks"])) for group in content["groups"]] == [("lp2", 2), ("lp16", 1)]
    assert content["groups"][0]["layers"][0]["masks"] == 128
    with (output / "masks.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 208
    with (output / "report.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 14


def test_without_arguments_it_shows_a_demonstration_in_the_files_that_the_readme_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main([])
    assert "Nothing was learned" in capsys.readouterr().out
    output = tmp_path / "output" / "masks"
    assert json.loads((output / "results.json").read_text())["demonstration"] is True
    listed = re.findall(r"`(\w+\.\w+)`", "".join(re.findall(r"^\| `.*\|$", README.read_text(), re.MULTILINE)))
    assert sorted(listed) == sorted(path.name for path in output.iterdir())
    assert TABLES < {*listed}


def test_what_is_no_network_ends_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r": `NETWORK` must be a registered name, .*got 'resnet17'") as ended:
        cli.main(["resnet17"])
    assert len(str(ended.value.code).splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_the_readmes_code_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(code, names)
    assert {"alpha", "gamma", "theta", "C", "figure"} <= names.keys()
    assert list((tmp_path / "runs" / "masks").iterdir())
    assert "| layer4.1.conv2 " in capsys.readouterr().out


def test_the_readmes_links_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
