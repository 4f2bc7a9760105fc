from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from timm_lp.experiments.receptive_fields.inputs import embedded_images, find_images, input_format, read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for place, name in enumerate(["b.png", "a.JPG", "c.png"]):
        pixels = generator.integers(0, 256, (20 + place, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_are_taken_by_name(folder: Path) -> None:
    paths = find_images(folder, 2)
    assert [path.name for path in paths] == ["a.JPG", "b.png"]
    assert [image.size for image in read_images(paths)] == [(30, 21), (30, 20)]


def test_what_is_no_image_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`--images` must hold at least 4 images \(\.bmp, .*\), got 3 in .*`--num-im"):
        find_images(folder, 4)
    with pytest.raises(ValueError, match=r"`--images` must be a folder, got .*a\.JPG\. Leave it out"):
        find_images(folder / "a.JPG", 1)
    (folder / "b.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"`--images` must hold images, got .*b\.png: cannot identify .* Take it out"):
        read_images(find_images(folder, 3))


def test_a_broken_chunk_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content.replace(b"IDAT", b"XXXX"))
    with pytest.raises(ValueError, match=r"`--images` must hold images, got .*1\.png: "):
        read_images([tmp_path / "1.png"])


def test_the_embedded_images_differ_and_stay_the_same() -> None:
    images = embedded_images(4, seed=0)
    assert len({image.tobytes() for image in images}) == 4
    assert {image.size for image in images} == {(284, 284)}
    assert [image.tobytes() for image in embedded_images(4, seed=0)] == [image.tobytes() for image in images]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_as_the_network_takes_them(channels: int) -> None:
    network = timm.create_model("resnet18", in_chans=channels, channels=(8, 8, 8, 8))
    network.pretrained_cfg.update(input_size=(channels, 40, 48), mean=(0.5,) * channels, std=(0.25,) * channels)
    taken = input_format(network, "net")
    assert taken.size == (channels, 40, 48)
    (x,) = taken.to_inputs([Image.new("RGB", (60, 60), (255, 255, 255))])
    torch.testing.assert_close(x, torch.full((channels, 40, 48), 2.0))


def test_noise_is_standard_normal_and_its_own_each_time() -> None:
    taken = input_format(timm.create_model("resnet18", channels=(8, 8, 8, 8)), "net")
    first, second = taken.noise(2, seed=0)
    assert first.shape == (3, 224, 224)
    assert abs(first.mean()) < 0.02
    assert abs(first.std() - 1) < 0.02
    assert not torch.equal(first, second)
    assert torch.equal(taken.noise(1, seed=0)[0], first)


def test_other_channels_are_refused() -> None:
    network = timm.create_model("resnet18", channels=(8, 8, 8, 8))
    network.pretrained_cfg["input_size"] = (4, 32, 32)
    with pytest.raises(ValueError, match="`NETWORK` must take images of 1 or 3 channels, got net, which takes 4"):
        input_format(network, "net")
