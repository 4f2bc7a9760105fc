import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from timm_lp.experiments.brain.stimuli import network_input, read_images

from ...networks import Net, as_timm

GREY = np.random.default_rng(0).integers(256, size=(3, 8, 6), dtype=np.uint8)


def _folder(folder: Path, names: list[str], images: np.ndarray = GREY) -> Path:
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


def test_reads_a_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    found = read_images(_folder(tmp_path, ["b02.png", "b10.png", "a11.png"]), 3)
    np.testing.assert_array_equal(found, GREY[[2, 0, 1]])


def test_reads_a_folder_in_the_order_of_the_responses(tmp_path: Path) -> None:
    folder = _folder(tmp_path, ["7.png", "10.png", "009.png"])
    np.testing.assert_array_equal(read_images(folder, 3, np.array([10, 7, 9])), GREY[[1, 0, 2]])
    np.testing.assert_array_equal(read_images(folder, 3, np.array(["9", "10", "7"])), GREY[[2, 1, 0]])


def test_colours_stay_and_grey_ones_beside_them_become_three_equal_channels(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(256, size=(2, 8, 6, 3), dtype=np.uint8)
    _folder(tmp_path, ["a.png", "b.png"], colours)
    Image.fromarray(GREY[0]).save(tmp_path / "c.png")
    expected = np.concatenate([colours, np.repeat(GREY[:1, ..., None], 3, axis=3)])
    np.testing.assert_array_equal(read_images(tmp_path, 3), expected)


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (["1.png", "2.png", "3.png"], [0, 1, 2], "`--images` must be named as `image_id`, got no file 0.*."),
        (
            ["1.png", "2.png", "10.png"],
            None,
            "`--images` must be in a stated order, got 10.png by letters and 2.png by numbers.",
        ),
    ],
)
def test_refuses_an_order_that_is_not_stated(
    tmp_path: Path, names: list[str], ids: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_images(_folder(tmp_path, names), 3, None if ids is None else np.array(ids))


def test_refuses_other_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`--images` must be a folder, got .*nowhere"):
        read_images(tmp_path / "nowhere", 3)
    _folder(tmp_path, ["1.png", "2.png", "3.png"])
    with pytest.raises(ValueError, match="`--images` must hold 4 images, one for each row, got 3 in"):
        read_images(tmp_path, 4)
    Image.fromarray(GREY[0].T).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match=r"must have one size, got \(6, 8\) and \(8, 6\) \(height, width\)"):
        read_images(tmp_path, 3)
    Image.fromarray(np.zeros_like(GREY[0])).save(tmp_path / "3.png")
    Image.fromarray(np.full((6, 8), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"must have 8 bits a channel, got deep\.png in Pillow's mode I;16\. Convert"):
        read_images(tmp_path, len(list(tmp_path.glob("*.png"))), None)
    (tmp_path / "deep.png").unlink()
    with pytest.raises(ValueError, match="`--images` must vary within each image, got one grey everywhere at 2 "):
        read_images(tmp_path, 3)


def _network(**config: object) -> torch.nn.Module:
    network = as_timm(Net())
    network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 1.0), **config}
    return network


def test_grey_images_become_three_normalised_channels() -> None:
    images = np.repeat(np.repeat(GREY[:, ::2, ::2], 3, 1), 3, 2)[:, :8, :8]
    x = network_input(images, _network())
    assert x.shape == (3, 3, 8, 8)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 1.0)]):
        expected = (torch.from_numpy(images) / 255 - mean) / std
        torch.testing.assert_close(x[:, channel], expected)


@pytest.mark.parametrize("colours", [False, True])
def test_images_are_resized_whole(colours: bool) -> None:
    images = np.zeros((2, 16, 12, 3) if colours else (2, 16, 12), np.uint8)
    images[:, :, 6:] = 255  # its right half
    x = network_input(images, _network(mean=(0.0,) * 3, std=(1.0,) * 3), 4)
    assert x.shape == (2, 3, 4, 4)
    assert x[..., 0].max() < 0.05
    assert x[..., 3].min() > 0.95


def test_refuses_a_network_of_other_channels() -> None:
    with pytest.raises(ValueError, match=r"must take images of 3 channels, got one that takes 1\."):
        network_input(GREY, _network(input_size=(1, 8, 8)))


def test_an_image_that_is_damaged_anywhere_is_named(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "1.png").read_bytes()
    chunk = whole.replace(b"IDAT", b"XXXX")
    for content in (whole[:100], chunk, b"", b"text"):
        (tmp_path / "1.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"`--images` must hold images that can be read, got .*1\.png: "):
            read_images(tmp_path, 2)
