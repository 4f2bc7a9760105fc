"""The whole command on tiny untrained networks: what it measures, keeps, writes and refuses."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from tests.distributed import run_on_two_processes
from tests.processes import WarmPython
from timm_lp.experiments.data.corruptions.functions import CORRUPTIONS, computable, corrupt
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.robustness import cli, measure
from timm_lp.experiments.robustness.cli import main
from timm_lp.experiments.robustness.networks import Candidate
from timm_lp.models.loading import load_network
from timm_lp.trials.record import read_record

from ..conftest import forget_format
from ..networks import accuracy
from .conftest import MakeTrial

NOTE = "computed here, not comparable with published results; without frost; images enlarged to 32x32 pixels"


@pytest.fixture(scope="module")
def computed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """What the command prints, says and leaves."""
    output_dir = tmp_path_factory.mktemp("computed")
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as progress:
        main([str(run), "--compute", "--severities", "1", "3", "--output-dir", str(output_dir)])
    return output.getvalue(), progress.getvalue(), output_dir


def test_every_table_says_what_the_images_are(computed: tuple[str, str, Path]) -> None:
    text = computed[0]
    blocks = text.split("\n\n")
    titles = [before for before, block in pairwise(blocks) if block.startswith("| ")]
    assert len(titles) >= 1 + 2 + 2  # summary, wins, corruptions; differences where there is a spread
    assert all(NOTE in title for title in titles), titles
    assert "CIFAR" not in text
    assert "Not among them: frost." in text
    assert "4 networks; 9 images of each of 18 corruptions at severity 1, 3" in text
    assert "148/148" in computed[1]


def test_the_accuracies_are_those_of_the_networks(run: Path, bugs: Path, computed: tuple[str, str, Path]) -> None:
    with (computed[-1] / "report.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * (1 + 2 * 18)
    test = load_data(str(bugs)).test
    large = [test.image(place).resize((32, 32), Image.Resampling.BICUBIC) for place in range(len(test))]
    clean = np.stack([np.asarray(image) for image in large])
    for variant, name, severity in (("base", "fog", 3), ("lp2", "gaussian_noise", 1), ("lp2", "clean", 0)):
        network = load_network(str(run / "bugs" / "resnet18" / f"{variant}-seed2"))
        transform = create_transform(**resolve_model_data_config(network))
        images = clean if name == "clean" else corrupt(clean, name, severity)
        pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
        (line,) = [
            line
            for line in lines
            if (line["variant"], line["seed"], line["corruption"], line["severity"])
            == (variant, "2", name, str(severity))
        ]
        assert float(line["top1"]) == accuracy(network, pixels, test.own_labels())


def test_results_in_json(computed: tuple[str, str, Path]) -> None:
    content = json.loads((computed[-1] / "results.json").read_text())
    assert content["data"] == {
        **{"name": "corrupted bugs", "note": NOTE, "num_images": 9},
        **{"corruptions": computable(), "severities": [1, 3]},
    }
    assert content["demonstration"] is False
    assert content["command"].startswith("python -m timm_lp.experiments.robustness ")
    assert "--severities 1 3" in content["command"]
    assert [(own["model"], own["variant"]) for own in content["summary"]] == [("resnet18", "base"), ("resnet18", "lp2")]
    assert sum(own["count"] for own in content["wins"]["counts"]["resnet18"].values()) == pytest.approx(18)
    fog = [own["top1"] for own in content["results"] if own["corruption"] == "fog" and own["variant"] == "base"]
    assert len(fog) == 4
    with Image.open(computed[-1] / "report.png") as picture:
        assert picture.width > 300


@pytest.fixture
def few_corruptions(no_pictures: None) -> Iterator[None]:
    """Compute two corruptions only."""
    every = dict(CORRUPTIONS)
    for name in {*computable()} - {"fog", "contrast"}:
        del CORRUPTIONS[name]
    yield
    CORRUPTIONS.clear()
    CORRUPTIONS.update(every)  # in their order


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each set of images that is measured."""
    calls: list[int] = []
    evaluate = measure.evaluate
    monkeypatch.setattr(measure, "evaluate", lambda *a, **k: (calls.append(1), evaluate(*a, **k))[1])
    return calls


@pytest.mark.usefixtures("few_corruptions")
def test_what_is_measured_is_not_measured_again(
    run: Path, make_trial: MakeTrial, evaluated: list[int], tmp_path: Path
) -> None:
    def measured(*arguments: object) -> int:
        evaluated.clear()
        main([*map(str, arguments), "--compute", "--output-dir", str(tmp_path / "out")])
        return len(evaluated)

    assert measured(run, "--severities", "1", "3") == 4 * (1 + 2 * 2)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "corruptions").rglob("fog.npy")}
    before = (tmp_path / "out" / "report.csv").read_text()
    assert measured(run, "--severities", "1", "3") == 0
    assert (tmp_path / "out" / "report.csv").read_text() == before
    assert measured(run, "--severities", "2") == 4 * 2, "the arrays of severity 2 are there, but not measured; clean is"
    assert kept
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    other = make_trial(tmp_path, "lp4", 1)
    assert measured(run, other) == 3
    forget_format()
    assert measured(other, "--mixed-precision", "bf16") == 3, "another number format is another measurement"


@pytest.mark.usefixtures("few_corruptions")
def test_images_are_prepared_once_for_all_networks_that_fit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []
    prepare = measure.EvalPixels
    monkeypatch.setattr(measure, "EvalPixels", lambda *a: (prepared.append(1), prepare(*a))[1])
    tops = []
    for limit, expected in ((1, 3), (0, 4 * 3)):
        monkeypatch.setattr(measure, "_SHARED_MIB", limit)
        main([str(run), "--compute", "--output-dir", str(tmp_path)])
        assert len(prepared) == expected
        tops.append((tmp_path / "report.csv").read_text())
        prepared.clear()
        shutil.rmtree(tmp_path / "measured")
    assert tops[0] == tops[1]


@pytest.mark.usefixtures("few_corruptions")
def test_damaged_measurements_are_said_and_made_again(
    run: Path, evaluated: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = [str(run / "bugs" / "resnet18" / "base-seed1"), "--compute", "--output-dir", str(tmp_path)]
    main(arguments)
    before = (tmp_path / "report.csv").read_text()
    (path,) = (tmp_path / "measured").iterdir()
    kept = json.loads(path.read_text())
    path.write_text("{")
    main(arguments)
    assert f"{path} cannot be read, and its network is tested again" in caplog.text
    assert (tmp_path / "report.csv").read_text() == before
    assert (len(evaluated), json.loads(path.read_text())) == (2 * 3, kept)

    of_network = Candidate("base", sha256=kept["network"])
    assert measure._read(path, of_network) == kept["accuracies"]
    assert measure._read(path, Candidate("base", sha256="another")) == {}
    first = next(iter(kept["accuracies"]))
    wrong = [{"top1": value} for value in (float("nan"), 1e9, "90", 1)]
    contents = [{**kept, "accuracies": {**kept["accuracies"], first: value}} for value in (*wrong, None)]
    for text in ("[]", *map(json.dumps, contents)):
        path.write_text(text)
        caplog.clear()
        assert measure._read(path, of_network) == {}
        assert "cannot be read" in caplog.text


@pytest.mark.usefixtures("no_pictures")
def test_published_arrays(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    for place, name in enumerate(CORRUPTIONS):
        images = np.random.default_rng(place).integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.array(5 * [0, 1, 2]))
    arguments = [str(run), "--corruptions", str(folder), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(
        SystemExit, match=r"robustness: `corruptions` must be CIFAR-10-C or CIFAR-100-C, got .*--no-md5"
    ):
        main(arguments)
    main([*arguments, "--no-md5"])
    text = capsys.readouterr().out
    assert "# Robustness on the arrays in arrays" in text
    assert text.count("md5 not checked") >= 5
    assert "3 images of each of 19 corruptions" in text
    assert "Not among them" not in text
    clean = [line.split("|")[3].strip(" *") for line in text.splitlines() if line.startswith(("| base ", "| lp2 "))]
    assert clean[:2] == ["61.50 ± 0.71", "61.50 ± 0.71"], "the trials' own accuracies"
    np.save(folder / "labels.npy", np.array(5 * [0, 1, 4]))
    with pytest.raises(
        SystemExit, match=r"`networks` must have the 5 classes of the arrays in arrays, got .* with 3\."
    ):
        main([*arguments, "--no-md5"])


@pytest.mark.usefixtures("few_corruptions")
def test_a_network_whose_outputs_are_no_numbers_shows_as_failed(
    make_trial: MakeTrial, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    make_trial(tmp_path / "run", "base", 1)
    folder = make_trial(tmp_path / "run", "lp2", 1)
    weights = load_file(folder / "model.safetensors")
    weights["fc.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(SystemExit, match=rf"robustness: 1 of 2 networks failed: {folder}\. The report says why\.$"):
        main([str(tmp_path / "run"), "--compute", "--output-dir", str(tmp_path / "out")])
    assert "are infinite or not a number" in caplog.text
    text = capsys.readouterr().out
    assert [cell.strip() for cell in text.split("| lp2 ")[1].splitlines()[0].split("|")[2:-1]] == ["-"] * 5
    assert json.loads((tmp_path / "out" / "results.json").read_text())["results"][-1]["top1"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{run}"], r"`--corruptions` or `--compute` must be given, got neither\. CIFAR-100-C.tar .*zenodo"),
        (["--compute"], r"`NETWORK` must be given with --corruptions, --compute or --dataset, got none"),
        (["{run}", "--corruptions", "x", "--dataset", "digits"], r"`--dataset` must come with --compute, got it with"),
        (["{run}", "--compute", "--no-md5"], r"`--no-md5` must come with --corruptions, got it without"),
        (["{run}", "--compute", "--severities", "6"], r"`severities` must be between 1 and 5, got 6"),
        (["{run}", "--compute", "--batch-size", "0"], r"`batch_size` must be at least 1, got 0"),
        (["{run}", "--compute", "--corruptions", "x"], r"`--compute` must not come with --corruptions, got both"),
    ],
)
def test_wrong_command_lines_end_in_one_sentence(
    run: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([word.format(run=run) for word in arguments])
    assert re.search(sentence, capsys.readouterr().err)


def test_wrong_images_end_in_one_sentence(run: Path, bugs: Path, make_trial: MakeTrial, tmp_path: Path) -> None:
    out = ["--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"`dataset` must have the images and classes of the trials' own, got digits"):
        main([str(run), "--compute", "--dataset", "digits", *out])
    folder = make_trial(tmp_path, "base", 1)
    (folder / "trial.json").unlink()
    with pytest.raises(SystemExit, match=r"`dataset` must be given for --compute, got none with networks that name"):
        main([str(folder), "--compute", *out])
    with pytest.raises(SystemExit, match=r"`networks` must have the 10 classes of corrupted digits, got .* with 3"):
        main([str(folder), "--compute", "--dataset", "digits", *out])
    make_trial(tmp_path / "turned", "base", 1, class_names=("bee", "ant", "cat"))
    with pytest.raises(SystemExit, match=r"must number their classes as corrupted bugs does, got .* 'bee' in place of"):
        main([str(tmp_path / "turned"), "--compute", *out])
    broken = tmp_path / "broken"
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            (broken / split / name).mkdir(parents=True)
            (broken / split / name / "0.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"`dataset` must have images that can be read: broken: image 0 .* cannot be"):
        main([str(folder), "--compute", "--dataset", str(broken), *out])
    assert not (tmp_path / "out" / "measured").exists()


@pytest.mark.usefixtures("few_corruptions")
def test_the_demonstration_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"variants": ["base"], "seeds": [1], "epochs": 1, "shots": 2}
    monkeypatch.setattr(cli, "_DEMONSTRATION", {**cli._DEMONSTRATION, **short})
    main(["--output-dir", str(tmp_path)])
    text = capsys.readouterr().out
    assert (
        "# Robustness on corrupted digits\n\nThis is a demonstration on tiny networks and digits, not a result." in text
    )
    assert (tmp_path / "report.md").read_text().strip() in text
    assert json.loads((tmp_path / "results.json").read_text())["demonstration"] is True
    trial = read_record(tmp_path / "trials" / "digits" / "resnet18" / "base-seed1" / "trial.json")
    assert f"{trial.metrics['top1']:.2f}" in text  # type: ignore[index] # it ended well


@pytest.mark.exhaustive  # classification's two processes use the same functions
def test_two_processes_measure_the_same(
    run: Path, computed: tuple[str, str, Path], tmp_path: Path, python: WarmPython
) -> None:
    networks = [run / "bugs" / "resnet18" / f"{variant}-seed1" for variant in ("base", "lp2")]
    command = ("-m", "timm_lp.experiments.robustness", *networks, "--compute", "--output-dir", tmp_path)
    done = run_on_two_processes(python, *command, cwd=tmp_path, HF_HOME=str(tmp_path / "home"))
    assert done.stdout.count("# Robustness on") == 1

    def tops(path: Path) -> dict[tuple[str, ...], str]:
        with path.open() as file:
            return {
                tuple(line[key] for key in ("network", "corruption", "severity")): line["top1"]
                for line in csv.DictReader(file)
            }

    expected, found = tops(computed[-1] / "report.csv"), tops(tmp_path / "report.csv")
    assert len(found) == 2 * 19
    assert sum(found[place] != expected[place] for place in found) <= 1  # where rounding decides
