"""The measured figures that the README and the recipes state are those of the result file."""

import json
from pathlib import Path

import pytest

from timm_lp.experiments.classification.flags import DIGITS_RECIPE, parse_arguments
from timm_lp.experiments.trials.statistics import Measurement, Table, tabulate
from timm_lp.models.variants import BASE, variant_order

ROOT = Path(__file__).parents[3]
MEASURED = ROOT / "timm_lp" / "experiments" / "classification" / "recipes" / "cifar_transfer.json"
RECIPES = sorted(path.name for path in DIGITS_RECIPE.parent.iterdir() if path.name.endswith(".yaml"))


@pytest.fixture(scope="module")
def table() -> Table:
    """Return the table of the trials that the result file holds by seed."""
    entries = json.loads(MEASURED.read_text())["results"]
    measurements = [
        Measurement(entry["variant"], entry["dataset"]["id"], int(seed), top1)
        for entry in entries
        for seed, top1 in entry["metrics"]["top1"].items()
    ]
    variants = sorted({measurement.row for measurement in measurements}, key=variant_order)
    return tabulate(measurements, variants, {name: name for name in ("cifar10", "dtd10")}, BASE)


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_read_by_name_and_state_their_command(name: str) -> None:
    assert parse_arguments(["--config", name])[0].model
    head = (DIGITS_RECIPE.parent / name).read_text().split("\nmodel", 1)[0]
    assert "accelerate launch finetune.py" in head
    assert "Expected" in head


def test_the_readmes_table_is_the_measured_one(table: Table) -> None:
    rows = (
        (ROOT / "timm_lp" / "experiments" / "classification" / "README.md")
        .read_text()
        .split("<!-- measured result -->\n")[1]
        .split("\n\n")[0]
        .splitlines()[2:]
    )
    stated = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)}
    assert list(stated) == table.rows
    for variant, cells in stated.items():
        assert cells == [text for dataset in ("cifar10", "dtd10") for text in _cells(table, variant, dataset)]


def test_the_result_is_that_of_its_recipe(table: Table) -> None:
    config, _ = parse_arguments(["--config", "cifar_transfer.yaml", "--dataset", "data/cifar10", "data/dtd10"])
    recipe = json.loads(MEASURED.read_text())["recipe"]
    assert set(table.rows) == set(config.variants)
    assert all(set(cell.values) == set(config.seeds) for cell in table.cells.values())
    now = config.trial_settings("resnet18")
    differ = {name for name, value in recipe["settings"].items() if name in now and now[name] != value}
    assert differ == {"checkpoint", "checkpoint_sha256"} | {"lr"}


def _cells(table: Table, variant: str, dataset: str) -> tuple[str, str]:
    cell, base = table.cells[variant, dataset], table.cells["base", dataset]
    text = f"{cell.mean:.2f} ± {cell.std:.2f}"
    if variant == "base":
        return text, ""
    assert cell.mean is not None
    assert base.mean is not None
    p, paired = (
        "< 0.001" if value is not None and value < 0.001 else f"{value:.3f}"
        for value in (cell.p_value, cell.paired_p_value)
    )
    return text, f"{cell.mean - base.mean:+.2f} (p {p}, paired {paired})"
