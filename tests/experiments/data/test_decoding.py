import os
import struct
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import datasets
import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from timm_lp.experiments.data.decoding import ImageSet, UnreadableImageError
from timm_lp.experiments.data.digests import NO_IMAGE, DigestCache, image_digests

LEVELS = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)


def _decoded(content: bytes) -> Image.Image:
    return ImageSet([{"bytes": content, "path": None}], [0], ["ant"], [0]).image(0)


def _stored(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _tiff(levels: np.ndarray, sample_format: int) -> bytes:
    """Return a grey TIFF of any type of numbers; Pillow itself writes only some."""
    height, width = levels.shape
    tags = {256: width, 257: height, 258: 8 * levels.dtype.itemsize, 259: 1, 262: 1}
    tags |= {273: 134, 277: 1, 278: height, 279: levels.nbytes, 339: sample_format}  # the numbers start at byte 134
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + levels.tobytes()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_grey_levels_of_16_bits_are_scaled(file_format: str) -> None:
    image = _decoded(_stored(Image.fromarray(LEVELS), file_format))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image)[..., 0], LEVELS >> 8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 2 2 65535\n" + np.array([0, 257, 32768, 65535], ">u2").tobytes(), [0, 1, 128, 255]),
        (b"P2 2 2 65535\n0 257 32768 65535\n", [0, 1, 128, 255]),
        (b"P5 2 2 4095\n" + np.array([0, 16, 2048, 4095], ">u2").tobytes(), [0, 1, 128, 255]),
        (b"P5 2 2 100\n" + bytes([0, 1, 50, 100]), [0, 3, 128, 255]),
    ],
    ids=["16 bits", "as text", "12 bits", "8 bits"],
)
def test_a_pgm_is_scaled_by_its_largest_level(content: bytes, expected: list[int]) -> None:
    assert np.asarray(_decoded(content))[..., 0].reshape(-1).tolist() == expected


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_both_byte_orders_of_16_bits_are_read(byte_order: str) -> None:
    image = Image.frombytes(
        "I;16B" if byte_order == ">" else "I;16", (8, 8), LEVELS.astype(f"{byte_order}u2").tobytes()
    )
    assert np.array_equal(np.asarray(_decoded(_stored(image, "TIFF")))[..., 0], LEVELS >> 8)


def test_colours_of_16_bits_are_scaled() -> None:
    content = b"P6 2 1 65535\n" + np.array([0, 257, 32768, 65535, 1, 256], ">u2").tobytes()
    assert np.asarray(_decoded(content)).reshape(-1).tolist() == [0, 1, 128, 255, 0, 1]


@pytest.mark.parametrize(
    ("content", "levels"),
    [
        (_stored(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), r"32-bit or signed integers \(mode I\)"),
        (_tiff(np.full((2, 2), 70000, np.uint32), 1), r"32-bit or signed integers \(mode I\)"),
        (_tiff(np.full((2, 2), -5, np.int16), 2), r"32-bit or signed integers \(mode I\)"),
        (_stored(Image.fromarray(np.full((2, 2), 0.5, np.float32)), "TIFF"), r"floating-point numbers \(mode F\)"),
        (b"Pf\n2 2\n-1.0\n" + np.full(4, 0.5, "<f4").tobytes(), r"floating-point numbers \(mode F\)"),
    ],
    ids=["32 bits", "32 bits unsigned", "16 bits signed", "float TIFF", "float PFM"],
)
def test_levels_of_no_known_range_are_refused(content: bytes, levels: str) -> None:
    message = rf"image 0 \(without a name\) cannot be read: its levels are {levels} of no known range\. Save it with 8"
    with pytest.raises(UnreadableImageError, match=message):
        _decoded(content)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_as_in_datasets(orientation: int) -> None:
    file_format = ("JPEG", "PNG", "TIFF", "WEBP")[orientation % 4]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 4, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    content = _stored(noise, file_format, exif=exif)
    theirs = datasets.Image().decode_example({"bytes": content, "path": None}).convert("RGB")
    ours = _decoded(content)
    assert ours.size == ((4, 6) if orientation < 5 else (6, 4))
    assert ours.tobytes() == theirs.tobytes()


def test_16_bits_are_turned_and_scaled() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    pixels = np.asarray(_decoded(_stored(Image.fromarray(LEVELS), "PNG", exif=exif)))
    assert np.array_equal(pixels[..., 0], np.rot90(LEVELS >> 8, -1))


def _palette() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 4, 3), dtype=np.uint8)).quantize(8)


@pytest.mark.parametrize(
    ("image", "file_format", "options"),
    [
        (_palette(), "PNG", {}),
        (_palette(), "PNG", {"transparency": bytes([0, 100, 255, 7])}),
        (_palette(), "PNG", {"transparency": 3}),
        (_palette(), "GIF", {"transparency": 3}),
        (_palette().convert("RGBA"), "PNG", {}),
        (_palette().convert("L").convert("LA"), "PNG", {}),
        (_palette().convert("RGB").convert("CMYK"), "TIFF", {}),
        (_palette().convert("RGB").convert("CMYK"), "JPEG", {}),
        (_palette().convert("1"), "PNG", {}),
        (_palette().convert("1"), "TIFF", {"compression": "group4"}),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")  # of Pillow's conversion, not ours
def test_other_modes_are_as_in_datasets(image: Image.Image, file_format: str, options: dict[str, Any]) -> None:
    content = _stored(image, file_format, **options)
    theirs = datasets.Image().decode_example({"bytes": content, "path": None}).convert("RGB")
    assert _decoded(content).tobytes() == theirs.tobytes()


def test_transparency_is_left_out_without_a_warning() -> None:
    content = _stored(_palette(), "PNG", transparency=bytes([0, 100, 255, 7]))
    assert _decoded(content).tobytes() == _decoded(_stored(_palette(), "PNG")).tobytes()


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_images_is_read(file_format: str) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = _stored(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(_decoded(content)).tolist() == np.asarray(frames[0]).tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.bool_, np.int64])
def test_arrays_of_other_types_are_refused(dtype: type) -> None:
    images = ImageSet(np.ones((1, 8, 8), dtype), [0], ["ant"], [0])
    with pytest.raises(
        UnreadableImageError, match=rf"image 0 .*its array must be of type uint8, got {np.dtype(dtype)}"
    ):
        images.image(0)


def test_damaged_exif_data_do_not_hinder() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    exif[Base.XResolution] = 72.0
    image = Image.new("RGB", (6, 4), "red")
    content = bytearray(_stored(image, "PNG", exif=exif))
    entry = content.index(struct.pack(">HH", Base.XResolution, 5))
    content[entry + 2 : entry + 8] = struct.pack(">HI", 2, 4)  # a text in place of a fraction
    start = content.index(b"eXIf")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    content[start + 4 + length : start + 8 + length] = struct.pack(">I", crc32(content[start : start + 4 + length]))
    assert _decoded(bytes(content)).size == (4, 6)


def test_whatever_pillow_raises_names_the_image() -> None:
    """Of this file it is a TypeError: the place of its pixels is no whole number."""
    content = bytearray(_tiff(np.zeros((2, 2), np.uint8), 1))
    entry = content.index(struct.pack("<HHI", 273, 4, 1))
    content[entry : entry + 12] = struct.pack("<HHIf", 273, 11, 1, 134.5)
    with pytest.raises(UnreadableImageError, match=r"image 0 \(without a name\) cannot be read: 'float' object"):
        _decoded(bytes(content))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Whoever names it, as a split file may: neither its digest nor its pixels are read."""
    os.mkfifo(tmp_path / "x.png")
    images = ImageSet([str(tmp_path / "x.png")], [0], ["ant"], [0])
    assert image_digests(images.sources, [0], DigestCache(tmp_path), "ants") == [NO_IMAGE]
    with pytest.raises(UnreadableImageError, match=r"image 0 \(.*x.png\) cannot be read: it is no file"):
        images.image(0)


@pytest.mark.parametrize("content", [b"no image", None], ids=["another file", "truncated"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "1.png"
    Image.fromarray(LEVELS).save(path)
    path.write_bytes(content or path.read_bytes()[:70])
    with pytest.raises(UnreadableImageError, match=r"image 1 \(.*1\.png\) cannot be read: "):
        ImageSet(["0.png", str(path)], [0, 0], ["ant"], [0, 1]).image(1)


def test_an_image_that_its_format_does_not_take_is_named() -> None:
    content = bytearray(_stored(Image.new("RGB", (8, 8)), "DDS"))
    content[80:84] = bytes(4)  # no pixel format: Pillow raises NotImplementedError
    with pytest.raises(UnreadableImageError, match=r"image 0 \(without a name\) cannot be read: Unknown pixel format"):
        _decoded(bytes(content))


def test_an_image_of_200_megapixels_is_named() -> None:
    content = bytearray(_stored(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = struct.pack(">II", 20_000, 10_000)
    content[29:33] = struct.pack(">I", crc32(content[12:29]))
    with pytest.raises(UnreadableImageError, match=r"image 0 \(without a name\) cannot be read: Image size \(2000000"):
        _decoded(bytes(content))
