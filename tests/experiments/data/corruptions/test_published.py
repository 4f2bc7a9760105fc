"""Published arrays and folders, in small, and everything that may be wrong with them."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from timm_lp.experiments.data.corruptions import published
from timm_lp.experiments.data.corruptions.images import CorruptedSet
from timm_lp.experiments.data.corruptions.published import NAMES, PUBLISHED, PublishedArrays, read_published

LABELS = [2, 0, 1, 2]


def _write(folder: Path, size: int = 32) -> None:
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in NAMES:
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (20, size, size, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", np.array(5 * LABELS, dtype=np.uint8))


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    _write(tmp_path / "TOYS-C")
    return tmp_path / "TOYS-C"


def _known(folder: Path) -> PublishedArrays:
    md5 = {path.stem: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}
    return PublishedArrays("TOYS-C", "https://example.org/toys", 3, 4, md5)


def _read(folder: Path, known: PublishedArrays, **options: Any) -> CorruptedSet:
    return read_published(folder, [1, 4], published=[known], **options)


def test_the_published_sets_have_an_md5_for_each_file() -> None:
    assert [(own.name, own.num_classes, own.num_images) for own in PUBLISHED] == [
        ("CIFAR-10-C", 10, 10_000),
        ("CIFAR-100-C", 100, 10_000),
    ]
    digests = [digest for own in PUBLISHED for digest in own.md5.values()]
    assert len(set(digests)) == len(digests) == 40
    for own in PUBLISHED:
        assert own.md5.keys() == {*NAMES, "labels"}
        assert all(len(bytes.fromhex(digest)) == 16 for digest in own.md5.values())


@pytest.mark.parametrize("check_md5", [True, False])
def test_reads_arrays(arrays: Path, check_md5: bool) -> None:
    made = _read(arrays, _known(arrays), check_md5=check_md5)
    assert made.name == ("TOYS-C" if check_md5 else "the arrays in TOYS-C")
    assert made.note == ("" if check_md5 else "md5 not checked, so that these may be other files than the published")
    assert made.parts.keys() == {(name, severity) for name in NAMES for severity in (1, 4)}
    assert (made.num_classes, made.class_names, made.num_images) == (3, None, 4)
    part = made.parts["snow", 4].images
    assert isinstance(part.sources, np.memmap)
    assert part.own_labels().tolist() == LABELS
    np.testing.assert_array_equal(np.asarray(part.image(3)), np.load(arrays / "snow.npy")[15])
    assert len({own.sha256 for own in made.parts.values()}) == len(made.parts)


def test_the_digest_of_a_part_is_that_of_its_images_and_classes(arrays: Path, tmp_path: Path) -> None:
    known = _known(arrays)
    before = _read(arrays, known).parts
    snow = np.load(arrays / "snow.npy")
    snow[15, 0, 0, 0] ^= 1
    np.save(arrays / "snow.npy", snow)
    after = _read(arrays, known, check_md5=False).parts
    assert {place for place in before if before[place].sha256 != after[place].sha256} == {("snow", 4)}
    np.save(arrays / "labels.npy", np.array(5 * [0, 2, 1, 2]))
    relabelled = _read(arrays, known, check_md5=False).parts
    assert not {own.sha256 for own in relabelled.values()} & {own.sha256 for own in after.values()}


def test_another_md5_is_refused(arrays: Path) -> None:
    known = _known(arrays)
    _read(arrays, known)
    fog = np.load(arrays / "fog.npy")
    fog[3, 2, 1, 0] ^= 1
    np.save(arrays / "fog.npy", fog)
    found = hashlib.md5((arrays / "fog.npy").read_bytes()).hexdigest()
    sentence = (
        rf"`corruptions` must be TOYS-C as published, got .*fog.npy with md5 {found} instead of {known.md5['fog']}"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{sentence}\. Unpack https://example.org/toys again, or give --no-md5"):
            _read(arrays, known)
    assert _read(arrays, known, check_md5=False).name == "the arrays in TOYS-C"


def test_the_md5_of_a_file_is_computed_once(arrays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, read = _known(arrays), []
    compute = published.file_digest
    monkeypatch.setattr(published, "file_digest", lambda path, kind: (read.append(path.name), compute(path, kind))[1])
    _read(arrays, known)
    assert len(read) == 20
    kept = max(Path(constants.HF_ASSETS_CACHE).rglob("*.bin"), key=lambda path: path.stat().st_mtime_ns)
    before = kept.stat().st_mtime_ns
    _read(arrays, known)
    assert (len(read), kept.stat().st_mtime_ns) == (20, before)
    shutil.copy(arrays / "fog.npy", arrays / "copy")
    (arrays / "copy").replace(arrays / "fog.npy")
    _read(arrays, known)
    assert read[20:] == ["fog.npy"]


def test_missing_arrays_are_named(arrays: Path) -> None:
    known = _known(arrays)
    for name in ("fog", "saturate"):
        (arrays / f"{name}.npy").unlink()
    with pytest.raises(
        ValueError, match=r"must hold all 19 arrays, got .* without fog.npy, saturate.npy\. CIFAR-100-C"
    ):
        _read(arrays, known)


def test_a_folder_of_something_else_says_where_the_files_are(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            ValueError, match=r"`corruptions` must be a folder with labels.npy .*zenodo.org/records/3555552"
        ):
            read_published(folder, [1])


@pytest.mark.parametrize("check_md5", [True, False])
def test_damaged_arrays_are_named(arrays: Path, check_md5: bool) -> None:
    known = _known(arrays)
    content = (arrays / "fog.npy").read_bytes()
    for damaged in (b"", content[:1000], b"no array"):
        (arrays / "fog.npy").write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"`corruptions` must hold arrays of NumPy, got .*fog.npy: .* Unpack it again"
        ):
            _read(arrays, known, check_md5=check_md5)
    for wrong in (np.zeros((20, 32, 32), np.uint8), np.zeros((19, 32, 32, 3), np.uint8), np.zeros((20, 32, 32, 3))):
        np.save(arrays / "fog.npy", wrong)
        with pytest.raises(ValueError, match=r"must hold uint8 arrays of shape \(20, .*, got (uint8|float64) of shape"):
            _read(arrays, known, check_md5=check_md5)


def test_published_arrays_have_32_pixels(tmp_path: Path) -> None:
    _write(tmp_path / "small", 16)
    known = _known(tmp_path / "small")
    with pytest.raises(
        ValueError, match=r"must hold uint8 arrays of shape \(20, 32, 32, 3\), got uint8 of shape \(20, 16"
    ):
        _read(tmp_path / "small", known)
    assert _read(tmp_path / "small", known, check_md5=False).parts["fog", 1].images.image(0).size == (16, 16)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((20, 1), int), r"must have classes in .*labels.npy, got int64 of shape \(20, 1\)"),
        (np.zeros(20), r"must have classes in .*labels.npy, got float64"),
        (np.full(20, -1), r"must have classes in .*labels.npy, got int64"),
        (np.zeros(0, int), r"must have classes in .*labels.npy, got int64 of shape \(0,\)"),
        (np.arange(20), r"must have the same classes 5 times, .*, got 20 that do not repeat so"),
        (np.zeros(19, int), r"must have the same classes 5 times, .*, got 19 that do not repeat so"),
    ],
)
def test_labels_are_checked(arrays: Path, labels: np.ndarray, sentence: str) -> None:
    known = _known(arrays)
    np.save(arrays / "labels.npy", labels)
    for check_md5 in (True, False):
        with pytest.raises(ValueError, match=sentence):
            _read(arrays, known, check_md5=check_md5)


def test_arrays_that_nobody_published_need_no_md5(arrays: Path) -> None:
    with pytest.raises(ValueError, match=r"must be CIFAR-10-C or CIFAR-100-C, got .* with 3 classes\. Give --no-md5"):
        read_published(arrays, [1])
    known = _known(arrays)
    for name in NAMES:
        np.save(arrays / f"{name}.npy", np.zeros((15, 32, 32, 3), np.uint8))
    np.save(arrays / "labels.npy", np.array(5 * [0, 1, 2]))
    with pytest.raises(
        ValueError, match=r"must hold 5 x 4 labels, got 15 in .*\. Unpack https://example.org/toys again"
    ):
        _read(arrays, known)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    for name in [*NAMES[:15], "spatter"]:
        for severity in (1, 4):
            for label in ("n01", "n02"):
                folder = tmp_path / "tiny" / name / str(severity) / label
                folder.mkdir(parents=True)
                for number in range(2):
                    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                    image.save(folder / f"{label}_{number}.JPEG")
    return tmp_path / "tiny"


def test_reads_folders(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read_published(folders, [1, 4], check_md5=False)
    assert made.corruptions == [*NAMES[:15], "spatter"]
    assert (made.name, made.note) == ("the images in tiny", "classes and counts not checked")
    assert (made.class_names, made.num_classes, made.num_images) == (["n01", "n02"], 2, 4)
    part = made.parts["fog", 4].images
    assert part.own_labels().tolist() == [0, 0, 1, 1]
    with Image.open(folders / "fog/4/n02/n02_0.JPEG") as image:
        np.testing.assert_array_equal(np.asarray(part.image(2)), np.asarray(image))
    assert len({own.sha256 for own in made.parts.values()}) == len(made.parts)
    monkeypatch.setattr(published, "_FOLDERS", {2: ("Two-C", True)})
    monkeypatch.setattr(published, "_IMAGES_OF_CLASS", 2)
    known = read_published(folders, [4])
    assert (known.name, known.note, known.is_cropped) == ("Two-C", "no md5 is published for its files", True)
    for name in (*NAMES[:3], "spatter"):  # ImageNet-C's archives have a folder for each kind
        (folders / "kind").mkdir(exist_ok=True)
        (folders / name).rename(folders / "kind" / name)
    assert {key: part.sha256 for key, part in read_published(folders, [4]).parts.items()} == {
        key: part.sha256 for key, part in known.parts.items()
    }


def test_folders_are_checked(folders: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"must have 200 classes as Tiny-ImageNet-C or .*, of 50 images each, got .* with 2 of 2 to 2\. Give",
    ):
        read_published(folders, [1])
    with pytest.raises(ValueError, match=r"must have a folder for each severity, got none at .*gaussian_noise/2\."):
        read_published(folders, [2], check_md5=False)
    (folders / "fog/4/n02/n02_0.JPEG").unlink()
    with pytest.raises(ValueError, match=r"as many images of each class in each folder, .* in fog/4 than in gaussian"):
        read_published(folders, [1, 4], check_md5=False)
    (folders / "fog/4/n02/n02_1.JPEG").unlink()
    with pytest.raises(
        ValueError, match=r"`corruptions` must have images in each class folder: there is none in .*fog/4/n02"
    ):
        read_published(folders, [4], check_md5=False)
    shutil.rmtree(folders / "snow")
    with pytest.raises(ValueError, match=r"must hold the 15 common corruptions, got .* without snow\. CIFAR-100-C"):
        read_published(folders, [1], check_md5=False)


def _classes(names: list[str] | None) -> CorruptedSet:
    return CorruptedSet("TOYS-C", "", {}, names, 3)


def test_a_network_must_have_the_same_classes() -> None:
    _classes(None).check_classes("it", 3, None)
    _classes(None).check_classes("it", 3, ["0", "1", "2"])
    _classes(None).check_classes("it", 3, ["ant", "bee", "cat"])
    _classes(["b", "a", "c"]).check_classes("it", 3, ["b", "a", "c"])
    _classes(["0", "1", "2"]).check_classes("it", 3, ["ant", "bee", "cat"])
    with pytest.raises(ValueError, match=r"`networks` must have the 3 classes of TOYS-C, got it with 4\. Leave it out"):
        _classes(None).check_classes("it", 4, None)
    with pytest.raises(
        ValueError, match=r"must number their classes as TOYS-C does, got it with 'bee' in place of 'ant'"
    ):
        _classes(None).check_classes("it", 3, ["bee", "ant", "cat"])
    with pytest.raises(ValueError, match=r"got it with 'a' in place of 'b' as class 0"):
        _classes(["b", "a", "c"]).check_classes("it", 3, ["a", "b", "c"])


@pytest.mark.parametrize("check_md5", [True, False])
def test_blank_images_are_refused(arrays: Path, check_md5: bool) -> None:
    """A file of the right shape whose end never arrived; its md5, where it counts, is said first."""
    known = _known(arrays)
    fog = np.load(arrays / "fog.npy")
    fog[13:] = 0
    np.save(arrays / "fog.npy", fog)
    message = r"`corruptions` must hold pictures, got .*fog.npy with 3 of 4 images of a single level at severity 4\."
    if check_md5:
        message = "must be TOYS-C as published, got .*fog.npy with md5"
    with pytest.raises(ValueError, match=message):
        _read(arrays, known, check_md5=check_md5)


def test_images_under_two_names_are_refused(arrays: Path) -> None:
    known = _known(arrays)
    snow = np.load(arrays / "snow.npy")
    np.save(arrays / "frost.npy", snow)
    message = r"must have images of its own .* the same for snow at severity 1 and frost at severity 1\. Unpack"
    with pytest.raises(ValueError, match=message):
        _read(arrays, known, check_md5=False)
    np.save(arrays / "frost.npy", snow[::-1])
    _read(arrays, known, check_md5=False)
    snow[12:16] = snow[:4]
    np.save(arrays / "snow.npy", snow)
    with pytest.raises(ValueError, match="the same for snow at severity 1 and snow at severity 4"):
        _read(arrays, known, check_md5=False)
