from pathlib import Path

import pytest
from setuptools import Distribution

from hub_export.cards.templates import table

ROOT = Path(__file__).parents[3]


def test_a_wheel_carries_the_templates_and_not_the_rendered_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["pyproject.toml"])
    distribution.include_package_data = False  # there is no manifest, and looking for one would write files
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    packaged = {name for package, _, _, names in command.data_files if package == "model_cards" for name in names}
    folder = ROOT / "model_cards"
    wanted = {path.name for path in folder.iterdir() if path.suffix in (".bib", ".jinja", ".yaml")}
    assert packaged == wanted
    assert {"architecture.md.jinja", "architectures.yaml", "citation.bib", "model.md.jinja"} <= packaged
    assert "model_cards" in distribution.packages
    assert {"hub_export", "hub_export.cards"} <= {*distribution.packages}


def test_cells_stay_in_their_table() -> None:
    assert table(("name", "x"), [("a | b\n<i>", 1)]).splitlines()[2] == r"| a \| b &lt;i> |  1 |"
