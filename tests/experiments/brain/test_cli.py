import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from timm_lp.experiments.brain import cli
from timm_lp.experiments.brain.responses import Area, Responses, write_responses
from timm_lp.experiments.brain.similarity import rsm_of_responses

from ...trials.records import save_trial
from .data import IMAGES, small_cortex, write

QUICK = ["--resamples", "8", "--splits", "2", "--permutations", "4", "--image-size", "32"]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two seeds each of a tiny network and its conversion, as trials leave them."""
    folder = tmp_path_factory.mktemp("trials")
    return [str(save_trial(folder, variant, seed)) for variant in ("base", "lp2") for seed in range(2)]


def _responses(path: Path) -> Path:
    write_responses(path, small_cortex().responses)
    return path


def _run(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    cli.main(["rsa", *arguments, *QUICK, "--output-dir", str(output)])
    return capsys.readouterr().out, json.loads((output / "results.json").read_text())


def test_compares_trials_with_a_file_of_responses(
    trials: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _responses(tmp_path / "cortex.npz")
    printed, rows = _run(capsys, tmp_path / "out", "--responses", str(file), "--models", *trials)
    assert (tmp_path / "out" / "results.md").read_text().strip() in printed
    assert (tmp_path / "out" / "results.png").stat().st_size > 10_000
    assert {row["group"] for row in rows} == {"resnet18 (base)", "resnet18 (lp2)", "pixels"}
    assert [row["model"] for row in rows if row["depth"] == 0 and row["area"] == "fine"] == [*trials, "pixels"]
    with (tmp_path / "out" / "results.csv").open() as stream:
        table = [*csv.DictReader(stream)]
    assert [float(row["tau"]) for row in table] == [row["tau"] for row in rows]
    with (tmp_path / "out" / "differences.csv").open() as stream:
        differences = [*csv.DictReader(stream)]
    assert [(d["area"], d["seeds"], d["synthetic"]) for d in differences] == [
        ("fine", "2", "True"),
        ("coarse", "2", "True"),
    ]
    for row in rows:
        assert row["low"] <= row["high"]
        assert row["ceiling_kind"] == "across mice"
        assert row["share_of_ceiling"] == row["tau"] / row["ceiling"]
        assert (row["images"], row["centred"], row["synthetic"]) == (IMAGES, True, True)
        assert "no measurement" in row["source"]
    for trial in [*trials, "pixels"]:
        own = [row for row in rows if row["model"] == trial]
        (maximum,) = (row for row in own if row["maximum"])
        assert maximum["tau"] == max(row["tau"] for row in own)
        for area in ("fine", "coarse"):
            (best,) = (row for row in own if row["area"] == area and row["best_of_area"])
            assert best["tau"] == max(row["tau"] for row in own if row["area"] == area)
            assert [row["held_out_tau"] is not None for row in own if row["area"] == area].count(True) == 1


def test_refuses_seeds_that_are_no_seeds_of_one_network(trials: list[str], tmp_path: Path) -> None:
    other = save_trial(tmp_path, "base", 9, layers=[2, 1, 1, 1])
    file = _responses(tmp_path / "cortex.npz")
    message = r"must name seeds of one network, got other layers in .*seed9 than in .*0, both resnet18 \(base\)\. Comp"
    with pytest.raises(SystemExit, match=message):
        cli.main(["rsa", "--responses", str(file), *QUICK, "--models", trials[0], str(other)])


def test_the_default_is_a_synthetic_cortex_that_its_features_explain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_UNTRAINED", ("test_resnet",))
    monkeypatch.setattr(cli, "synthetic_cortex", lambda seed: small_cortex(seed=seed, images=40))
    printed, rows = _run(capsys, tmp_path, "--seeds", "0", "1")
    assert "# Representational similarity: a SYNTHETIC cortex, no measurement" in printed
    assert all(row["synthetic"] for row in rows)
    assert {(row["group"], row["seed"]) for row in rows if not row["baseline"]} == {
        ("test_resnet (untrained)", 0),
        ("test_resnet (untrained)", 1),
    }
    features = [row for row in rows if row["model"] == "generating features" and row["best_of_area"]]
    assert [(row["layer"], row["share_of_ceiling"] > 0.8) for row in features] == [("fine", True), ("coarse", True)]
    shuffled = [row for row in rows if row["model"] == "generating features, images shuffled"]
    assert all(abs(row["share_of_ceiling"]) < 0.25 for row in shuffled)


def test_similarities_from_elsewhere_need_a_folder_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cortex = small_cortex().responses
    areas = {name: Area(rsm=rsm_of_responses(area.responses, False)) for name, area in cortex.areas.items()}
    write_responses(tmp_path / "rsms.npz", Responses(areas, "elsewhere", centred=False, synthetic=False))
    arguments = ["--responses", str(tmp_path / "rsms.npz"), "--untrained", "test_resnet"]
    with pytest.raises(SystemExit, match="`--responses` must hold `images`, or `--images` name a folder of them, got"):
        cli.main(["rsa", *arguments, "--output-dir", str(tmp_path)])
    (tmp_path / "images").mkdir()
    (tmp_path / "differences.csv").write_text("of an earlier run")
    for number, image in enumerate(cortex.images):
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}.png")
    printed, rows = _run(capsys, tmp_path, *arguments, "--images", str(tmp_path / "images"), "--areas", "coarse")
    assert "SYNTHETIC" not in printed
    assert "`--images`" not in printed
    assert {row["area"] for row in rows} == {"coarse"}
    assert {(row["centred"], row["ceiling_kind"], row["share_of_ceiling"]) for row in rows} == {(False, "none", None)}
    assert not (tmp_path / "differences.csv").exists()
    pixels = next(row for row in rows if row["model"] == "pixels")
    assert pixels["tau"] != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--areas", "V1"], "`--areas` must be in the responses, got V1. There are fine, coarse."),
        (["--layers", "nothing"], "test_resnet: `--layers` must name modules of the network, got nothing."),
        (["--models", "no_such_net"], "`NETWORK` must be a registered name, hf-hub:ORG/NAME, local-dir:FOLDER, the"),
        (
            ["--untrained", "vit_tiny_patch16_224", "--image-size", "64"],
            "`--image-size` must fit vit_tiny_patch16_224, got",
        ),
        (["--images", "nowhere"], "`--images` must be a folder, got nowhere."),
        (["--responses", "nowhere.npz"], "No such file or directory: 'nowhere.npz'"),
        (["--device", "cuda"], "`--device` must be there, got cuda, which torch does not see."),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = _responses(tmp_path / "cortex.npz")
    models = ["--untrained", "test_resnet", "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        cli.main(["rsa", "--responses", str(file), *models, *arguments])
    said = capsys.readouterr().err if ended.value.code == 2 else str(ended.value.code)
    (line,) = said.strip().splitlines()
    assert line.startswith("timm-lp brain rsa: ")
    assert re.search(re.escape(message), line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "x"], "`--images` must come with `--responses`, got it alone. Leave it out."),
        (["--models", "x", "--seeds", "1"], "`--seeds` must come with `--untrained`, whose weights they draw."),
        (["--seed", "-1"], "`seed` must be between 0 and 4,294,967,295, got -1"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["rsa", *arguments])
    assert message in capsys.readouterr().err


def test_broken_responses_are_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "f.npz", small_cortex().responses, about={"centred": None})
    with pytest.raises(SystemExit, match="brain rsa: `about` must say `centred`, a bool, got None"):
        cli.main(["rsa", "--responses", str(file), "--models", "test_resnet"])


