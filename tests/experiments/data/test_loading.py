"""Data sets by their names: presets, folders, files and repositories, and what each of them refuses."""

import json
import os
import re
from pathlib import Path

import datasets
import pytest

from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import DIGITS, PRESETS, ReadOptions

from ...processes import WarmPython
from ..images import encoded, make_folder, make_parquet, make_split_file, picture


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _make(root: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        make_folder(root, split, ("ant", "bee"), first=first)


@pytest.mark.parametrize(("name", "kind"), [(DIGITS, "images"), ("dtd", "file"), ("cifar10", "empty folder")])
def test_a_name_of_a_preset_and_of_a_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "images":
        _make(tmp_path / name)
    elif kind == "file":
        (tmp_path / name).write_text("{}")
    else:
        (tmp_path / name).mkdir()
    message = rf"`dataset` must name one data set, got '{name}', which is a preset and .*/{name} too\. "
    with pytest.raises(ValueError, match=rf"{message}Give \./{name} for what lies there, or preset:{name} for the pre"):
        load_data(name)


def test_each_of_both_can_be_named(tmp_path: Path) -> None:
    _make(tmp_path / DIGITS)
    digits = load_data(f"preset:{DIGITS}")
    assert (digits.info.name, digits.folder, len(digits.train)) == ("digits", "digits", 1000)
    assert digits.argument == "preset:digits"
    for argument in (f"./{DIGITS}", str(tmp_path / DIGITS), f"{DIGITS}/"):
        data = load_data(argument)
        assert (len(data.train), data.argument) == (4, argument)
        assert (data.info.id, data.info.name, data.folder) == ("local-digits", "local-digits", "local-digits")


def test_no_data_set_of_ones_own_has_the_name_of_a_preset(tmp_path: Path) -> None:
    _make(tmp_path / "CIFAR-100")
    make_parquet(tmp_path / "dtd", {"train": 1, "test": 1})
    split = make_split_file(tmp_path / "split", {"train": 1, "val": 1, "test": 1})
    split = split.rename(split.with_name("pets.json"))
    reserved = {DIGITS, *PRESETS, *(preset.name for preset in PRESETS.values())}
    for argument, name in (("./CIFAR-100", "local-CIFAR-100"), ("./dtd", "local-dtd")):
        data = load_data(argument)
        assert (data.info.id, data.info.name, data.folder) == (name, name, name)
    data = load_data(str(split))
    assert not {data.info.id, data.info.name, data.folder} & reserved


def test_the_trials_of_a_run_are_no_data_set(tmp_path: Path) -> None:
    """With --output-dir . they lie in a folder of the data set's name, and the same command goes on."""
    (tmp_path / DIGITS / "resnet18" / "lp2-seed1").mkdir(parents=True)
    assert len(load_data(DIGITS).train) == 1000


def test_digits() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.argument) == (1000, 797, "digits")
    assert not set(data.train.indices) & set(data.test.indices)
    assert data.train.class_names == [str(digit) for digit in range(10)]
    image = data.test.image(0)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert image.getextrema() == ((0, 255),) * 3
    assert data.test.own_labels()[0] == data.test.labels[1000]


@pytest.mark.parametrize("name", ["flowers", "preset:cats"])
def test_unknown_data_sets_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`dataset` must be one of digits, flowers102, .*got '{name}'\. A folder"):
        load_data(name)


@pytest.mark.parametrize(
    "dataset", ["./nothere", "../nothere", "data/not/here", "/nothere/x", "~/nothere", "nothere/", "a\\b"]
)
def test_a_folder_that_is_not_there_is_named_so(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = os.path.abspath(os.path.expanduser(dataset))
    message = f"`dataset` must be a folder or a split file that is there, got {dataset!r}. There is no {path}."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_data(dataset)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("hfids/us/bugs", r"must be read in any order, got 'hfids/us/bugs', timm's name for a stream: .* Give us/bugs"),
        ("hfds/us/bugs", r"must be the Hub's name, without a reader of timm's, got 'hfds/us/bugs'\. Give us/bugs\."),
    ],
)
def test_readers_of_timms_are_refused(dataset: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(dataset)


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for split in ("train", "test"):
        make_folder(tmp_path / "bugs", split, ["ant", "bee"])
    assert load_data("~/bugs").info.name == "bugs"


def test_neither_a_folder_nor_on_the_hub(tmp_path: Path, python: WarmPython) -> None:
    """A real process, whose Hub nobody answers for."""
    output = _messages(python, ["data/nothere", "dtd"], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert output[0].startswith(
        "`dataset` must be a folder or a data set on the Hub (org/name), got 'data/nothere'. "
        f"There is no folder {tmp_path / 'data' / 'nothere'}, and the Hub's cannot be read: "
    )
    assert output[1].startswith("`dataset` must be readable, got 'mteb/dtd': ")


@pytest.mark.parametrize(
    ("package", "dataset"),
    [
        ("datasets", "dtd"),
        ("pyarrow", "./bugs"),
        ("sklearn", "digits"),
        ("torchvision", "./birds"),
    ],
)
def test_a_missing_package_is_one_sentence(package: str, dataset: str, tmp_path: Path, python: WarmPython) -> None:
    """A real process, in which the package cannot be imported."""
    (tmp_path / "bugs" / "data").mkdir(parents=True)
    (tmp_path / "birds" / "train").mkdir(parents=True)
    (message,) = _messages(python, [dataset], tmp_path, missing=package)
    assert message.startswith(f"`dataset` must be readable, got '{dataset}': ")
    assert package in message
    assert message.endswith('. `pip install "timm-lp[experiments]"` brings all that data sets need.')


_SCRIPT = """
import sys, time
time.sleep = lambda seconds: None  # between the tries of the Hub's client
names, missing = sys.argv[1].split(), sys.argv[2]
if missing:
    loaded = [name for name in sys.modules if name.startswith(f"{missing}.")]
    sys.modules.update(dict.fromkeys([missing, *loaded]))
from timm_lp.experiments.data.loading import load_data
for name in names:
    try:
        load_data(name)
    except ValueError as error:
        print(error)
"""


def _messages(python: WarmPython, names: list[str], folder: Path, missing: str = "", **variables: str) -> list[str]:
    """Return what a process of its own says of data sets that it cannot load."""
    variables["HF_HOME"] = str(folder / "cache")
    return python("-c", _SCRIPT, " ".join(names), missing, cwd=folder, **variables).stdout.splitlines()


@pytest.mark.parametrize("kind", ["folder", "parquet", "split file"])
def test_one_class_is_refused(kind: str, tmp_path: Path) -> None:
    """Any network would be right on all images."""
    if kind == "folder":
        for split in ("train", "test"):
            make_folder(tmp_path / "bugs", split, ["ant"])
        path = tmp_path / "bugs"
    elif kind == "parquet":
        make_parquet(tmp_path / "bugs", {"train": 2, "test": 1}, ["ant"])
        path = tmp_path / "bugs"
    else:
        path = make_split_file(tmp_path, {"train": 2, "val": 1, "test": 1})
        splits = json.loads(path.read_text())
        path.write_text(json.dumps({name: [row for row in rows if row[2] == "ant"] for name, rows in splits.items()}))
    message = rf"`dataset` must have training images of at least two classes, got '{path}' with ant\."
    with pytest.raises(ValueError, match=message):
        load_data(str(path))


def test_classes_must_have_images_not_names_alone(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    image = {"bytes": encoded(picture(0, 0)), "path": None}
    (tmp_path / "data").mkdir()
    for split, labels in (("train", [0, 0]), ("test", [0, 1])):
        table = datasets.Dataset.from_dict({"image": [image] * 2, "label": labels}, features=features)
        table.to_parquet(tmp_path / "data" / f"{split}.parquet")
    with pytest.raises(ValueError, match=r"images of at least two classes, got .* with ant\."):
        load_data(str(tmp_path))


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_without_images_are_refused(split: str, tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 2, "test": 1} | {split: 0})
    with pytest.raises(
        ValueError, match=f"`dataset` must be a folder that holds .*: .*{split}.* corresponds to no data"
    ):
        load_data(str(tmp_path))
    path = make_split_file(tmp_path, {"train": 2, "val": 1, "test": 1} | {split: 0})
    left = "val, test" if split == "train" else "train, val"
    with pytest.raises(ValueError, match=f"with train, val and test, got .* with images in {left}"):
        load_data(str(path))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("digits", set()),
        ("split file", set()),
        ("folder", {"--train-split", "--test-split"}),
        ("parquet", {"--train-split", "--test-split", "--image-column", "--label-column", "--dataset-config"}),
    ],
)
def test_settings_that_say_nothing_about_a_data_set_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, read: set[str]
) -> None:
    make_folder(tmp_path / "folder", "train", ("ant", "bee"))
    make_folder(tmp_path / "folder", "test", ("ant", "bee"))
    make_parquet(tmp_path / "parquet", {"train": 2, "test": 1})
    names = {"digits": "digits", "split file": str(make_split_file(tmp_path, {"train": 1, "val": 1, "test": 1}))}
    settings = {"train_split": "train", "test_split": "test", "image_column": "image", "label_column": "label"}
    settings |= {"dataset_config": "default", "dataset_revision": "main"}
    load_data(names.get(kind, str(tmp_path / kind)), ReadOptions(**settings))
    (message,) = [record.message for record in caplog.records if "say nothing about" in record.message]
    flags = {f"--{name.replace('_', '-')}" for name in settings}
    assert {flag for flag in flags if flag in message} == flags - read
    caplog.clear()
    load_data(names.get(kind, str(tmp_path / kind)))
    assert "say nothing about" not in caplog.text
