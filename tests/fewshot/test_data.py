import pickle
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from timm_lp.fewshot.data import load_splits, sample_shots


def _make_folder(root: Path, split: str, classes: tuple[str, ...], count: int = 2) -> None:
    for number, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 6), (40 * number, 10 * i, 0)).save(folder / f"{i}.png")


def test_digits() -> None:
    train, test = load_splits("digits")
    assert (len(train), len(test)) == (1000, 797)
    assert not set(train.indices) & set(test.indices)
    assert train.class_names == [str(digit) for digit in range(10)]
    image, label = test[0]
    assert (image.size, image.mode, label) == ((8, 8), "RGB", test.labels[1000])
    assert image.getextrema() == ((0, 255),) * 3


def test_drawn_shots_are_of_the_training_pool() -> None:
    train, test = load_splits("digits")
    drawn = train.draw(16, seed=3)
    assert set(Counter(train.labels[index] for index in drawn).values()) == {16}
    assert not set(drawn) & set(test.indices)
    assert len(set(drawn)) == 160


def test_image_sets_can_be_sent_to_workers() -> None:
    train, _ = load_splits("digits")
    assert pickle.loads(pickle.dumps(train))[5][1] == train[5][1]


@pytest.mark.parametrize("test_split", ["test", "val", "validation"])
def test_image_folder(tmp_path: Path, test_split: str) -> None:
    _make_folder(tmp_path, "train", ("ant", "bee"), 3)
    _make_folder(tmp_path, test_split, ("ant", "bee"))
    train, test = load_splits(str(tmp_path))
    assert (len(train), len(test), train.class_names) == (6, 4, ["ant", "bee"])
    image, label = test[3]
    assert (image.size, image.getpixel((0, 0)), label) == ((8, 6), (40, 10, 0), 1)
    assert sorted(train.draw(2, seed=0)) != []
    assert pickle.loads(pickle.dumps(test))[3][1] == 1


def test_unreadable_image_is_an_error(tmp_path: Path) -> None:
    _make_folder(tmp_path, "train", ("ant",))
    _make_folder(tmp_path, "test", ("ant",))
    (tmp_path / "test" / "ant" / "0.png").write_bytes(b"no image")
    _, test = load_splits(str(tmp_path))
    with pytest.raises(OSError, match="cannot identify image"):
        test[0]


def test_class_without_images_is_refused(tmp_path: Path) -> None:
    _make_folder(tmp_path, "train", ("ant", "bee"))
    _make_folder(tmp_path, "test", ("ant",))
    (tmp_path / "test" / "bee").mkdir()
    with pytest.raises(ValueError, match=r"`dataset` must have images in each class folder: .*bee"):
        load_splits(str(tmp_path))


def test_folder_without_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(
        ValueError, match="`dataset` must be 'digits' or a folder with train/<class>/ and test/<class>/"
    ):
        load_splits(str(tmp_path))


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    _make_folder(tmp_path, "train", ("ant", "bee"))
    _make_folder(tmp_path, "test", ("ant", "cat"))
    with pytest.raises(ValueError, match=r"same classes in train and test, got \['bee', 'cat'\]"):
        load_splits(str(tmp_path))


def test_draws_are_seeded_nested_and_per_class() -> None:
    labels = [i % 3 for i in range(30)]
    sixteen, four = sample_shots(labels, 8, seed=1), sample_shots(labels, 4, seed=1)
    assert Counter(labels[i] for i in sixteen) == {0: 8, 1: 8, 2: 8}
    assert set(four) < set(sixteen)
    assert sixteen == sample_shots(labels, 8, seed=1)
    assert sixteen != sample_shots(labels, 8, seed=2)


def test_a_small_class_gives_all_it_has() -> None:
    assert sorted(sample_shots([0, 1, 1, 1], 2, seed=0))[0] == 0
    assert len(sample_shots([0, 1, 1, 1], 2, seed=0)) == 3
