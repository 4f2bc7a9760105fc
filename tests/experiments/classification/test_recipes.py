"""The measured figures that the README and the recipes state are those of the result file."""

import json
import re
import shlex
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import timm
from accelerate import Accelerator
from scipy.stats import ttest_ind, ttest_rel
from statsmodels.stats.multitest import multipletests
from timm import list_models

from timm_lp.experiments.classification.benchmark import Benchmark
from timm_lp.experiments.classification.flags import DIGITS_RECIPE, parse_arguments
from timm_lp.experiments.classification.networks import check_variant
from timm_lp.trials.statistics import Measurement, Table, tabulate
from timm_lp.variants import BASE, variant_order

from ..images import make_parquet
from ..measured import EXPERIMENTS, ROOT, numbers_after

CLASSIFICATION = EXPERIMENTS / "classification"
README = CLASSIFICATION / "README.md"
TRANSFER, SHORT = ("cifar_transfer", ["cifar10", "dtd10"]), ("short_cifar100", ["cifar100"])
_STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
_RESNET = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)}
_SMALL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50"), _RESNET),
    **dict.fromkeys(("convnext_tiny", "convnextv2_tiny"), _STAGES),
    "resnext50_32x4d": {**_RESNET, "channels": (16, 16, 32, 32)},
    "densenet121": {"block_config": (1, 1, 1, 1), "growth_rate": 8},
    "replknet31": {**_STAGES, "kernel_sizes": (7, 7, 5, 5)},
    "vgg16": {"mlp_ratio": 0.01},
    "alexnet": {},
}
_CHEAPER = {"table1_tinyimagenet.yaml": ("--img-size", "64", "--small-stem")}  # as its own text says
RECIPES = sorted(path.name for path in DIGITS_RECIPE.parent.iterdir() if path.name.endswith(".yaml"))

FROM_SCRATCH = [
    *("short_cifar100.yaml", "short_cifar100_depthwise.yaml", "table1_cifar100.yaml", "table1_tinyimagenet.yaml"),
    *("table3.yaml", "table9.yaml"),
]


def _measured(name: str) -> dict[str, Any]:
    """Return what a result file holds."""
    return json.loads((CLASSIFICATION / "recipes" / f"{name}.json").read_text())


def _table(name: str, datasets: list[str]) -> Table:
    """Return the table of the trials that a result file holds by seed."""
    entries = _measured(name)["results"]
    measurements = [
        Measurement(entry["variant"], entry["dataset"]["id"], int(seed), top1)
        for entry in entries
        for seed, top1 in entry["metrics"]["top1"].items()
    ]
    variants = sorted({measurement.row for measurement in measurements}, key=variant_order)
    return tabulate(measurements, variants, {name: name for name in datasets}, BASE)


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_read_by_name_and_state_their_command(name: str) -> None:
    assert parse_arguments(["--config", name])[0].model
    head = (DIGITS_RECIPE.parent / name).read_text().split("\nmodel", 1)[0]
    assert "accelerate launch finetune.py" in head
    assert "Expected" in head


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_the_networks_of_a_recipe_can_be_built(name: str) -> None:
    config, _ = parse_arguments(["--config", name])
    for model in config.model:
        check_variant(config, model, config.variants[0])


@pytest.mark.usefixtures("narrow_classics")
@pytest.mark.parametrize(
    "name", [FROM_SCRATCH[0], *(pytest.param(name, marks=pytest.mark.exhaustive) for name in FROM_SCRATCH[1:])]
)
def test_a_recipe_runs_and_the_command_in_each_record_repeats_its_trial(name: str, tmp_path: Path) -> None:
    """One epoch of small networks of the recipe's kinds, on a few images, with all its other settings."""
    make_parquet(tmp_path / "bugs", {"train": 2, "test": 1})
    config, _ = parse_arguments(["--config", name, *_CHEAPER.get(name, ())])
    kwargs = {model: {**config.kwargs_of(model), **_SMALL[model.removesuffix("_small_stem")]} for model in config.model}
    few = {"dataset": [str(tmp_path / "bugs")], "seeds": [1], "epochs": 1, "shots": 2, "batch_size": 6}
    where = {"output_dir": str(tmp_path / "out"), "save_models": False, "mixed_precision": "no"}
    variants = config.variants[-1:]
    config = replace(config, model_kwargs=kwargs, variants=variants, **few, **where)
    records = Benchmark(config, Accelerator()).run()
    assert {(own.model, own.variant) for own in records} == {*product(config.model, variants)}
    for own in records:
        assert own.error is None
        assert {measure: len(values) for measure, values in own.history.items()} == {"loss": 1, "lr": 1, "top1": 1}
        assert own.settings["smoothing"] == 0.1
        again, _ = parse_arguments(shlex.split(own.command)[3:])
        assert again.trial_settings(own.model) == {**own.settings, "mixed_precision": again.mixed_precision}


@pytest.mark.parametrize(("name", "datasets"), [TRANSFER, SHORT])
def test_the_readmes_table_is_the_measured_one(name: str, datasets: list[str]) -> None:
    table = _table(name, datasets)
    text = (CLASSIFICATION / "README.md").read_text().split(f"<!-- measured: {name} -->\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]]
    stated = {cells[0]: cells[1 : 1 + 2 * len(datasets)] for cells in rows}
    assert list(stated) == table.rows
    for variant, cells in stated.items():
        assert cells == [text for dataset in datasets for text in _cells(table, variant, dataset)]


def test_the_readmes_training_accuracies_are_the_measured_ones() -> None:
    text = (CLASSIFICATION / "README.md").read_text().split("<!-- measured: short_cifar100 -->\n")[1].split("\n\n")[0]
    stated = {
        cells[0]: cells[3] for cells in ([cell.strip() for cell in row.split("|")[1:]] for row in text.splitlines())
    }
    for entry in _measured("short_cifar100")["results"]:
        values = [*entry["metrics"]["train_top1"].values()]
        assert stated[entry["variant"]] == f"{fmean(values):.2f} ± {stdev(values):.2f}"


def test_the_transfer_is_that_of_its_recipe() -> None:
    table = _table(*TRANSFER)
    config, _ = parse_arguments(["--config", "cifar_transfer.yaml", "--dataset", "data/cifar10", "data/dtd10"])
    recipe = _measured("cifar_transfer")["recipe"]
    assert set(table.rows) == set(config.variants)
    assert all(set(cell.values) == set(config.seeds) for cell in table.cells.values())
    now = config.trial_settings("resnet18")
    differ = {name for name, value in recipe["settings"].items() if name in now and now[name] != value}
    assert differ == {"checkpoint", "checkpoint_sha256"} | {"lr"}


def test_the_short_result_is_that_of_its_recipe() -> None:
    table = _table(*SHORT)
    config, _ = parse_arguments(["--config", "short_cifar100.yaml", "--mixed-precision", "no"])
    settings = _measured("short_cifar100")["recipe"]["settings"]
    assert set(table.rows) == set(config.variants)
    assert all(set(cell.values) == set(config.seeds) for cell in table.cells.values())
    now = config.trial_settings(config.model[0])
    assert {name: value for name, value in settings.items() if name in now} == now
    assert settings["shots"] == config.shots


EQUAL_COST = _measured("equal_cost")["networks"]


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured of a row of the table at equal cost."""
    return next(entry for entry in _measured(row["results"])["results"] if entry["variant"] == row["variant"])


def _top1(row: dict[str, Any]) -> list[float]:
    return [value for _, value in sorted(_entry(row)["metrics"]["top1"].items())]


def test_the_readmes_table_at_equal_cost_is_the_measured_one() -> None:
    text = README.read_text().split("<!-- measured: equal_cost -->\n")[1].split("\n\n")[0]
    stated = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]]
    measured = [
        [
            *(network, row["variant"], str(row["channels"])),
            f"{fmean(_top1(row)):.2f} ± {stdev(_top1(row)):.2f}",
            *(f"{entry['parameters']:,}", f"{entry['macs'] / 1e6:.1f}", f"{row['step_ms']}", f"{row['image_ms']:.2f}"),
        ]
        for network, rows in EQUAL_COST.items()
        for row in rows
        for entry in [_entry(row)]
    ]
    assert stated == measured
    entries = [_entry(row) for rows in EQUAL_COST.values() for row in rows]
    assert [len(entry["history"]) for entry in entries] == [3, 3, 3, 3, 3, 4, 4]
    assert {len(history["top1"]) for entry in entries for history in entry["history"].values()} == {40}


def test_the_readmes_sentences_at_equal_time_are_about_the_measured_networks() -> None:
    """Masks beside the base network that trains about as long, with each test after Holm-Bonferroni."""
    pairs = []
    for rows in EQUAL_COST.values():
        masks = next(row for row in rows if row["variant"] == "lp2")
        wider = max((row for row in rows if row["variant"] == "base"), key=lambda row: row["channels"])
        assert 0.95 < wider["step_ms"] / masks["step_ms"] < 1.05
        pairs.append((_top1(wider), _top1(masks)))
    welch, paired = (
        multipletests([test(*pair).pvalue for pair in pairs], method="holm")[1]
        for test in (partial(ttest_ind, equal_var=False), ttest_rel)
    )
    stated = " ".join(README.read_text().split())
    for (wider, masks), p, of_pairs in zip(pairs, welch, paired, strict=True):
        ahead = f"{abs(fmean(wider) - fmean(masks)):.1f} points"
        assert f"{ahead} (p {p:.3f}, paired {of_pairs:.3f})" in stated
    (wider,) = _measured("short_cifar100_wider")["results"]
    assert f"It gets {fmean(wider['metrics']['train_top1'].values()):.1f} % of its training images right" in stated
    fitted = [value for row in EQUAL_COST["ConvNeXt"] for value in _entry(row)["metrics"]["train_top1"].values()]
    assert f"they get {min(fitted):.0f} to {max(fitted):.0f} % of their training images right" in stated
    first_page = " ".join((ROOT / "README.md").read_text().split())
    (wide_resnet, _), (wide_convnext, masked_convnext) = pairs
    assert f"trains as long and gets {fmean(wide_resnet):.1f} % right" in first_page
    gets = f"{fmean(masked_convnext):.1f} with masks, {fmean(wide_convnext):.1f} wider. Masks are ahead in each of four"
    assert f"{gets} seeds (p {welch[1]:.2f})" in first_page
    of_three = [
        multipletests([test(*(side[:3] for side in pair)).pvalue for pair in pairs], method="holm")[1][1]
        for test in (partial(ttest_ind, equal_var=False), ttest_rel)
    ]
    assert "had left it open (p {:.3f}, paired {:.3f})".format(*of_three) in stated
    assert all(one < other for one, other in zip(wide_convnext, masked_convnext, strict=True))


def test_the_readmes_masks_in_depthwise_layers_alone_are_the_measured_ones() -> None:
    (part,) = _measured("short_cifar100_depthwise_part")["results"]
    base, wider, masks = (fmean(_top1(row)[:2]) for row in EQUAL_COST["ConvNeXt"])
    assert part["metrics"]["top1"].keys() == {"1", "2"}
    text = " ".join(README.read_text().split())
    costs = f"take {part['parameters']:,} parameters and {part['macs'] / 1e6:.1f} M MACs"
    mean = fmean(part["metrics"]["top1"].values())
    assert f"{costs}, and get {mean:.2f} on average of seeds 1 and 2, where `base` gets {base:.2f}" in text
    assert f"the wider one {wider:.2f} and `lp2` {masks:.2f}; their time" in text


_AT_EQUAL_COST = [f"short_cifar100_{name}" for name in ("wider", "depthwise", "depthwise_wider", "depthwise_part")]


@pytest.mark.parametrize("name", _AT_EQUAL_COST)
def test_a_result_at_equal_cost_is_that_of_its_command(name: str) -> None:
    recipe = _measured(name)["recipe"]
    config, _ = parse_arguments(shlex.split(recipe["command"])[3:])
    now = config.trial_settings(config.model[0])
    assert {key: value for key, value in recipe["settings"].items() if key in now} == now


def test_the_readmes_sentences_are_about_the_short_result() -> None:
    entries = {entry["variant"]: entry for entry in _measured("short_cifar100")["results"]}
    top1 = {variant: [*entry["metrics"]["top1"].values()] for variant, entry in entries.items()}
    base, large, lp2 = (fmean(top1[variant]) for variant in ("base", "large", "lp2"))
    least = [min(a - b for a, b in zip(top1["lp2"], top1[other], strict=True)) for other in ("base", "large")]
    assert numbers_after("- **`lp2` is ahead of `base` by", README)[:5] == [
        *(f"{value:.1f}" for value in (lp2 - base, lp2 - large, *least)),
        f"{large - base:.2f}",
    ]
    assert numbers_after("From scratch on", ROOT / "README.md")[1:4] == [f"{value:.1f}" for value in (base, large, lp2)]
    curves = [
        [fmean(values) for values in zip(*(own["top1"] for own in entries[variant]["history"].values()), strict=True)]
        for variant in ("large", "lp2")
    ]
    ahead = [one < other for one, other in zip(*curves, strict=True)]
    assert {*ahead[:10]} == {True, False}
    assert all(ahead[10:])


def test_the_readmes_sentences_are_about_the_transfer() -> None:
    table, (cifar, dtd) = _table(*TRANSFER), TRANSFER[1]
    minus_base = {place: (cell.mean or 0) - (table.mean("base", place[1]) or 0) for place, cell in table.cells.items()}
    preserved = [variant for variant in table.rows if variant.startswith("lp") and not variant.endswith("-paper")]
    assert all(abs(minus_base[variant, dataset]) < 1 for variant in preserved for dataset in (cifar, dtd))
    paired = [table.cells[variant, cifar].paired_p_value for variant in ("large", "lp2-paper")]
    stated = numbers_after("Nothing beats the base network here", README)
    assert stated[:6] == [
        *("2", f"{-minus_base['large', cifar]:.2f}", f"{minus_base['large', dtd]:.2f}"),
        *(f"{p:.3f}" for p in paired),
        str(2 * (len(table.rows) - 1)),
    ]
    assert stated[6:8] == [f"{-minus_base['large-reinit', dataset]:.0f}" for dataset in (cifar, dtd)]


def test_trials_that_are_named_lie_where_a_run_puts_them() -> None:
    """Below the output folder and the data set, a folder of the network's name holds each trial."""
    texts = [*ROOT.glob("**/*.md"), *CLASSIFICATION.glob("recipes/*.yaml")]
    named = [path for text in texts for path in re.findall(r"[\w/-]*/(?:base|lp\d+)-seed", text.read_text())]
    wrong = [path for path in named if path.split("/")[-2] not in [*list_models(), "sudoku24x6-one-hot"]]
    assert len(named) > 5
    assert wrong == []


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_recipe_says_whose_images_are_interpolated_otherwise_than_the_authors(name: str) -> None:
    config, _ = parse_arguments(["--config", name])
    head = (DIGITS_RECIPE.parent / name).read_text().split("\nmodel", 1)[0]
    bilinear = [model for model in config.model if timm.get_pretrained_cfg(model).interpolation != "bicubic"]
    assert bool(bilinear) == ("bilinear" in head)


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
