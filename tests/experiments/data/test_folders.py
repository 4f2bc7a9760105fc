import json
import os
import shutil
from pathlib import Path

import pytest

from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import ReadOptions

from ..images import make_folder, make_split_file, picture


@pytest.mark.parametrize("test_split", ["test", "val", "validation"])
def test_image_folder(tmp_path: Path, test_split: str) -> None:
    make_folder(tmp_path / "bugs", "train", ("ant", "bee"), 3)
    make_folder(tmp_path / "bugs", test_split, ("ant", "bee"))
    data = load_data(str(tmp_path / "bugs"))
    assert (len(data.train), len(data.test), data.train.class_names) == (6, 4, ["ant", "bee"])
    assert (data.info.name, data.info.split, data.folder) == ("bugs", test_split, "bugs")
    assert data.test.image(3).tobytes() == picture(1, 1).tobytes()
    assert data.test.own_labels().tolist() == [0, 0, 1, 1]


def test_class_without_images_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, "train", ("ant", "bee"))
    make_folder(tmp_path, "test", ("ant",))
    (tmp_path / "test" / "bee").mkdir()
    with pytest.raises(ValueError, match=r"`dataset` must have images in each class folder: .*bee"):
        load_data(str(tmp_path))


def test_folder_without_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    message = (
        r"`dataset` must be a folder that holds train/<class>/ and test/<class>/ images, or parquet .* without test"
    )
    with pytest.raises(ValueError, match=message):
        load_data(str(tmp_path))


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, "train", ("ant", "bee"))
    make_folder(tmp_path, "test", ("ant", "cat"))
    with pytest.raises(ValueError, match=r"same classes in train and test, got \['bee', 'cat'\]"):
        load_data(str(tmp_path))


def _bugs(root: Path) -> Path:
    for split, first in (("train", 0), ("test", 50)):
        make_folder(root / "bugs", split, ("ant", "bee"), first=first)
    return root / "bugs"


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    before = load_data(str(path))
    (path / "train" / "ant" / ".DS_Store").write_bytes(b"Bud1")
    (path / "train" / "ant" / "._0.png").write_bytes(b"what macOS knows about 0.png")
    for hidden in (path / "train" / ".ipynb_checkpoints", path / "train" / "ant" / ".ipynb_checkpoints"):
        hidden.mkdir()
        shutil.copy(path / "train" / "ant" / "0.png", hidden / "0-checkpoint.png")
    (path / "train" / ".git").mkdir()
    after = load_data(str(path))
    assert (after.train.sources, after.train.class_names) == (before.train.sources, ["ant", "bee"])
    assert after.contents == before.contents


def test_a_hidden_folder_may_hold_a_data_set(tmp_path: Path) -> None:
    assert len(load_data(str(_bugs(tmp_path / ".cache"))).train) == 4


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".Png", ".webp", ".gif", ".avif", ".jp2", ".jfif", ".TIF"])
def test_images_are_told_by_their_extensions(tmp_path: Path, suffix: str) -> None:
    path = _bugs(tmp_path)
    image = path / "train" / "ant" / "0.png"
    image.rename(image.with_suffix(suffix))
    (image.parent / "labels.csv").write_text("0,ant")
    assert len(load_data(str(path)).train) == 4


def test_classes_may_be_links(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    before = load_data(str(path))
    (path / "train" / "ant").rename(tmp_path / "elsewhere")
    (path / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    after = load_data(str(path))
    assert (len(after.train), after.contents) == (4, before.contents)


def test_folders_may_be_named_as_splits(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    make_folder(path, "more", ("ant", "bee"), 3)
    make_folder(path, "night", ("ant", "bee"), 5)
    data = load_data(str(path), ReadOptions(train_split="more", test_split="night"))
    assert (len(data.train), len(data.test), data.info.split) == (6, 10, "night")
    with pytest.raises(ValueError, match=r"must be a folder that holds .* got '.*bugs' without dawn\."):
        load_data(str(path), ReadOptions(test_split="dawn"))
    with pytest.raises(ValueError, match=r"`dataset` must have images in each class folder: .*dawn"):
        load_data(str(path), ReadOptions(train_split="dawn"))
    with pytest.raises(ValueError, match="`test_split` must have no split in common with `train_split`, got night"):
        load_data(str(path), ReadOptions(train_split="night", test_split="night"))


@pytest.mark.parametrize("content", ["nothing", "notes"])
def test_a_folder_that_holds_no_data_set_says_what_it_must_hold(tmp_path: Path, content: str) -> None:
    if content == "notes":
        (tmp_path / "notes.md").write_text("No images here.")
    with pytest.raises(
        ValueError, match=r"older .*holds train/<class>/ and test/<class>/ images, or parquet files as on"
    ):
        load_data(str(tmp_path))


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]


def test_files_that_are_no_images_by_their_names_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _bugs(tmp_path)
    for name in ("1.heic", "notes.txt", ".hidden"):
        (path / "train" / "bee" / name).write_bytes(b"")
    with caplog.at_level("INFO"):
        load_data(str(path))
    assert f"{path / 'train'}: 2 files are left out, whose names end otherwise than images': {path}" in caplog.text


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "sub", "sub/../."])
def test_no_link_is_followed_in_a_circle(tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str) -> None:
    path = _bugs(tmp_path)
    (path / "train" / "ant" / "sub").mkdir()
    picture(0, 9).save(path / "train" / "ant" / "sub" / "9.png")
    before = load_data(str(path))
    for name in ("again", "once more"):
        (path / "train" / "ant" / name).symlink_to(target)
    after = load_data(str(path))
    assert (after.train.sources, after.contents) == (before.train.sources, before.contents)
    assert len(after.train) == 5
    assert len(_warnings(caplog)) == 2
    assert "ant/again is left out: it leads to a folder that is read already." in caplog.text


def test_a_folder_that_two_links_lead_to_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _bugs(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(0, 9).save(elsewhere / "9.png")
    (elsewhere / "back").symlink_to(path / "train")
    for name in ("first", "second"):
        (path / "train" / "ant" / name).symlink_to(elsewhere)
    data = load_data(str(path))
    assert [Path(source).name for source in data.train.sources] == ["0.png", "1.png", "9.png", "0.png", "1.png"]
    assert len(_warnings(caplog)) == 2


def test_a_link_to_a_file_is_an_image(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    picture(0, 9).save(tmp_path / "9.png")
    (path / "train" / "ant" / "9.png").symlink_to(tmp_path / "9.png")
    (path / "train" / "ant" / "same.png").symlink_to("0.png")
    data = load_data(str(path))
    assert len(data.train) == 6
    assert data.train.image(2).tobytes() == picture(0, 9).tobytes()


@pytest.mark.parametrize("link", ["ant/more", "cow"])
def test_a_folder_in_two_classes_is_refused(tmp_path: Path, link: str) -> None:
    path = _bugs(tmp_path)
    (path / "train" / link).symlink_to(path / "train" / "bee")
    with pytest.raises(ValueError, match=r"each image in one class, got .*, which leads to a folder of class 'bee'\."):
        load_data(str(path))


def test_a_test_folder_that_is_the_training_folder_is_refused(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    shutil.rmtree(path / "test")
    (path / "test").symlink_to("train")
    with pytest.raises(ValueError, match=r"other images to test on .*bugs', whose train and test are one folder\."):
        load_data(str(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "broken link", "link to itself"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = _bugs(tmp_path)
    image = path / "train" / "ant" / "x.PNG"
    if kind == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to({"device": "/dev/zero", "broken link": "nothing.png", "link to itself": "x.PNG"}[kind])
    message = (
        "that are files, got .*x.PNG, which is none" if kind in ("pipe", "device") else "that can be read, got .*x"
    )
    with pytest.raises(ValueError, match=f"`dataset` must have images {message}"):
        load_data(str(path))
    image.rename(image.with_suffix(".txt"))
    assert len(load_data(str(path)).train) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = _bugs(tmp_path)
    (path / "train" / "ant").chmod(0)
    with pytest.raises(ValueError, match=r"`dataset` must have folders that can be read, got .*ant: Permission denied"):
        load_data(str(path))
    (path / "train" / "ant").chmod(0o700)


def test_split_file(tmp_path: Path) -> None:
    data = load_data(str(make_split_file(tmp_path, {"train": 3, "val": 2, "test": 1})))
    assert [len(part) for part in (data.train, data.val, data.test)] == [9, 6, 3]
    assert data.train.class_names == ["cat", "ant", "bee"]
    assert data.train.own_labels().tolist() == [2, 0, 1] * 3
    assert data.test.image(0).size == (16, 12)
    assert (data.info.id, data.info.name) == ("split_zhou_Things.json", "Things (CoOp's split)")


def test_images_may_lie_beside_the_file(tmp_path: Path) -> None:
    path = make_split_file(tmp_path, {"train": 1, "val": 1, "test": 1})
    for folder in (tmp_path / "images").iterdir():
        folder.rename(tmp_path / folder.name)
    assert load_data(str(path)).test.image(2).size == (16, 12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "must be a split file of CoOp's, got "),
        ("{", "must be a split file of CoOp's, got "),
        ('{"train": [["a.png", 0]]}', "must be a split file of CoOp's, got "),
        ('{"train": [["a.png", 0, "a"]]}', "with train, val and test, got .* with images in train"),
    ],
    ids=["list", "broken", "pair", "train alone"],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"`dataset` .*{message}"):
        load_data(str(path))


@pytest.mark.parametrize(
    ("label", "name", "message"),
    [(-1, "cow", "'cow' of a negative number, -1"), (0, "cow", "'cow' of the number of 'cat', 0")],
)
def test_classes_of_no_number_of_their_own_are_refused(tmp_path: Path, label: int, name: str, message: str) -> None:
    path = make_split_file(tmp_path, {"train": 2, "val": 1, "test": 1})
    splits = json.loads(path.read_text())
    for rows in splits.values():
        rows.append([rows[0][0], label, name])
    path.write_text(json.dumps(splits))
    with pytest.raises(ValueError, match=rf"`dataset` must give each class one number from 0 on, got .*{message}\."):
        load_data(str(path))


def test_missing_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({split: [["a/1.jpg", 0, "a"]] for split in ("train", "val", "test")}))
    with pytest.raises(ValueError, match=r"`dataset` must lie beside its images, got .* without a/1\.jpg in"):
        load_data(str(path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_split_file_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = make_split_file(tmp_path, {"train": 2, "val": 1, "test": 1})
    before = load_data(str(path))
    path.write_text(path.read_text().replace('"bee"', '"b\u00e9"'), encoding=encoding)
    after = load_data(str(path))
    assert (after.train.sources, after.train.class_names) == (before.train.sources, ["cat", "ant", "b\u00e9"])
