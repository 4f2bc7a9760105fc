"""What a data set's contents are, whatever it is called, and what is read to know them."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from timm_lp.experiments.data import digests
from timm_lp.experiments.data.decoding import DecodedImages, ImageSet, UnreadableImageError
from timm_lp.experiments.data.images import Contents, DataInfo, DataSet
from timm_lp.experiments.data.loading import load_data

from ..images import make_folder, make_parquet, make_split_file

CLASSES = ("ant", "bee", "cat")


def _folder(root: Path, first: int = 0) -> Path:
    make_folder(root / "digs", "train", CLASSES, 3, first)
    make_folder(root / "digs", "test", CLASSES, 2, first + 50)
    return root / "digs"


def _parquet(root: Path, first: int = 0) -> Path:
    make_parquet(root / "digs", {"train": 3, "test": 2}, CLASSES, first=first)
    return root / "digs"


def _split_file(root: Path, first: int = 0) -> Path:
    return make_split_file(root, {"train": 3, "val": 2, "test": 2}, first=first)


KINDS = pytest.mark.parametrize("make", [_folder, _parquet, _split_file])
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a cache of its own, in which files that were just written are kept."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the images that are read for their digests."""
    names: list[str] = []
    own = digests._content
    monkeypatch.setattr(digests, "_content", lambda item: (names.append(str(item)), own(item))[1])
    return names


def _contents(path: Path) -> Contents:
    return load_data(str(path)).contents


@KINDS
def test_other_images_are_other_contents(make: Make, tmp_path: Path) -> None:
    clean, noise = (_contents(make(tmp_path / name, first)) for name, first in (("clean", 0), ("noise", 200)))
    assert clean.sha256 != noise.sha256


@KINDS
def test_the_same_images_elsewhere_are_the_same_contents(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "here")
    before = _contents(path)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / path.name
    assert _contents(moved) == before
    if moved.is_dir():
        moved = moved.rename(tmp_path / "there" / "other name")
        assert _contents(moved) == before


@KINDS
def test_touched_files_and_files_beside_are_the_same_contents(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path)
    before = _contents(path)
    for file in [file for file in tmp_path.rglob("*") if file.suffix in (".png", ".parquet")]:
        os.utime(file, (1e9, 1e9))
        (file.parent / "notes.md").write_text("Ants, bees and cats.")
    assert _contents(path) == before


@KINDS
def test_another_file_in_the_place_of_one_is_read(make: Make, tmp_path: Path) -> None:
    """Though it has the same name, size and time, as archives leave them."""
    path, other = make(tmp_path / "one"), make(tmp_path / "two", 200)
    for file in tmp_path.rglob("*.p*"):
        file.write_bytes(file.read_bytes().ljust(2000, b"\0") if file.suffix == ".png" else file.read_bytes())
        os.utime(file, (1e9, 1e9))
    before, expected = _contents(path), _contents(other)
    (tmp_path / "one").rename(tmp_path / "zero")
    (tmp_path / "two").rename(tmp_path / "one")
    assert _contents(path).sha256 == expected.sha256 != before.sha256


def test_the_order_of_images_and_their_classes_count(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    before = _contents(path).sha256
    first = path / "train" / "ant" / "0.png"
    last = first.rename(first.with_name("9.png"))
    reordered = _contents(path).sha256
    last.rename(path / "train" / "bee" / "0a.png")
    assert len({before, reordered, _contents(path).sha256}) == 3
    (path / "train" / "bee" / "0a.png").rename(first)
    assert _contents(path).sha256 == before
    for split in ("train", "test"):
        (path / split / "cat").rename(path / split / "cow")
    assert _contents(path).sha256 != before


def test_the_place_of_an_image_counts() -> None:
    """Its augmentation depends on it."""
    pixels = np.zeros((4, 8, 8), np.uint8)
    images = [ImageSet(pixels, [0, 1, 0, 1], ["ant", "bee"], indices) for indices in ([0, 1], [2, 3])]
    one, other = (DataSet(DataInfo("x", "x"), "x", part, part).contents.sha256 for part in images)
    assert one != other


def test_arrays_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data("digits")
    assert data.contents == load_data("digits").contents
    data.train.sources[7][0, 0] += 1
    assert load_data("digits").contents != DataSet(data.info, "digits", data.train, data.test).contents


def test_what_a_commit_settles_is_not_read(read: list[str]) -> None:
    images = ImageSet(["gone.png"] * 2, [0, 1], ["ant", "bee"], [0, 1], pinned="one")
    other = ImageSet(["gone.png"] * 2, [0, 1], ["ant", "bee"], [0, 1], pinned="two")
    relabelled = ImageSet(["gone.png"] * 2, [1, 0], ["ant", "bee"], [0, 1], pinned="one")
    contents = [DataSet(DataInfo("x", "x"), "x", part, images).contents for part in (images, other, relabelled)]
    assert len({of_one.sha256 for of_one in contents}) == 3
    assert [of_one.num_shared for of_one in contents] == [0, 0, 0]
    assert read == []


def test_test_images_that_are_training_images_are_counted(tmp_path: Path) -> None:
    """By their contents, whatever their names and classes."""
    table = _parquet(tmp_path / "table")
    shutil.copy(table / "data" / "train-00000-of-00001.parquet", table / "data" / "test-00000-of-00001.parquet")
    assert _contents(table).num_shared == 9
    path = _folder(tmp_path)
    shutil.copy(path / "train" / "ant" / "0.png", path / "test" / "bee" / "x.png")
    shutil.copy(path / "train" / "ant" / "0.png", path / "test" / "ant" / "0.png")
    assert _contents(path).num_shared == 2


@KINDS
def test_images_are_read_once(make: Make, tmp_path: Path, read: list[str]) -> None:
    path = make(tmp_path)
    first = _contents(path)
    num_images = len(read)
    assert num_images >= 15
    assert first.num_shared == 0
    assert _contents(path) == first
    assert len(read) == num_images


def test_what_changed_is_read_again(tmp_path: Path, read: list[str]) -> None:
    path = _folder(tmp_path)
    before = _contents(path)
    read.clear()
    touched, changed = path / "train" / "ant" / "1.png", path / "test" / "cat" / "0.png"
    os.utime(touched)
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert _contents(path).sha256 != before.sha256
    assert sorted(read) == sorted(map(str, (touched, changed)))


def test_files_that_were_just_written_are_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system's clock may give the next contents the same time."""
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**18)
    path = _folder(tmp_path)
    assert _contents(path) == _contents(path)
    assert len(read) == 2 * 15


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}", "a bit", "lost"])
def test_a_damaged_or_lost_cache_is_made_again(damage: bytes | str, tmp_path: Path, read: list[str]) -> None:
    path = _folder(tmp_path)
    before = _contents(path)
    (cache,) = (tmp_path / "assets").rglob("*.bin")
    content = bytearray(cache.read_bytes())
    content[-20] ^= 1
    cache.write_bytes(damage if isinstance(damage, bytes) else content)
    if damage == "lost":
        shutil.rmtree(tmp_path / "assets")
    read.clear()
    assert _contents(path) == before
    assert len(read) == 15
    assert _contents(path) == before
    assert len(read) == 15


@pytest.mark.parametrize("place", ["file", "/proc/nothing"])
def test_a_home_that_takes_nothing_costs_time_alone(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    path = _folder(tmp_path)
    before = _contents(path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / place))
    assert _contents(path) == before
    assert "The next run reads all images again: their digests cannot be kept: " in caplog.text


def test_an_image_that_cannot_be_read_is_known_as_that(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    before = _contents(path)
    data = load_data(str(path))
    for split in ("train", "test"):
        (path / split / "ant" / "0.png").rename(tmp_path / split)
    broken_contents = data.contents
    assert broken_contents.sha256 != before.sha256
    assert broken_contents.num_shared == 0
    for split in ("train", "test"):
        (tmp_path / split).rename(path / split / "ant" / "0.png")
    assert _contents(path) == before


def test_the_cache_holds_digests_alone(tmp_path: Path) -> None:
    """No path and no image: 49 bytes for each image, and a checksum."""
    path = _folder(tmp_path)
    _contents(path)
    (cache,) = (tmp_path / "assets" / "timm-lp").rglob("*.bin")
    assert cache.stat().st_size == 32 + 15 * 49
    for file in path.rglob("*.png"):
        assert hashlib.sha256(file.read_bytes()).digest() in cache.read_bytes()


@KINDS
def test_a_check_reads_each_image_once_for_the_digest_too(make: Make, tmp_path: Path, read: list[str]) -> None:
    path = make(tmp_path)
    data = load_data(str(path))
    checked = data.checked(range(9))
    assert len(read) == 15
    assert (checked.train.damaged, checked.test.damaged) == ({}, {})
    read.clear()
    again = load_data(str(path)).checked(range(9))
    assert read == []
    assert again.contents == load_data(str(path)).contents
    assert len(read) == (6 if data.val else 0), "only what was not checked"


def test_what_a_check_decodes_is_kept_and_read_no_more(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    data = load_data(str(path))
    expected = [np.asarray(images.image(0)) for images in (data.train, data.test)]
    checked = data.keeping(1, 1).checked(range(9))
    later = data.keeping(1, 1).checked(range(9))
    shutil.rmtree(path)
    for images, want in zip((checked.train, checked.test), expected, strict=True):
        assert np.array_equal(np.asarray(images.image(0)), want)
    assert np.array_equal(np.asarray(DecodedImages(checked.train, 1)[0]), expected[0])
    DecodedImages(checked.train, 0)  # a trial that leaves it no memory
    for images in (later.train, checked.test):
        with pytest.raises(UnreadableImageError):
            images.image(0)


def test_damaged_images_that_are_needed_are_known(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    (path / "train" / "bee" / "1.png").write_bytes(b"no image")
    (path / "train" / "cat" / "0.png").write_bytes(b"")
    truncated = path / "test" / "ant" / "1.png"
    truncated.write_bytes(truncated.read_bytes()[:-30])
    data = load_data(str(path))
    whole = data.contents
    for _ in range(2):  # damage is not taken over: a disk may have failed once
        data = load_data(str(path)).checked([0, 1, 2, 3, 4, 5])
        assert (list(data.train.damaged), list(data.test.damaged)) == ([4], [1])
        assert data.train.damaged[4].startswith(f"image 4 ({path / 'train' / 'bee' / '1.png'}) cannot be read: ")
        assert data.contents == whole, "it is of the bytes alone"
    with pytest.raises(UnreadableImageError, match=r"image 4 .*1\.png\) cannot be read"):
        data.train.refuse_damaged()
    data.train.subset([0, 1, 2, 3]).refuse_damaged()
    every = data.checked(range(9))
    with pytest.raises(UnreadableImageError, match=r"image 4 .*, nor can 1 more$"):
        every.train.refuse_damaged()


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    (path / "train" / "ant" / "0.png").rename(os.fsdecode(os.fsencode(path / "train" / "ant") + b"/\xff.png"))
    assert _contents(path) == _contents(path)
