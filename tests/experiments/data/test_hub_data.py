import gc
import json
import os
import shutil
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc
import pytest
from pyarrow.parquet import read_table, write_table

from timm_lp.experiments.data import hub_data
from timm_lp.experiments.data.decoding import UnreadableImageError
from timm_lp.experiments.data.images import DataSet
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import PRESETS, ReadOptions
from timm_lp.experiments.data.sampling import draw
from timm_lp.trials.record import DataInfo

from ..images import encoded, make_folder, make_parquet, make_shards, picture


def _load(root: Path, **settings: Any) -> DataSet:
    return load_data(str(root), ReadOptions(**settings))


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    make_parquet(tmp_path / "bugs", {"train": 3, "test": 2})
    data = _load(tmp_path / "bugs")
    assert (len(data.train), len(data.test)) == (9, 6)
    assert data.info == DataInfo("bugs", "bugs", split="test")
    assert data.folder == "bugs"
    assert data.train.image(4).tobytes() == picture(1, 1).tobytes()


def test_classes_are_told_by_their_names(tmp_path: Path) -> None:
    """Two copies of a data set that number their classes differently give the same draw."""
    copies = []
    for name, classes in (("one", ["ant", "bee", "cat"]), ("two", ["cat", "ant", "bee"])):
        make_parquet(tmp_path / name, {"train": 6, "test": 1}, classes)
        drawn = draw(_load(tmp_path / name), "nested", 2, seed=1).train
        labels = drawn.own_labels()
        copies.append({(drawn.class_names[labels[i]], drawn.image(i).tobytes()) for i in range(len(drawn))})
    assert copies[0] == copies[1]
    assert len(copies[0]) == 6


def test_splits_are_joined_and_chosen(tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 1, "validation": 2, "test": 1})
    data = _load(tmp_path, train_split="train+validation")
    assert (len(data.train), data.info.split) == (9, "test")
    assert data.train.own_labels().tolist() == [0, 1, 2] * 3
    assert data.train.image(8).tobytes() == picture(2, 101).tobytes()
    assert _load(tmp_path, test_split="validation").info.split == "validation"
    with pytest.raises(ValueError, match=r"must name splits of .*, got 'val'\. It has train, validation, test"):
        _load(tmp_path, train_split="train+val")


def test_columns_are_found_or_given(tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 1, "test": 1}, columns=("img", "fine_label"))
    assert len(_load(tmp_path).train) == 3
    with pytest.raises(ValueError, match=r"`image_column` must be a column, got 'image'\. There are img, fine_label"):
        _load(tmp_path, image_column="image")
    with pytest.raises(ValueError, match="`label_column` must be a column, got 'label'"):
        _load(tmp_path, label_column="label")


AB = datasets.ClassLabel(names=["a", "b"])


def _image(number: int) -> dict[str, Any]:
    return {"bytes": encoded(picture(0, number)), "path": None}


def _write(root: Path, columns: dict[str, tuple[Any, list[Any]]], images: list[Any] | None = None) -> None:
    """Write a table of columns, each of a type with its values, beside images, as both splits."""
    count = len(next(iter(columns.values()))[1])
    rows = {"image": [*map(_image, range(count))] if images is None else images}
    rows |= {name: values for name, (_, values) in columns.items()}
    features = datasets.Features({"image": datasets.Image(), **{name: kind for name, (kind, _) in columns.items()}})
    (root / "data").mkdir(parents=True)
    for split in ("train", "test"):
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")


def test_files_that_number_their_classes_otherwise_are_refused(tmp_path: Path) -> None:
    for split, names in (("train", ["a", "b"]), ("test", ["b", "a"])):
        _write(tmp_path / split, {"label": (datasets.ClassLabel(names=names), [0, 1])})
        (file,) = (tmp_path / split / "data").glob(f"{split}*")
        file.rename(tmp_path / file.name)
        shutil.rmtree(tmp_path / split)
    with pytest.raises(ValueError, match=r"must number its classes alike .*test-0.*\.parquet with b, a and .* a, b in"):
        _load(tmp_path)


def test_classes_may_be_words_or_numbers(tmp_path: Path) -> None:
    word, number = datasets.Value("string"), datasets.Value("int64")
    _write(tmp_path, {"word": (word, ["b", "a", "b"]), "number": (number, [9, 10, 9])})
    words = _load(tmp_path, label_column="word")
    assert (words.train.class_names, words.train.own_labels().tolist()) == (["a", "b"], [1, 0, 1])
    numbers = _load(tmp_path, label_column="number")
    assert (numbers.train.class_names, numbers.train.own_labels().tolist()) == (["9", "10"], [0, 1, 0])
    with pytest.raises(
        ValueError, match=r"`label_column` must be given for this data set, got 0 columns of type Class"
    ):
        _load(tmp_path)


def test_frames_of_a_clip_count_once(tmp_path: Path) -> None:
    rows = [("v1", "c1", 2), ("v1", "c1", 0), ("v1", "c2", 5), ("v1", "c1", 1), ("v2", "c1", 3), ("v2", "c1", 4)]
    names = ("video_id", "clip_id", "frame")
    kinds = datasets.Value("string"), datasets.Value("string"), datasets.Value("int64")
    columns = {name: (kinds[i], [row[i] for row in rows]) for i, name in enumerate(names)}
    _write(tmp_path, {**columns, "label": (AB, [0, 0, 0, 0, 1, 1])}, [_image(row[2]) for row in rows])
    data = hub_data.load_hub_data(str(tmp_path), "ucf101", ReadOptions(), replace(PRESETS["ucf101"], id=str(tmp_path)))
    assert list(data.train.indices) == [3, 2, 5]
    assert data.train.own_labels().tolist() == [0, 0, 1]
    assert data.train.image(0).tobytes() == picture(0, 1).tobytes()


def test_broken_and_missing_images_in_a_table_are_named(tmp_path: Path) -> None:
    _write(tmp_path, {"label": (AB, [0, 1])}, [{"bytes": b"no image", "path": "x.png"}, None])
    test = _load(tmp_path).test
    with pytest.raises(UnreadableImageError, match=r"image 0 \(row 0 of test, x\.png\) cannot be read: it is empty"):
        test.image(0)
    with pytest.raises(UnreadableImageError, match=r"image 1 \(row 1 of test\) cannot be read: there is no image"):
        test.image(1)


def test_missing_images_are_no_training_images(tmp_path: Path) -> None:
    _write(tmp_path, {"label": (AB, [0, 1])}, [None, None])
    assert _load(tmp_path).contents.num_shared == 0


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (AB, [0, -1]),
        (AB, [None, 1]),
        (datasets.Value("string"), ["a", None]),
        (datasets.Value("int64"), [None, 1]),
    ],
    ids=str,
)
def test_images_without_a_class_are_refused(tmp_path: Path, kind: Any, labels: list[Any]) -> None:
    _write(tmp_path, {"label": (kind, labels)})
    with pytest.raises(ValueError, match=r"got 'label' with 1 of 2 images of train without one, row \d first\. Choose"):
        _load(tmp_path, label_column="label")


def test_classes_without_a_name_are_refused(tmp_path: Path) -> None:
    """Numbers beyond the names, which `datasets` itself writes no more than it checks them."""
    make_parquet(tmp_path, {"train": 2, "test": 1})
    for file in (tmp_path / "data").iterdir():
        table = read_table(file)
        write_table(table.set_column(1, table.schema.field("label"), pc.add(table["label"], 1)), file)
    with pytest.raises(ValueError, match=r"got 'label' with 2 of 6 images of train without one, row \d first\. Choose"):
        _load(tmp_path)


def test_a_data_set_without_a_test_split_is_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 1, "extra": 1})
    with pytest.raises(ValueError, match=r"`test_split` must name a split of .* none of test, .* among train, extra"):
        _load(tmp_path)


def test_what_datasets_cannot_load_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`dataset` must be a folder that holds .*, got '.*empty': The directory at "):
        _load(tmp_path / "empty")
    make_parquet(tmp_path / "torn", {"train": 2, "test": 1})
    for file in (tmp_path / "torn" / "data").iterdir():
        os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"`dataset` must have whole files, got .*torn.*parquet: .* Download it again"):
        _load(tmp_path / "torn")


def test_files_in_the_place_of_others_are_read(tmp_path: Path) -> None:
    """Though they have the same names and times, by which alone `datasets` knows what it read before."""
    make_parquet(tmp_path / "bugs", {"train": 3, "test": 2})
    make_parquet(tmp_path / "new", {"train": 5, "test": 2}, first=50)
    for file in tmp_path.rglob("*.parquet"):
        os.utime(file, (1e9, 1e9))
    assert len(_load(tmp_path / "bugs").train) == 9
    shutil.rmtree(tmp_path / "bugs")
    (tmp_path / "new").rename(tmp_path / "bugs")
    data = _load(tmp_path / "bugs")
    assert len(data.train) == 15
    assert data.train.image(0).tobytes() == picture(0, 50).tobytes()


@pytest.mark.parametrize("layout", ["train/0.parquet", "train-00000-of-00001.parquet"])
def test_parquet_files_may_lie_in_a_folder_of_each_split(tmp_path: Path, layout: str) -> None:
    make_parquet(tmp_path / "bugs", {"train": 3, "test": 2})
    for file in list((tmp_path / "bugs" / "data").iterdir()):
        copy = tmp_path / "laid" / layout.replace("train", file.name.partition("-")[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    data = _load(tmp_path / "laid")
    assert (len(data.train), len(data.test)) == (9, 6)


@pytest.mark.parametrize(("train", "test"), [("train", "train"), ("train+test", "test"), ("train", "test + train")])
def test_training_images_are_no_test(tmp_path: Path, train: str, test: str) -> None:
    make_parquet(tmp_path, {"train": 2, "test": 1})
    with pytest.raises(ValueError, match=r"`test_split` must have no split in common with `train_split`, got t\w+ in"):
        _load(tmp_path, train_split=train, test_split=test)


def test_a_column_that_holds_no_images_is_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 2, "test": 1})
    with pytest.raises(
        ValueError, match=r"`image_column` must hold images, got 'label' of ClassLabel.* There are image,"
    ):
        _load(tmp_path, image_column="label")


def test_images_may_lie_in_files_that_the_rows_name(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        picture(number % 2, number).save(tmp_path / f"{number}.png")
        rows.append(str(tmp_path / f"{number}.png"))
    features = datasets.Features({"image": datasets.Image(), "label": AB})
    for split, files in (("train", rows[:2]), ("test", rows[2:])):
        content = {"image": files, "label": [0, 1]}
        table = datasets.Dataset.from_dict(content, features=features)
        (tmp_path / "bugs").mkdir(exist_ok=True)
        write_table(table.data.table, tmp_path / "bugs" / f"{split}.parquet")  # `to_parquet` would put them into it
    data = _load(tmp_path / "bugs")
    before = data.contents
    assert data.test.image(1).tobytes() == picture(1, 3).tobytes()
    picture(1, 9).save(tmp_path / "3.png")
    assert _load(tmp_path / "bugs").contents.sha256 != before.sha256


def test_a_folder_does_not_stand_in_for_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_parquet(tmp_path / "mteb" / "dtd", {"train": 2, "test": 1})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"`dataset` must be on the Hub, got 'mteb/dtd', which is a folder here"):
        load_data("dtd")
    assert len(load_data("mteb/dtd").train) == 6


def test_presets_are_pinned_where_a_revision_is_known() -> None:
    assert {name: preset.id for name, preset in PRESETS.items() if preset.revision is None} == {
        "flowers102": "dpdl-benchmark/oxford_flowers102",
        "cifar10": "uoft-cs/cifar10",
        "tiny-imagenet": "zh-plus/tiny-imagenet",
    }
    assert all(len(preset.revision) == 40 for preset in PRESETS.values() if preset.revision)
    assert PRESETS["flowers102"].train_split == "train+validation"


def _saved(names: list[str], first: int = 0) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    images = [{"bytes": encoded(picture(number % 2, first + number)), "path": None} for number in range(4)]
    return datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features=features)


@pytest.mark.parametrize("together", [True, False])
def test_what_save_to_disk_wrote_is_read(tmp_path: Path, together: bool) -> None:
    splits = {"train": _saved(["ant", "bee"]), "test": _saved(["ant", "bee"], 50)}
    if together:
        datasets.DatasetDict(splits).save_to_disk(str(tmp_path))
    else:
        for name, split in splits.items():
            split.save_to_disk(str(tmp_path / name))
    data = _load(tmp_path)
    assert (len(data.train), data.train.class_names) == (4, ["ant", "bee"])
    assert data.test.own_labels().tolist() == [0, 1, 0, 1]
    assert data.test.image(3).tobytes() == picture(1, 53).tobytes()
    before = data.contents.sha256
    datasets.Dataset.from_dict(_saved(["ant", "bee"], 60)[:], features=splits["test"].features).save_to_disk(
        str(tmp_path / "test")
    )
    assert _load(tmp_path).contents.sha256 != before


def test_saved_splits_that_number_their_classes_otherwise_are_refused(tmp_path: Path) -> None:
    """Each has names of its own; by the names of the first all test images would count as wrong."""
    splits = {"train": _saved(["ant", "bee"]), "test": _saved(["bee", "ant"], 50)}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"number its classes alike in all splits, got .* ant, bee in train and bee, ant"
    ):
        _load(tmp_path)


def test_a_single_saved_set_says_what_it_is(tmp_path: Path) -> None:
    _saved(["ant", "bee"]).save_to_disk(str(tmp_path))
    message = r"`dataset` must be a folder .*: it is a single set that `save_to_disk` wrote\. Save a DatasetDict with"
    with pytest.raises(ValueError, match=message):
        _load(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # `datasets` leaves the table open
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_images_that_a_table_lists_are_read(tmp_path: Path, name: str) -> None:
    for split, first in (("train", 0), ("test", 50)):
        (tmp_path / split).mkdir()
        rows = [(f"{place}.png", "ab"[place % 2]) for place in range(4)]
        for place in range(4):
            picture(place % 2, first + place).save(tmp_path / split / f"{place}.png")
        lines = ["file_name,kind", *map(",".join, rows)]
        if name == "metadata.jsonl":
            lines = [json.dumps({"file_name": file, "kind": kind}) for file, kind in rows]
        (tmp_path / split / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"`label_column` must be given for this data set, .* among image, kind\."):
        _load(tmp_path)
    data = _load(tmp_path, label_column="kind")
    assert (data.train.class_names, data.test.own_labels().tolist()) == (["a", "b"], [0, 1, 0, 1])
    assert data.test.image(2).tobytes() == picture(0, 52).tobytes()
    gc.collect()


def test_class_folders_may_have_a_table_beside_them(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        make_folder(tmp_path, split, ("ant", "bee"), first=first)
    (tmp_path / "metadata.csv").write_text("camera,year\nA,1999\n")
    assert _load(tmp_path).train.class_names == ["ant", "bee"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (datasets.Sequence(datasets.Value("int64")), [[0], [1], [0, 1]]),
        (datasets.Sequence(AB), [[0], [1], [1]]),
        ({"name": datasets.Value("string")}, [{"name": "a"}, {"name": "b"}, {"name": "a"}]),
        (datasets.Value("binary"), [b"a", b"b", b"a"]),
        (datasets.Value("float32"), [0.0, 1.0, float("nan")]),
        (datasets.Value("float32"), [0.0, 1.0, 1.5]),
    ],
    ids=["list", "list of classes", "dictionary", "bytes", "not a number", "fractions"],
)
def test_labels_that_are_no_class_are_refused(tmp_path: Path, kind: Any, values: list[Any]) -> None:
    _write(tmp_path, {"tags": (kind, values)})
    message = (
        r"`label_column` must (hold one class for each image, got 'tags' of|have a class for every image, got 'tags'|"
        r"hold classes, got 'tags' with 1\.5 among)"
    )
    with pytest.raises(ValueError, match=message):
        _load(tmp_path, label_column="tags")


def test_shards_of_webdataset_are_read(tmp_path: Path) -> None:
    data = load_data(str(make_shards(tmp_path / "bugs")))
    assert (len(data.train), len(data.test), data.train.class_names) == (12, 8, ["0", "1"])
    assert data.train.own_labels().tolist() == 6 * [0, 1]
    assert data.test.image(3).tobytes() == picture(1, 401).tobytes()
    assert data.contents.num_shared == 0


def test_a_shard_that_ends_early_is_named(tmp_path: Path) -> None:
    shard = make_shards(tmp_path / "bugs") / "train-0001.tar"
    whole = shard.read_bytes()
    for size in (0, 1300, 3072, len(whole) // 2):  # between two images too, where it would go unnoticed
        shard.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^`dataset` must have whole files, got .*train-0001\.tar: it ends early"):
            load_data(str(shard.parent))


def test_a_shard_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    """Readers of archives take a damaged name for the end, and lose the images behind it without a word."""
    shard = make_shards(tmp_path / "bugs") / "train-0001.tar"
    with tarfile.open(shard) as archive:
        third = archive.getmembers()[2].offset
    content = bytearray(shard.read_bytes())
    content[third : third + 8] = b"damaged!"
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"^`dataset` must have whole files, got .*train-0001\.tar: it ends early"):
        load_data(str(shard.parent))


@pytest.mark.parametrize("shard", ["train-0000.tar", "train-0001.tar"])
def test_a_shard_whose_class_is_no_number_is_named(tmp_path: Path, shard: str) -> None:
    folder = make_shards(tmp_path / "bugs")
    with tarfile.open(folder / shard, "a") as archive:
        for ending, content in (("png", encoded(picture(0, 7))), ("cls", b"beetle")):
            member = tarfile.TarInfo(f"last.{ending}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    message = rf"must have files of one kind, got .*{shard} with the class 'beetle' in last\.cls, no number\.$"
    with pytest.raises(ValueError, match=message):
        load_data(str(folder))


def test_a_parquet_file_with_other_columns_is_named(tmp_path: Path) -> None:
    _write(tmp_path, {"label": (datasets.Value("int64"), [0, 1, 0])})
    datasets.Dataset.from_dict({"label": ["a", "b"]}).to_parquet(tmp_path / "data" / "train-00001-of-00002.parquet")
    with pytest.raises(ValueError, match=r"must have files of one kind, got .*\.parquet with the columns label"):
        _load(tmp_path)
