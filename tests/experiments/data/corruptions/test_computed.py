"""The arrays that are computed once and kept."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from timm_lp.experiments.data.corruptions import CLEAN, functions
from timm_lp.experiments.data.corruptions.computed import compute_corruptions
from timm_lp.experiments.data.corruptions.functions import computable, corrupt, corruption
from timm_lp.experiments.data.corruptions.published import NAMES, read_published
from timm_lp.experiments.data.corruptions.textures import Generators
from timm_lp.experiments.data.decoding import ImageSet, UnreadableImageError
from timm_lp.experiments.data.images import DataSet
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import eval_transform

from .reference import pictures

LABELS = [2, 0, 1]


@pytest.fixture(autouse=True)
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute two corruptions, or all for one test; those that a test registers are forgotten."""
    names = functions.CORRUPTIONS if "every" in request.node.name else ("fog", "snow", "frost")
    monkeypatch.setattr(functions, "CORRUPTIONS", {name: functions.CORRUPTIONS[name] for name in names})


def _data(images: object, labels: list[int] = LABELS) -> DataSet:
    test = ImageSet(images, labels, ["ant", "bee", "cat"], range(len(labels)))  # type: ignore[arg-type] # a sequence
    return replace(load_data("digits"), test=test)


def _folder(root: Path) -> Path:
    (folder,) = root.iterdir()
    return folder


def test_the_arrays_of_every_corruption_have_the_published_layout(tmp_path: Path) -> None:
    images = pictures(3)
    made = compute_corruptions(_data(images), [1, 3], tmp_path)
    folder = _folder(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.npy" for name in computable()),
        "labels.npy",
        "made_from.json",
    }
    assert np.load(folder / "labels.npy").tolist() == 3 * LABELS
    for name in computable():
        array = np.load(folder / f"{name}.npy")
        assert array.shape == (9, 32, 32, 3)
        for severity in (1, 2, 3):
            np.testing.assert_array_equal(array[3 * severity - 3 : 3 * severity], corrupt(images, name, severity))
    assert made.parts.keys() == {(CLEAN, 0), *((name, severity) for name in computable() for severity in (1, 3))}
    assert (made.corruptions, made.severities, made.num_images) == (computable(), [1, 3], 3)
    assert (made.num_classes, made.class_names) == (3, ["ant", "bee", "cat"])
    part = made.parts["fog", 3].images
    np.testing.assert_array_equal(np.asarray(part.image(1)), corrupt(images, "fog", 3)[1])
    assert part.own_labels().tolist() == LABELS
    np.testing.assert_array_equal(np.asarray(made.parts[CLEAN, 0].images.image(2)), images[2])
    assert made.name == "corrupted digits"
    assert made.note == "computed here, not comparable with published results; without frost"


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    data = _data(pictures(3))
    first = compute_corruptions(data, [1], tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in _folder(tmp_path).glob("*.npy")}
    again = compute_corruptions(data, [1], tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in _folder(tmp_path).glob("*.npy")}
    assert {name for name in before if before[name] != after[name]} <= {"labels.npy"}
    more = compute_corruptions(data, [1, 2], tmp_path)
    for name in computable():
        digest = first.parts[name, 1].sha256
        assert digest == again.parts[name, 1].sha256 == more.parts[name, 1].sha256 != more.parts[name, 2].sha256
    assert len({part.sha256 for part in more.parts.values()}) == len(more.parts)


def test_other_images_or_classes_have_arrays_of_their_own(tmp_path: Path) -> None:
    changed = pictures(3)
    changed[2, 5, 5, 1] ^= 1
    made = [
        compute_corruptions(data, [1], tmp_path)
        for data in (_data(pictures(3)), _data(changed), _data(pictures(3), [2, 1, 0]))
    ]
    assert len(list(tmp_path.iterdir())) == 3
    assert len({own.parts["fog", 1].sha256 for own in made}) == 3


@pytest.mark.parametrize(
    "kind", ["empty", "header", "cut", "zeros", "another size", "another corruption", "one level", "more", "swapped"]
)
def test_another_array_is_said_and_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """Whatever its shape: an array that was not computed here from these images is not theirs."""
    data = _data(pictures(3))
    expected = {place: part.sha256 for place, part in compute_corruptions(data, [1, 2], tmp_path).parts.items()}
    path = _folder(tmp_path) / "fog.npy"
    content, kept = path.read_bytes(), np.load(path)
    changed = kept.copy()
    changed[4, 3, 2, 1] ^= 1
    others = {
        "zeros": np.zeros_like(kept),
        "another size": np.zeros((6, 16, 16, 3), dtype=np.uint8),
        "another corruption": np.load(path.with_name("snow.npy")),
        "one level": changed,
        "more": np.concatenate([kept, kept[:3]]),
        "swapped": np.roll(kept, 3, axis=0),
    }
    if kind in others:
        np.save(path, others[kind])
    else:
        path.write_bytes(content[: {"empty": 0, "header": 60, "cut": 5000}[kind]])
    with caplog.at_level(logging.WARNING):
        made = compute_corruptions(data, [1, 2], tmp_path)
    assert {place: part.sha256 for place, part in made.parts.items()} == expected
    assert caplog.text.count("computed again") == 1
    fault = "is not the array that was computed here" if kind in others else r"cannot be read \(.*\)"
    assert re.search(f"fog.npy {fault}, and is computed again", caplog.text)
    np.testing.assert_array_equal(np.load(path), kept)


@pytest.mark.parametrize("change", ["functions", "libraries", "images", "damaged", "list", "missing"])
def test_arrays_that_were_computed_otherwise_are_said_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    data = _data(pictures(3))
    compute_corruptions(data, [1], tmp_path)
    path = _folder(tmp_path) / "made_from.json"
    note = json.loads(path.read_text())
    assert note["libraries"].keys() == {"timm-lp", "python", "numpy", "scipy", "pillow"}
    for name in computable():
        np.save(path.with_name(f"{name}.npy"), np.zeros((3, 32, 32, 3), dtype=np.uint8))
    other: object = {
        **note,
        **{"functions": {"functions": 1}, "libraries": {"libraries": {**note["libraries"], "scipy": "1.0"}}}.get(
            change, {change: "other"}
        ),
    }
    if change == "missing":
        path.unlink()
    else:
        path.write_text("{" if change == "damaged" else json.dumps([] if change == "list" else other))
    with caplog.at_level(logging.WARNING):
        made = compute_corruptions(data, [1], tmp_path)
    np.testing.assert_array_equal(np.asarray(made.parts["fog", 1].images.image(1)), corrupt(pictures(3), "fog", 1)[1])
    assert ("the corruptions beside it are computed again." in caplog.text) == (change != "missing")
    assert json.loads(path.read_text()) == note


def test_smaller_images_are_enlarged_and_that_is_said(tmp_path: Path) -> None:
    made = compute_corruptions(_data(pictures(3)[:, :8, :8]), [1], tmp_path)
    assert made.note.endswith("; images enlarged to 32x32 pixels")
    assert made.parts[CLEAN, 0].images.image(0).size == (32, 32)


VIEW = {"input_size": (3, 64, 64), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}


def test_larger_images_are_corrupted_as_the_networks_see_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3)).astype(np.uint8)
    made = compute_corruptions(_data(images), [2], tmp_path, preprocessing=lambda: VIEW)
    seen = np.stack([eval_transform(VIEW)(Image.fromarray(image)).permute(1, 2, 0).numpy() for image in images])
    for name in ("fog", "snow"):
        part = made.parts[name, 2].images
        np.testing.assert_array_equal([np.asarray(part.image(i)) for i in range(3)], corrupt(seen, name, 2))
    np.testing.assert_array_equal([np.asarray(made.parts[CLEAN, 0].images.image(i)) for i in range(3)], seen)
    assert made.is_cropped
    assert made.note.endswith("; ImageNet-C's severities, images cropped to 64x64 pixels as the networks see them")


@pytest.mark.parametrize("size", [(48, 48), (64, 96)])
def test_larger_images_of_other_views_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    data = _data(np.zeros((3, 64, 64, 3), dtype=np.uint8))
    message = (
        rf"`networks` must see square images of at least 64x64 .* got {size[0]}x{size[1]} for digits with .* 64 pix"
    )
    with pytest.raises(ValueError, match=message):
        compute_corruptions(data, [1], tmp_path, preprocessing=lambda: {**VIEW, "input_size": (3, *size)})


def test_what_the_disk_has_no_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(
        ValueError, match=r"`output_dir` must have room for the corrupted images, 0\.0 GiB, got .* free\."
    ):
        compute_corruptions(_data(pictures(3)), [1], tmp_path)


def _frost(folder: Path, level: int) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (200, 170), (level, level, level)).save(folder / "1.png")
    return folder


def test_every_photograph_of_frost_counts(tmp_path: Path) -> None:
    """Other photographs are other frost; the other corruptions stay."""
    data, kept = _data(pictures(3)), tmp_path / "kept"
    parts = [compute_corruptions(data, [1], kept, frost=_frost(tmp_path / "frost", level)).parts for level in (9, 90)]
    assert parts[0]["frost", 1].sha256 != parts[1]["frost", 1].sha256
    assert parts[0]["fog", 1].sha256 == parts[1]["fog", 1].sha256
    expected = np.floor(np.clip(pictures(3)[0] + 0.2 * 90, 0, 255))
    assert np.abs(np.asarray(parts[1]["frost", 1].images.image(0)) - expected).max() <= 1
    Image.new("RGB", (100, 170)).save(tmp_path / "frost" / "2.png")
    with pytest.raises(
        ValueError, match=r"`frost` must be a folder of photographs of at least 165x165 pixels, got .*2.png"
    ):
        compute_corruptions(data, [1], kept, frost=tmp_path / "frost")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"at least 165x165 pixels, got .*none without one\."):
        compute_corruptions(data, [1], kept, frost=tmp_path / "none")


def test_the_published_frost_is_taken(tmp_path: Path) -> None:
    data, path = _data(pictures(3)), tmp_path / "frost.npy"
    array = np.random.default_rng(1).integers(0, 256, (15, 32, 32, 3)).astype(np.uint8)
    np.save(path, array)
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    made = compute_corruptions(data, [1, 2], tmp_path / "kept", frost=path)
    np.testing.assert_array_equal(np.asarray(made.parts["frost", 2].images.image(1)), array[4])
    np.save(tmp_path / "labels.npy", np.tile(LABELS[::-1], 5))
    with pytest.raises(ValueError, match=r"`frost` must have the classes of the test images in their order, got .*npy"):
        compute_corruptions(data, [1], tmp_path / "kept", frost=path)
    np.save(path, array[:2])
    with pytest.raises(ValueError, match=r"`frost` must hold 3 images of 32x32 pixels, got uint8 of shape \(2, 32"):
        compute_corruptions(data, [1], tmp_path / "kept", frost=path)
    with pytest.raises(ValueError, match=r"`frost` must be a folder of photographs, or an array .*, got .*nothing"):
        compute_corruptions(data, [1], tmp_path / "kept", frost=tmp_path / "nothing")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"image 0 \(.*nothing.png\) cannot be read"):
        compute_corruptions(_data([str(tmp_path / "nothing.png")], [0]), [1], tmp_path)


def test_a_new_corruption_is_one_function_with_its_severities(tmp_path: Path) -> None:
    """Published arrays stay readable, and what was computed before is kept."""
    data = _data(pictures(3))
    older = compute_corruptions(data, [1, 2], tmp_path / "computed")
    before = {path: path.stat().st_mtime_ns for path in _folder(tmp_path / "computed").glob("[fs]*.npy")}
    (tmp_path / "published").mkdir()
    for number, name in enumerate(NAMES):
        array = np.random.default_rng(number).integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
        np.save(tmp_path / "published" / f"{name}.npy", array)
    np.save(tmp_path / "published" / "labels.npy", np.array(5 * LABELS))

    @corruption("extra", factor=(0.9, 0.8, 0.7, 0.6, 0.5))
    def darken(images: np.ndarray, generators: Generators, factor: float) -> np.ndarray:
        """Darken an image."""
        return factor * images

    newer = compute_corruptions(data, [1, 2], tmp_path / "computed")
    assert newer.corruptions == [*older.corruptions, "darken"]
    assert {place: newer.parts[place].sha256 for place in older.parts} == {
        place: part.sha256 for place, part in older.parts.items()
    }
    assert {path: path.stat().st_mtime_ns for path in before} == before
    made = np.asarray(newer.parts["darken", 2].images.image(1))
    np.testing.assert_array_equal(made, (pictures(3)[1] / 255 * 0.8 * 255).astype(np.uint8))
    assert read_published(tmp_path / "published", [1, 5], check_md5=False).corruptions == [*NAMES]
