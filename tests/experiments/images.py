"""Tiny data sets, in every form that the benchmark reads."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def picture(label: int, number: int, size: tuple[int, int] = (16, 12)) -> Image.Image:
    """Return noise around a colour of the class."""
    noise = np.random.default_rng([label, number]).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    noise[..., label % 3] += np.uint8(60 * (label // 3 + 1))
    return Image.fromarray(noise)


def encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root: Path, split: str, classes: Sequence[str], count: int = 2, first: int = 0) -> None:
    """Write `root/split/<class>/<number>.png`; the pictures are those from `first` on."""
    for label, name in enumerate(classes):
        (root / split / name).mkdir(parents=True)
        for number in range(count):
            picture(label, first + number).save(root / split / name / f"{number}.png")


def make_parquet(
    root: Path,
    counts: Mapping[str, int],
    classes: Sequence[str] = ("ant", "bee", "cat"),
    columns: tuple[str, str] = ("image", "label"),
    first: int = 0,
) -> None:
    """Write `root/data/<split>-00000-of-00001.parquet` with so many images of each class, as the Hub lays data out.

    Args:
        root: The folder.
        counts: Images of each class, by split.
        classes: Names of the classes, by their numbers.
        columns: Names of the two columns.
        first: Number of the first picture.
    """
    (root / "data").mkdir(parents=True)
    offsets = {split: first + 100 * place for place, split in enumerate(counts)}
    order = sorted(classes)  # a class looks the same whatever its number is
    for split, count in counts.items():
        rows = [(name, number) for number in range(count) for name in classes]
        images = [
            {"bytes": encoded(picture(order.index(name), offsets[split] + number)), "path": f"{name}{number}.png"}
            for name, number in rows
        ]
        features = datasets.Features(
            {columns[0]: datasets.Image(), columns[1]: datasets.ClassLabel(names=list(classes))}
        )
        content = {columns[0]: images, columns[1]: [list(classes).index(name) for name, _ in rows]}
        table = datasets.Dataset.from_dict(content, features=features)
        table.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")


def make_split_file(root: Path, counts: Mapping[str, int], name: str = "Things", first: int = 0) -> Path:
    """Write one of CoOp's split files, classes in turn, beside its images; the pictures are those from `first` on."""
    classes = ("cat", "ant", "bee")
    splits = {}
    for split, count in counts.items():
        rows = [
            (f"{label}/{split}{number}.png", label, classes[label]) for number in range(count) for label in (2, 0, 1)
        ]
        for file, label, _ in rows:
            path = root / "images" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(label, first + len(file)).save(path)
        splits[split] = rows
    path = root / f"split_zhou_{name}.json"
    path.write_text(json.dumps(splits))
    return path


def make_shards(root: Path) -> Path:
    """Write WebDataset's shards: 12 pairs of a picture and its class in tar files for training, 8 for testing."""
    root.mkdir()
    for split, count in (("train", 3), ("test", 2)):
        for shard in range(2):
            with tarfile.open(root / f"{split}-{shard:04}.tar", "w") as tar:
                for number, label in product(range(count), range(2)):
                    image = encoded(picture(label, 100 * len(split) + 10 * shard + number))
                    for ending, content in (("png", image), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{shard}{number}{label}.{ending}")
                        member.size = len(content)
                        tar.addfile(member, BytesIO(content))
    return root
