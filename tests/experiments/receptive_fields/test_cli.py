"""The command, end to end, and every command line that it refuses."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from tests.processes import WarmPython
from tests.trials.records import save_sudoku, save_trial
from timm_lp.experiments import receptive_fields
from timm_lp.experiments.receptive_fields import cli, sample_mpnd
from timm_lp.experiments.receptive_fields.flags import FieldsSettings
from timm_lp.experiments.receptive_fields.report import SYNTHETIC

COMMAND = "timm-lp receptive-fields"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A saved network whose kernels are Gaussian, so that its synapses are too."""
    model = timm.create_model("resnet18", channels=(8, 8, 8, 8), num_classes=2)
    y, x = np.mgrid[-3:4, -3:4]
    window = np.exp(-(x**2 + y**2) / 8).astype(np.float32)
    model.conv1.weight.data.mul_(model.conv1.weight.new_tensor(window))
    folder = tmp_path / "windowed"
    save_for_hf(model, folder, model_config={"num_classes": 2, "model_args": {"channels": [8, 8, 8, 8]}})
    return folder


def _offsets(folder: Path, neurons: int = 3) -> Path:
    path = folder / "offsets.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "x", "y", "neuron"])
        for group, p in (("round", 2), ("square", 8)):
            for neuron in range(neurons):
                drawn = sample_mpnd(200, np.diag([0.02, 0.01]), p, seed=neuron)
                writer.writerows([group, x, y, neuron] for x, y in drawn)
    return path


def _run(folder: Path, *arguments: str) -> dict[str, Any]:
    cli.main([*arguments, "--output-dir", str(folder)])
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def _pictures(folder: Path) -> dict[str, tuple[int, int]]:
    sizes = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert np.unique(np.asarray(image.convert("L"))).size > 20, f"{path} is almost empty"
            sizes[path.name] = image.size
    return sizes


def test_the_example_finds_what_was_drawn_and_says_that_it_is_synthetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _run(tmp_path, "--num-images", "2")
    assert content["synthetic"] is True
    groups = {group["group"]: group for group in content["groups"]}
    for p in (1, 2, 4, 16):
        assert groups.pop(f"synthetic, p = {p}")["p_median"] == pytest.approx(p, rel=0.3)
    assert list(groups) == ["alexnet, untrained, images", "alexnet, untrained, noise"]
    assert all(group["flat_fields"] == 2 for group in groups.values())
    assert len(content["fits"]) == 12
    assert len(content["comparisons"]) == 14  # 15 pairs, without that of the two flat groups
    printed = capsys.readouterr()
    report = (tmp_path / "report.md").read_text()
    assert SYNTHETIC in printed.out
    assert SYNTHETIC in report
    assert (tmp_path / "fits.csv").read_text().count("\nTrue,") == 12
    assert "fits: 100%" in printed.err
    pictures = _pictures(tmp_path)
    assert list(pictures) == ["fields.png", "kernels-1-alexnet-untrained.png", "p.png", "units.png"]
    assert all(f"]({name})" in report for name in pictures)


@pytest.mark.usefixtures("no_pictures")
def test_offsets_on_a_grid(tmp_path: Path) -> None:
    """Rounded to half a micrometre: the exponent is that of the offsets, and there is an interval and a test."""
    x, y = 0.5 * np.round(2 * sample_mpnd(800, np.eye(2), 1, seed=3)).T
    path = tmp_path / "offsets.csv"
    path.write_text("group,x,y\n" + "".join(f"V1,{pair[0]},{pair[1]}\n" for pair in zip(x, y, strict=True)))
    with pytest.raises(SystemExit, match=r"`--offsets` must come with `--tap` .*\. `--tap 0\.5` says how wide"):
        _run(tmp_path / "out", "--offsets", str(path))
    content = _run(tmp_path / "out", "--offsets", str(path), "--tap", "0.5")
    (field,) = content["fits"]
    assert 0.9 < field["p"] < 1.12
    assert field["p_low"] < 1 < field["p_high"]
    assert field["gaussian_p_value"] < 0.001
    assert content["settings"]["tap"] == [0.5, 0.5]
    with pytest.raises(SystemExit, match=r"`offsets` must lie whole taps apart where `tap` is given"):
        _run(tmp_path / "out", "--offsets", str(path), "--tap", "0.5", "0.35")


def test_a_users_own_offsets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Axes of different scales: the offsets are standardized before the fit."""
    content = _run(tmp_path / "out", "--offsets", str(_offsets(tmp_path)), "--form", "diagonal")
    assert content["synthetic"] is False
    assert "ynthetic" not in capsys.readouterr().out + (tmp_path / "out" / "report.md").read_text()
    assert [group["group"] for group in content["groups"]] == ["round", "square"]
    for fit in content["fits"]:
        p = {"round": 2, "square": 8}[fit["group"]]
        assert fit["p"] == pytest.approx(p, rel=0.7)
        assert fit["p_low"] < fit["p"] < (fit["p_high"] or math.inf)
        assert fit["interval"] == "profile"
        assert (fit["gaussian_p_value"] < 0.05) == (p == 8)
        np.testing.assert_allclose(np.diag(fit["C"]), fit["C"][0][0], rtol=0.3)
    assert list(_pictures(tmp_path / "out")) == ["fields.png", "p.png", "units.png"]


def test_a_saved_network_beside_a_users_offsets(tmp_path: Path, network: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    content = _run(
        tmp_path / "out",
        *(str(network), "--offsets", str(_offsets(tmp_path, neurons=2)), "--images", str(images), "--num-images", "2"),
    )
    exponents = {group["group"]: group["p_median"] for group in content["groups"]}
    assert list(exponents) == [
        *("round", "square", "windowed, trained, images", "windowed, trained, noise"),
        *("windowed, untrained, images", "windowed, untrained, noise"),
    ]
    assert exponents["windowed, trained, noise"] < 10 < exponents["windowed, untrained, noise"]
    fits = [fit for fit in content["fits"] if fit["group"] == "windowed, trained, images"]
    assert [fit["unit"] for fit in fits] == ["0.png", "1.png"]
    assert all(fit["p_low"] is None and fit["gaussian_p_value"] is None for fit in fits)
    assert {"kernels-1-windowed-trained.png", "kernels-2-windowed-untrained.png"} <= _pictures(tmp_path / "out").keys()


def test_a_run_and_a_file_of_weights(tmp_path: Path, network: Path) -> None:
    """Trials are called as their folders are, and a file's weights are those that are measured."""
    for seed in (1, 2):
        save_trial(tmp_path, seed=seed)
    model = timm.create_model(f"local-dir:{network}", pretrained=True)
    torch.save(model.state_dict(), network / "last.pth")
    networks = [str(tmp_path / "digits"), str(network), str(network / "last.pth")]
    measured = cli.run(FieldsSettings(networks=networks, weights=["trained"], inputs=["noise"], num_images=1))
    titles = ["lp2-seed1", "lp2-seed2", "windowed", str(network / "last.pth")]
    assert [panel.title for panel in measured.kernels] == [f"{title}, trained" for title in titles]
    assert len({panel.kernel.tobytes() for panel in measured.kernels}) == 3
    exponents = {fit.group: fit.p for fit in measured.fits}
    assert exponents["windowed, trained, noise"] == exponents[f"{network / 'last.pth'}, trained, noise"] < 10


def test_a_sudoku_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`NETWORK` must be a network that sees images, got .*, a Sudoku network"):
        cli.run(FieldsSettings(networks=[str(save_sudoku(tmp_path))]))


def test_folders_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    names = [str(tmp_path / parent / "lp2-seed1") for parent in "ab"]
    for name in names:
        Path(name).mkdir(parents=True)
    assert cli.network_titles((names[0], "alexnet")) == {names[0]: "lp2-seed1", "alexnet": "alexnet"}
    assert cli.network_titles((*names,)) == {name: name for name in names}


@pytest.mark.usefixtures("no_pictures")
def test_a_field_of_each_neuron(tmp_path: Path, network: Path) -> None:
    flags = "--unit neuron --weights trained --inputs noise --num-images 1".split()
    content = _run(tmp_path / "out", str(network), *flags)
    assert [fit["unit"] for fit in content["fits"]] == [f"neuron {place}" for place in range(1, 65)]
    assert content["settings"]["unit"] == "neuron"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tap", "1"], "`--tap` must be one number, or one for x and one for y, and come with `--offsets`."),
        (["--offsets", "y", "--tap", "1", "1", "1"], "`--tap` must be one number, or one for x and one for y"),
        (["--offsets", "y", "--tap", "0"], "`--tap` must be above 0 and finite, got 0"),
        (["--offsets", "y", "--tap", "1", "--form", "full"], "`--form` must be isotropic or diagonal with `--tap`"),
        (
            ["--images", "x", "--offsets", "y"],
            "`--images` must come with a NETWORK, got `--offsets` alone. Name a network",
        ),
        *(
            (["--offsets", "y", *words], f"`{words[0]}` must come with a NETWORK, got `--offsets` alone.")
            for words in (["--weights", "trained"], ["--inputs", "noise"], ["--unit", "neuron"], ["--num-images", "3"])
        ),
        (["--images", "x", "--inputs", "noise"], "`--images` must come with `--inputs images`, got noise alone. Leave"),
        (["--form", "full"], "`--form` must be isotropic or diagonal for a network, got full. A turned density has no"),
        (["resnet18", "--form", "full"], "`--form` must be isotropic or diagonal for a network, got full"),
        (["--weights", "trained"], "`--weights` must come with a NETWORK, got none. Name a network"),
        (["--num-images", "0"], "`num_images` must be at least 1, got 0"),
        (["--seed", "-1"], "`seed` must be between 0 and 4,294,967,295, got -1"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "run", None)
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{COMMAND}: error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "`NETWORK` must be a registered name, .*, got 'nothing', which is neither a name"),
        (["--offsets", "nowhere.csv"], r"\[Errno 2\] No such file or directory: 'nowhere\.csv'"),
        (["--images", "nowhere"], "`--images` must be a folder, got nowhere"),
        (["resnetv2_50x1_bit", "--weights", "untrained"], "`NETWORK` must begin with a plain convolution of one group"),
    ],
)
def test_what_is_not_there_ends_in_one_sentence_before_anything_is_fitted(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "fit_field", None)
    monkeypatch.setattr(cli.NetworkSource, "synapses", None)
    with pytest.raises(SystemExit, match=f"{COMMAND}: {message}"):
        cli.main([*arguments, "--output-dir", str(tmp_path)])


def test_trained_weights_that_cannot_be_had(tmp_path: Path) -> None:
    message = (
        "`NETWORK` must have trained weights that can be had, got lp2_replknet31: No .* `--weights untrained` needs"
    )
    with pytest.raises(SystemExit, match=message):
        cli.main(["lp2_replknet31", "--output-dir", str(tmp_path / "out")])


def test_a_network_without_synapses(tmp_path: Path, network: Path) -> None:
    model = timm.create_model(f"local-dir:{network}", pretrained=True)
    model.conv1.weight.data.zero_()
    save_for_hf(model, network, model_config={"num_classes": 2, "model_args": {"channels": [8, 8, 8, 8]}})
    message = "`NETWORK` must have functional synapses, got none for windowed, trained, noise. Show it other images"
    with pytest.raises(SystemExit, match=message):
        cli.main([str(network), "--inputs", "noise", "--num-images", "1", "--output-dir", str(tmp_path / "out")])


def test_an_output_folder_that_cannot_be_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", None)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=rf"{COMMAND}: \[Errno \d+\] .*file"):
        cli.main(["--output-dir", str(tmp_path / "file")])


def test_the_readme_runs_as_it_is_printed(python: WarmPython) -> None:
    path = Path(receptive_fields.__file__).with_name("README.md")
    if not path.is_file():
        pytest.skip("installed without the README")
    (code,) = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert float(python("-c", code).stdout.split()[0]) == pytest.approx(4, rel=0.2)


def test_the_package_offers_its_names_without_importing_them(python: WarmPython) -> None:
    code = (
        "import sys; import timm_lp.experiments.receptive_fields as r; assert 'scipy' not in sys.modules; "
        "assert {*r.__all__} <= {*dir(r)}; print(*(getattr(r, name).__name__ for name in r.__all__))"
    )
    names = python("-c", code).stdout.split()
    assert names == "GaussianTest MPNDFit fit_mpnd gaussian_test mpnd_log_prob sample_mpnd".split()
    with pytest.raises(AttributeError, match="has no attribute 'fit_gaussian'"):
        _ = receptive_fields.fit_gaussian
