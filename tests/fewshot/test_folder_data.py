from pathlib import Path

import pytest

from timm_lp.fewshot.data import load_data

from .images import config, make_folder, picture


@pytest.mark.parametrize("test_split", ["test", "val", "validation"])
def test_image_folder(tmp_path: Path, test_split: str) -> None:
    make_folder(tmp_path / "bugs", "train", ("ant", "bee"), 3)
    make_folder(tmp_path / "bugs", test_split, ("ant", "bee"))
    data = load_data(str(tmp_path / "bugs"), config())
    assert (len(data.train), len(data.test), data.train.class_names) == (6, 4, ["ant", "bee"])
    assert (data.info.name, data.info.split, data.folder) == ("bugs", test_split, "bugs")
    assert data.test.image(3).tobytes() == picture(1, 1).tobytes()
    assert data.test.own_labels().tolist() == [0, 0, 1, 1]


def test_class_without_images_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, "train", ("ant", "bee"))
    make_folder(tmp_path, "test", ("ant",))
    (tmp_path / "test" / "bee").mkdir()
    with pytest.raises(ValueError, match=r"`dataset` must have images in each class folder: .*bee"):
        load_data(str(tmp_path), config())


def test_folder_without_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"`dataset` must be a folder with train/<class>/ and test/<class>/ images"):
        load_data(str(tmp_path), config())


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, "train", ("ant", "bee"))
    make_folder(tmp_path, "test", ("ant", "cat"))
    with pytest.raises(ValueError, match=r"same classes in train and test, got \['bee', 'cat'\]"):
        load_data(str(tmp_path), config())
