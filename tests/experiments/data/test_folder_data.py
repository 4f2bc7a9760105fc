import shutil
from pathlib import Path

import pytest

from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.options import ReadOptions

from ..images import make_folder, picture


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


@pytest.mark.parametrize("content", ["nothing", "notes", "classes"])
def test_a_folder_that_holds_no_data_set_says_what_it_must_hold(tmp_path: Path, content: str) -> None:
    if content == "notes":
        (tmp_path / "notes.md").write_text("No images here.")
    if content == "classes":
        make_folder(tmp_path, ".", ("ant", "bee"))
    with pytest.raises(
        ValueError, match=r"older .*holds train/<class>/ and test/<class>/ images, or parquet files as on"
    ):
        load_data(str(tmp_path))
