import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
import scipy.io

from timm_lp.experiments.brain.responses import Area, Responses, read_responses, write_responses

from .data import IMAGES, small_cortex, write

RNG = np.random.default_rng(0)
RSM = np.corrcoef(RNG.normal(size=(IMAGES, 30)))


def _other_rsm(**entries: float) -> np.ndarray:
    rsm = RSM.copy()
    for place, value in entries.items():
        rsm[tuple(map(int, place.strip("_").split("_")))] = value
    return rsm


@pytest.fixture
def cortex() -> Responses:
    return small_cortex().responses


def test_reads_what_was_written(cortex: Responses, tmp_path: Path) -> None:
    ids = np.array([f"{n:03}" for n in range(IMAGES)])
    areas = {**cortex.areas, "known": Area(rsm=RSM, published_ceiling=0.4)}
    write_responses(tmp_path / "a" / "file.npz", replace(cortex, areas=areas, image_id=ids))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file.npz"]
    found = read_responses(tmp_path / "a" / "file.npz")
    assert [*found.areas] == ["fine", "coarse", "known"]
    assert (found.source, found.centred, found.synthetic) == (cortex.source, True, True)
    assert found.num_images == IMAGES
    assert found.areas["known"].published_ceiling == 0.4
    np.testing.assert_array_equal(found.areas["known"].rsm, RSM)
    for name in ("responses", "mice"):
        np.testing.assert_array_equal(getattr(found.areas["fine"], name), getattr(cortex.areas["fine"], name))
    np.testing.assert_array_equal(found.images, cortex.images)
    np.testing.assert_array_equal(found.image_id, ids)


def test_responses_may_be_means_of_trials(cortex: Responses, tmp_path: Path) -> None:
    means = cortex.areas["fine"].responses.mean(1)
    found = read_responses(write(tmp_path / "f.npz", cortex, responses_fine=means, mouse_fine=None))
    assert found.areas["fine"].responses.shape == (IMAGES, 1, 36)
    assert found.areas["fine"].mice is None


def _with(value: float, image: int) -> np.ndarray:
    responses = small_cortex().responses.areas["fine"].responses.copy()
    responses[image] = value
    return responses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {"source": None}}, "`about` must say `source`, a str, got None. The README"),
        ({"about": {"centred": None}}, "`about` must say `centred`, a bool, got None."),
        ({"about": {"centred": 1}}, "`about` must say `centred`, a bool, got 1."),
        ({"about": {"synthetic": "no"}}, "`about` must say `synthetic`, a bool, got 'no'."),
        ({"about": {"ceiling": {"fine": 1.5}}}, "ceilings as taus above 0 and up to 1 by area, got {'fine': 1.5}"),
        ({"about": {"ceiling": {"fine": True}}}, "ceilings as taus above 0 and up to 1 by area, got {'fine': True}"),
        ({"about": {"ceiling": 0.5}}, "ceilings as taus above 0 and up to 1 by area, got 0.5"),
        ({"about": {"ceiling": {"V1": 0.5}}}, "`about` must give ceilings of areas in the file, got V1."),
        ({"responses_fine": None, "responses_coarse": None}, "must have an array `responses_AREA` or `rsm_AREA`, got "),
        ({"rsm_fine": RSM}, "`rsm_fine` and `responses_fine` must not both be in the file."),
        ({"responses_fine": _with(np.nan, 3)}, "`responses_fine` must be finite, got NaN or infinity at 3 (counted"),
        ({"responses_fine": _with(np.inf, 3)}, "`responses_fine` must be finite, got NaN or infinity at 3 (counted"),
        ({"responses_fine": _with(2.0, 5)}, "`responses_fine` must differ between the units for each image, got the"),
        ({"responses_fine": np.ones(IMAGES)}, "`responses_fine` must be numbers of shape (n, units) or (n, trials, "),
        ({"responses_fine": np.full((IMAGES, 9), "a")}, "`responses_fine` must be numbers of shape"),
        ({"responses_fine": RNG.normal(size=(IMAGES, 1))}, "`responses_fine` must have a trial and two units at least"),
        (
            {"responses_fine": RSM[1:], "mouse_fine": None},
            "as many images everywhere, got fine 15, coarse 16, images 16",
        ),
        ({"mouse_fine": np.arange(3)}, "`mouse_fine` must name the mouse of 36 units, got shape (3,)."),
        ({"image_id": np.arange(3)}, "as many images everywhere, got fine 16, coarse 16, images 16, image_id 3."),
        ({"image_id": np.zeros(IMAGES)}, "`image_id` must name each image once, shape (n,), got (16,) with 1 names."),
        (
            {"images": np.zeros((IMAGES, 9, 9))},
            "`images` must be uint8 of shape (n, H, W) or (n, H, W, 3), got float64",
        ),
        ({"images": np.zeros((IMAGES, 9, 9, 4), np.uint8)}, "or (n, H, W, 3), got uint8 (16, 9, 9, 4)."),
        (
            {"images": np.zeros((IMAGES, 9, 9), np.uint8)},
            "must vary within each image, got one grey everywhere at 0, 1, 2",
        ),
        ({"responses_fine": None, "rsm_fine": RSM}, "`mouse_fine` must stand beside responses"),
        ({"rsm_a": RSM[1:]}, "`rsm_a` must be numbers of shape (n, n), got float64 (15, 16)."),
        ({"rsm_a": np.eye(IMAGES, dtype=int)}, "`rsm_a` must be numbers of shape (n, n), got int64"),
        ({"rsm_a": _other_rsm(_1_2=np.nan)}, "`rsm_a` must be finite, got NaN or infinity at 1 "),
        ({"rsm_a": _other_rsm(_1_2=0.99)}, "`rsm_a` must be symmetric, got entries that differ by"),
        ({"rsm_a": 1 - RSM}, "`rsm_a` must be similarities with 1 on the diagonal, got 0. Take 1 - RDM."),
        ({"rsm_a": np.eye(IMAGES)}, "`rsm_a` must differ between pairs of images, got 0 everywhere."),
    ],
)
def test_refuses_what_cannot_be_compared(
    cortex: Responses, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_responses(write(tmp_path / "f.npz", cortex, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "`about` must be a JSON text, got '{'"), ("[1]", "`about` must be a JSON object, got [1]")],
)
def test_refuses_another_text(cortex: Responses, tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "f.npz", cortex)
    with np.load(path) as file:
        arrays = {**file, "about": np.array(text)}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_responses(path)


def test_refuses_few_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have 8 images at least, got 7"):
        read_responses(write(tmp_path / "f.npz", small_cortex(images=7).responses))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"PK\x03\x04" + 500 * b"x"])
def test_refuses_another_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be an \.npz of arrays without objects, got .*f\.npz"):
        read_responses(tmp_path / "f.npz")


def _write_other(path: Path, kind: str, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as people have them."""
    if kind == "mat":
        scipy.io.savemat(path, arrays)
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file.update(arrays)
    elif kind == "netcdf":
        with scipy.io.netcdf_file(path, "w") as file:
            for name, array in arrays.items():
                for axis, size in enumerate(array.shape):
                    file.createDimension(f"{name}{axis}", size)
                file.createVariable(name, "d", [f"{name}{axis}" for axis in range(array.ndim)])[:] = array
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, arrays["responses"])
    else:
        path.write_bytes(pickle.dumps(arrays))


def _read_other(path: Path, kind: str) -> np.ndarray:
    """Read the responses as the message says."""
    if kind == "hdf5":
        with h5py.File(path) as file:
            return file["responses"][()]
    if kind == "netcdf":
        with scipy.io.netcdf_file(path, mmap=False) as file:
            return file.variables["responses"][:].copy()
    return {"mat": lambda: scipy.io.loadmat(path)["responses"], "npy": lambda: np.load(path)}[kind]()


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("mat", r"a MATLAB file that scipy\.io\.loadmat reads"),
        ("hdf5", r"an HDF5 or netCDF file that h5py\.File reads \(rsatoolbox\.rdm\.load_rdm, if it is rsatoolbox's\)"),
        ("netcdf", r"a netCDF file that scipy\.io\.netcdf_file reads"),
        ("npy", r"a single array that numpy\.load reads"),
        ("pickle", r"a pickle \(rsatoolbox\.rdm\.load_rdm reads rsatoolbox's\)"),
    ],
)
def test_says_how_a_file_of_another_format_becomes_one(tmp_path: Path, kind: str, reader: str) -> None:
    responses = RNG.normal(size=(IMAGES, 2, 9))
    path = tmp_path / "recording.npz"  # its name does not decide
    _write_other(path, kind, {"responses": responses})
    with pytest.raises(ValueError, match=rf"recording\.npz, {reader}\. Write its arrays by numpy\.savez") as caught:
        read_responses(path)
    assert "allow_pickle" not in str(caught.value)
    if kind != "pickle":
        about = json.dumps({"source": "...", "centred": True, "synthetic": False})
        np.savez(tmp_path / "responses.npz", responses_V1=_read_other(path, kind), about=about)
        found = read_responses(tmp_path / "responses.npz").areas["V1"].responses
        np.testing.assert_array_equal(found, responses)


def test_refuses_objects_and_other_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", responses_a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"got .*f\.npz, which holds objects\. Write its arrays by") as caught:
        read_responses(tmp_path / "f.npz")
    assert "allow_pickle" not in str(caught.value)
    with ZipFile(tmp_path / "g.npz", "w") as file:
        file.writestr("sheet.xml", "text")
    with pytest.raises(ValueError, match=r"got .*g\.npz, an archive with sheet\.xml\. Write its arrays by"):
        read_responses(tmp_path / "g.npz")
