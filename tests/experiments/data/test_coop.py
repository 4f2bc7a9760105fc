import json
from pathlib import Path

import pytest

from timm_lp.experiments.data.loading import load_data

from ..images import make_split_file


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
