import csv
import json
import sys
from pathlib import Path

import pytest

from timm_lp.masks import cli

from .networks import save

TABLES = {"report.md", "report.tex", "report.csv", "masks.csv", "results.json"}


def test_trials_and_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = {
        f"digits/{variant}": f"{variant.partition('-')[0]}_resnet18" for variant in ("lp2-seed1", "lp2-seed2", "lp16")
    }
    for seed, (place, name) in enumerate(networks.items()):
        save(tmp_path / place, name, seed)
    output = tmp_path / "output"
    cli.main([*(str(tmp_path / place) for place in networks), "--output-dir", str(output)])
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
        masks = list(csv.DictReader(file))
    assert len(masks) == 3 * 208
    with (output / "report.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 14


def test_without_arguments_it_shows_a_demonstration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main([])
    assert "Nothing was learned" in capsys.readouterr().out
    output = tmp_path / "output" / "masks"
    assert {path.name for path in output.iterdir()} == TABLES | {
        "p.png",
        "shapes.png",
        "gallery.png",
        "conformation.png",
    }
    assert json.loads((output / "results.json").read_text())["demonstration"] is True


def test_without_matplotlib_there_are_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    save(tmp_path / "network")
    cli.main([str(tmp_path / "network"), "--output-dir", str(tmp_path / "output")])
    assert {path.name for path in (tmp_path / "output").iterdir()} == TABLES
    assert "No pictures: matplotlib is not installed." in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet17"], "`name` must be a registered network, hf-hub:ORG/NAME, local-dir:FOLDER or a folder"),
        (["nowhere/lp2-seed1"], "`name` must be a registered network"),
        (["."], "`name` must be a folder that holds a network, got '.' without config.json."),
    ],
)
def test_what_is_no_network_ends_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as failure:
        cli.main(arguments)
    assert str(failure.value).startswith(f"timm-lp masks: {message}")
    assert not any(tmp_path.iterdir())
