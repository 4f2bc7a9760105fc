import json
import os
import re
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import datasets
import pytest
from PIL import Image

from timm_lp.experiments.data.decoding import ImageSet, UnreadableImageError
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import ReadOptions
from timm_lp.experiments.data.sampling import draw

from ..images import encoded, make_folder, make_parquet, make_split_file, picture


def test_digits() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.argument) == (1000, 797, "digits")
    assert not set(data.train.indices) & set(data.test.indices)
    assert data.train.class_names == [str(digit) for digit in range(10)]
    image = data.test.image(0)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert image.getextrema() == ((0, 255),) * 3
    assert data.test.own_labels()[0] == data.test.labels[1000]


def test_drawn_shots_are_of_the_training_pool() -> None:
    data = load_data("digits")
    drawn = draw(data, "nested", 16, seed=3)
    assert set(Counter(drawn.train.own_labels().tolist()).values()) == {16}
    assert set(Counter(drawn.held_out.own_labels().tolist()).values()) == {4}
    assert not set(drawn.train.indices) & (set(data.test.indices) | set(drawn.held_out.indices))
    assert drawn.short == {}
    assert set(draw(data, "nested", 200, seed=3).short) == set(data.train.class_names)


@pytest.mark.parametrize("content", [b"no image", None], ids=["another file", "truncated"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    make_folder(tmp_path, "train", ["ant", "bee"])
    make_folder(tmp_path, "test", ["ant", "bee"])
    path = tmp_path / "test" / "ant" / "1.png"
    path.write_bytes(content or path.read_bytes()[:200])
    with pytest.raises(UnreadableImageError, match=r"image 1 \(.*1\.png\) cannot be read: "):
        load_data(str(tmp_path)).test.image(1)


def test_an_image_that_its_format_does_not_take_is_named() -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "DDS")
    content = bytearray(buffer.getvalue())
    content[80:84] = bytes(4)  # no pixel format: Pillow raises NotImplementedError
    images = ImageSet([{"bytes": bytes(content), "path": None}], [0], ["ant"], [0])
    with pytest.raises(UnreadableImageError, match=r"image 0 \(without a name\) cannot be read: Unknown pixel format"):
        images.image(0)


def test_unknown_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`dataset` must be one of digits, flowers102, .*got 'flowers'\. A folder"):
        load_data("flowers")


@pytest.mark.parametrize(
    "dataset", ["./nothere", "../nothere", "data/not/here", "/nothere/x", "~/nothere", "nothere/", "a\\b"]
)
def test_a_folder_that_is_not_there_is_named_so(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = os.path.abspath(os.path.expanduser(dataset))
    message = f"`dataset` must be a folder or a split file that is there, got {dataset!r}. There is no {path}."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_data(dataset)


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for split in ("train", "test"):
        make_folder(tmp_path / "bugs", split, ["ant", "bee"])
    assert load_data("~/bugs").info.name == "bugs"


def test_neither_a_folder_nor_on_the_hub(tmp_path: Path) -> None:
    """A real process, whose Hub nobody answers for."""
    output = _messages(["data/nothere", "dtd"], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert output[0].startswith(
        "`dataset` must be a folder or a data set on the Hub (org/name), got 'data/nothere'. "
        f"There is no folder {tmp_path / 'data' / 'nothere'}, and the Hub's cannot be read: "
    )
    assert output[1].startswith("`dataset` must be readable, got 'mteb/dtd': ")


@pytest.mark.parametrize(
    ("package", "dataset"),
    [
        ("datasets", "./bugs"),
        ("datasets", "dtd"),
        ("pyarrow", "./bugs"),
        ("sklearn", "digits"),
        ("torchvision", "./birds"),
    ],
)
def test_a_missing_package_is_one_sentence(package: str, dataset: str, tmp_path: Path) -> None:
    """A real process, in which the package cannot be imported."""
    (tmp_path / "bugs" / "data").mkdir(parents=True)
    (tmp_path / "birds" / "train").mkdir(parents=True)
    (message,) = _messages([dataset], tmp_path, missing=package)
    assert message.startswith(f"`dataset` must be readable, got '{dataset}': ")
    assert package in message
    assert message.endswith('. `pip install "timm-lp[experiments]"` brings all that data sets need.')


_SCRIPT = """
import sys, time
time.sleep = lambda seconds: None  # between the tries of the Hub's client
names, missing = sys.argv[1].split(), sys.argv[2]
if missing:
    sys.modules[missing] = None
from timm_lp.experiments.data.loading import load_data
for name in names:
    try:
        load_data(name)
    except ValueError as error:
        print(error)
"""


def _messages(names: list[str], folder: Path, missing: str = "", **variables: str) -> list[str]:
    """Return what a process of its own says of data sets that it cannot load."""
    paths = {**os.environ, "HF_HOME": str(folder / "cache"), "PYTHONPATH": str(Path(__file__).parents[3]), **variables}
    command = [sys.executable, "-c", _SCRIPT, " ".join(names), missing]
    run = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


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


def test_coop_needs_its_split_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`sampler` must be nested for digits, got 'coop'"):
        draw(load_data("digits"), "coop", 4, seed=1)
    data = load_data(str(make_split_file(tmp_path, {"train": 5, "val": 3, "test": 2})))
    drawn = draw(data, "coop", 4, seed=1)
    assert (len(drawn.train), len(drawn.held_out)) == (12, 9)
    assert drawn.held_out.sources is data.val.sources


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
