"""Photographs in one folder a class, which nobody split."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from timm_lp.experiments.classification.cli import main
from timm_lp.experiments.data.images import FOLDS, DataSet
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import ReadOptions
from timm_lp.experiments.data.sampling import draw
from timm_lp.trials.folder import read_records

from ..images import make_folder, make_parquet, picture

CLASSES = ("ant", "bee", "cat")


def _photographs(root: Path, count: int) -> Path:
    make_folder(root, "photographs", CLASSES, count)
    return root / "photographs"


def _split(path: Path, test_share: float | None = None) -> DataSet:
    return load_data(str(path), ReadOptions(test_share=test_share))


def _names(images) -> list[str]:  # noqa: ANN001 # an ImageSet
    return ["/".join(Path(images.sources[index]).parts[-2:]) for index in images.indices]


@pytest.mark.parametrize(("test_share", "num_test"), [(None, 8), (0.5, 20), (0.01, 1), (0.99, 39)])
def test_a_share_of_each_class_is_kept_for_the_test(tmp_path: Path, test_share: float | None, num_test: int) -> None:
    data = _split(_photographs(tmp_path, 40), test_share)
    assert np.bincount(data.test.own_labels()).tolist() == [num_test] * 3
    assert sorted(_names(data.train) + _names(data.test)) == sorted(f"{c}/{n}.png" for c in CLASSES for n in range(40))
    assert (data.info.name, data.info.split, data.folds) == ("photographs", "test", None)
    assert data.note.startswith(f"{3 * num_test} of 120 images, {100 * (test_share or 0.2):g} % of each class, ")
    assert data.contents.num_shared == 0


def test_the_split_is_of_the_contents(tmp_path: Path) -> None:
    """Not of names, order, or how many others there are."""
    path = _photographs(tmp_path, 40)
    before = _split(path)
    contents = {name: (path / name).read_bytes() for name in _names(before.test)}
    for number, file in enumerate(sorted((path / "bee").iterdir())):
        file.rename(file.with_name(f"{97 * (number + 1) % 101:03}.png"))
    after = _split(path)
    assert {(path / name).read_bytes() for name in _names(after.test)} == set(contents.values())
    assert after.contents != before.contents, "their augmentations depend on their order"


def test_copies_of_an_image_are_on_one_side(tmp_path: Path) -> None:
    path = _photographs(tmp_path, 40)
    for number in range(40):
        shutil.copy(path / "ant" / f"{number}.png", path / "ant" / f"copy{number}.png")
    shutil.copy(path / "bee" / "7.png", path / "cat" / "bee.png")
    data = _split(path)
    assert data.contents.num_shared == 0
    assert np.bincount(data.test.own_labels())[0] == 16


def test_few_images_are_cross_validated(tmp_path: Path) -> None:
    data = _split(_photographs(tmp_path, 10))
    assert (data.info.split, data.contents.num_shared) == (FOLDS, 0)
    assert data.note.startswith("its 30 images are cross-validated in 5 folds: seed 1 tests on the first ")
    tested = []
    for seed in range(1, 6):
        drawn, (train, test) = draw(data, "nested", 3, seed), data.parts(seed)
        assert np.bincount(test.own_labels()).tolist() == [2] * 3
        assert not {*test.indices} & {*train.indices}
        assert {*drawn.train.indices, *drawn.held_out.indices} <= {*train.indices}
        tested += test.indices
        assert data.parts(seed + 5)[1].indices == test.indices
    assert sorted(tested) == list(range(30))


def test_three_images_of_a_class_are_three_folds(tmp_path: Path) -> None:
    path = _photographs(tmp_path, 9)
    for number in range(3, 9):
        (path / "bee" / f"{number}.png").unlink()
    data = _split(path)
    assert {len(data.parts(seed)[1]) for seed in (1, 2, 3)} == {7}
    assert data.parts(4)[1].indices == data.parts(1)[1].indices


@pytest.mark.parametrize("test_share", [None, 0.5])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_class_of_one_image_is_refused(tmp_path: Path, test_share: float | None, copies: int) -> None:
    path = _photographs(tmp_path, 10)
    (path / "dog").mkdir()
    for number in range(copies):
        picture(4, 4).save(path / "dog" / f"{number}.png")
    message = rf"`dataset` must have enough different images of each class .*photographs with {copies} of 'dog'\. Add"
    with pytest.raises(ValueError, match=message):
        _split(path, test_share)


def test_a_folder_of_training_images_alone_says_how_to_split_it(tmp_path: Path) -> None:
    make_folder(tmp_path, "train", CLASSES, 10)
    with pytest.raises(ValueError, match=r"without test or .*\. Give .*/train to have its images split\."):
        load_data(str(tmp_path))
    assert len(load_data(str(tmp_path / "train")).train) == 30


def test_other_folders_are_not_split(tmp_path: Path) -> None:
    """Neither splits without a training split, nor the Hub's folder of tables."""
    for name in ("val", "test"):
        make_folder(tmp_path / "splits", name, ("ant", "bee"))
    with pytest.raises(ValueError, match=r"`test(_split)?`|`train_split`"):
        load_data(str(tmp_path / "splits"))
    make_parquet(tmp_path / "tables", {"train": 3, "test": 2})
    (tmp_path / "tables" / "notes").mkdir()
    assert load_data(str(tmp_path / "tables")).folds is None


@pytest.mark.exhaustive
def test_ten_photographs_of_two_classes_as_a_new_user_types_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path, "photographs", ("ant", "bee"), 10)
    network = ["--model", "resnet18", "--model-kwargs", "layers=[1,1,1,1]", "channels=[8,8,8,16]", "--no-pretrained"]
    short = ["--img-size", "32", "--epochs", "2", "--variants", "base", "lp2", "--output-dir", str(tmp_path / "out")]
    for _ in range(2):
        main(["--dataset", str(tmp_path / "photographs"), *network, *short])
    report = capsys.readouterr().out
    assert f"on all test images (4 of photographs in each fold of a {FOLDS})" in report
    assert "photographs: its 20 images are cross-validated in 5 folds" in caplog.text
    records = read_records(tmp_path / "out").values()
    tested = {record.seed: record.details["test_indices"] for record in records}
    assert sorted(index for of_seed in tested.values() for index in of_seed) == list(range(20))
    assert {record.num_train for record in records} == {16}
