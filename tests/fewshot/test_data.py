from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from timm_lp.fewshot.data import ImageSet, UnreadableImageError, draw, load_data

from .images import config, make_folder, make_split_file


def test_digits() -> None:
    data = load_data("digits", config())
    assert (len(data.train), len(data.test), data.argument) == (1000, 797, "digits")
    assert not set(data.train.indices) & set(data.test.indices)
    assert data.train.class_names == [str(digit) for digit in range(10)]
    image = data.test.image(0)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert image.getextrema() == ((0, 255),) * 3
    assert data.test.own_labels()[0] == data.test.labels[1000]


def test_drawn_shots_are_of_the_training_pool() -> None:
    data = load_data("digits", config())
    drawn = draw(data, "nested", 16, seed=3)
    assert set(Counter(drawn.train.own_labels().tolist()).values()) == {16}
    assert set(Counter(drawn.held_out.own_labels().tolist()).values()) == {4}
    assert not set(drawn.train.indices) & (set(data.test.indices) | set(drawn.held_out.indices))
    assert drawn.short == {}
    assert set(draw(data, "nested", 200, seed=3).short) == set(data.train.class_names)


@pytest.mark.parametrize("content", [b"no image", None], ids=["another file", "truncated"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    make_folder(tmp_path, "train", ["ant"])
    make_folder(tmp_path, "test", ["ant"])
    path = tmp_path / "test" / "ant" / "1.png"
    path.write_bytes(content or path.read_bytes()[:200])
    with pytest.raises(UnreadableImageError, match=r"image 1 \(.*1\.png\) cannot be read: "):
        load_data(str(tmp_path), config()).test.image(1)


def test_an_image_that_its_format_does_not_take_is_named() -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "DDS")
    content = bytearray(buffer.getvalue())
    content[80:84] = bytes(4)  # no pixel format: Pillow raises NotImplementedError
    images = ImageSet([{"bytes": bytes(content), "path": None}], [0], ["ant"], [0])
    with pytest.raises(UnreadableImageError, match=r"image 0 \(without a name\) cannot be read: Unknown pixel format"):
        images.image(0)


@pytest.mark.parametrize("dataset", ["flowers", "no/such/folder"])
def test_unknown_data_sets_are_refused(dataset: str) -> None:
    with pytest.raises(ValueError, match=f"`dataset` must be one of digits, flowers102, dtd, .*got '{dataset}'"):
        load_data(dataset, config())


def test_coop_needs_its_split_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`sampler` must be nested for digits, got 'coop'"):
        draw(load_data("digits", config()), "coop", 4, seed=1)
    data = load_data(str(make_split_file(tmp_path, {"train": 5, "val": 3, "test": 2})), config())
    drawn = draw(data, "coop", 4, seed=1)
    assert (len(drawn.train), len(drawn.held_out)) == (12, 9)
    assert drawn.held_out.sources is data.val.sources
