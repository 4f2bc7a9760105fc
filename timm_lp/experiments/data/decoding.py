"""Decode stored images to pixels in RGB."""

import os
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # in which Pillow's mode I holds 0 to 65535


def decode(source: Any) -> Image.Image:
    """Return an image in RGB as `datasets` decodes it: the first frame, upright by its EXIF data, opaque.

    Grey levels of 16 bits are scaled to 8, where Pillow alone would clip them.

    Args:
        source: A path, an array `(H, W)` or `(H, W, 3)` of `uint8`, or `datasets`' dictionary with `bytes` and `path`.

    Raises:
        ValueError: If there is no image, or the range of its levels is not known.
        Exception: Whatever Pillow raises for a file that it cannot read.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8:
            raise ValueError(f"its array must be of type uint8, got {source.dtype}. Scale it to 0 to 255")
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, dict):
        source = BytesIO(source["bytes"]) if source.get("bytes") is not None else source["path"]
    if source is None:
        raise ValueError("there is no image in its row")
    if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):
        raise ValueError("it is no file")  # to read a pipe waits for ever
    with Image.open(source) as image:
        image.load()
        turned = image.getexif().get(Base.Orientation) is not None
        image.info.pop("exif", None)  # or Pillow writes the data anew, which fails where they are damaged
        return _to_rgb(ImageOps.exif_transpose(image) if turned else image, image.format)


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in _SIXTEEN_BIT_FORMATS):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit or signed integers"
        raise ValueError(f"its levels are {kind} (mode {image.mode}) of no known range. Save it with 8 or 16 bits")
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # from a palette straight to RGB, Pillow warns
    return image.convert("RGB")
