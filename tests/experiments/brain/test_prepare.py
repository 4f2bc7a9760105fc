import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from timm_lp.experiments.brain import cli
from timm_lp.experiments.brain.nwb import _read_events
from timm_lp.experiments.brain.prepare import Prepared, prepare
from timm_lp.experiments.brain.recordings import Selection
from timm_lp.experiments.brain.responses import read_responses

from .allen import IMAGES, SCENES, TRIALS, WINDOW, record


def _prepare(folder: Path, selection: Selection | None = None, **kwargs: Any) -> Prepared:
    options = {"window": WINDOW, **kwargs}
    return prepare(folder / "nwb", folder / "events", selection or Selection(), **options)


def test_sums_the_events_of_each_showing_and_pools_by_area(tmp_path: Path) -> None:
    one = record(tmp_path, 500, mouse="a")
    other = record(tmp_path, 501, mouse="b", cells=4, depth=b"275 microns", genotype="Emx1-IRES-Cre/wt;Camk2a-tTA/wt")
    record(tmp_path, 502, area="VISl", mouse="a")
    responses = _prepare(tmp_path).responses
    assert [*responses.areas] == ["VISp", "VISl"]
    np.testing.assert_allclose(responses.areas["VISp"].responses, np.concatenate([one, other], axis=2), rtol=1e-5)
    assert responses.areas["VISp"].mice.tolist() == ["a"] * 6 + ["b"] * 4
    assert responses.areas["VISl"].responses.shape == (SCENES, TRIALS, 6)
    np.testing.assert_array_equal(responses.images, IMAGES)
    assert responses.images.dtype == np.uint8
    assert responses.image_id.tolist() == list(range(SCENES))
    assert (responses.centred, responses.synthetic) == (True, False)


def test_takes_the_recordings_that_are_asked_for(tmp_path: Path) -> None:
    record(tmp_path, 500)
    record(tmp_path, 501, area="VISrl")
    record(tmp_path, 502, depth=b"350 microns")
    record(tmp_path, 503, genotype="Rorb-IRES2-Cre/wt;Camk2a-tTA/wt")
    record(tmp_path, 504, shown=None)
    prepared = _prepare(tmp_path)
    assert [recording.path.stem for recording in prepared.recordings] == ["500"]
    assert prepared.left_out == {
        "another area": 1,
        "another depth": 1,
        "another Cre line": 1,
        "no natural scenes": 1,
    }
    deep = _prepare(tmp_path, Selection(["VISp", "VISrl"], (300, 400), cre=()))
    assert [recording.path.stem for recording in deep.recordings] == ["502"]
    every_line = _prepare(tmp_path, Selection(cre=()))
    assert [recording.cre for recording in every_line.recordings] == ["Cux2-CreERT2", "Rorb-IRES2-Cre"]


def test_a_depth_may_be_a_number(tmp_path: Path) -> None:
    record(tmp_path, 500, depth=205.5)
    assert [recording.depth for recording in _prepare(tmp_path).recordings] == [205.5]


def test_scenes_may_be_called_as_either_name_that_the_allen_sdk_takes(tmp_path: Path) -> None:
    one = record(tmp_path, 500, scenes="natural_scenes")
    other = record(tmp_path, 501)
    prepared = _prepare(tmp_path)
    assert prepared.left_out == {}
    found = prepared.responses.areas["VISp"].responses
    np.testing.assert_allclose(found, np.concatenate([one, other], axis=2), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_cells_whose_events_are_not_finite_are_left_out(
    tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = record(tmp_path, 500)
    path = tmp_path / "events" / "500_events.npz"
    with np.load(path) as file:
        events = file["ev"]
    events[1] = value
    events[2, 4 + WINDOW - 1] = value  # in the window of the first showing
    events[3, 4 + WINDOW] = events[4, 0] = value  # outside of all windows
    np.savez(path, ev=events)
    found = _prepare(tmp_path).responses.areas["VISp"]
    np.testing.assert_allclose(found.responses, answers[:, :, [0, 3, 4, 5]], rtol=1e-5)
    assert len(found.mice) == 4
    assert "500_events.npz: 2 of 6 cells are left out, since their events are not finite" in caplog.text
    folders = ["--nwb", str(tmp_path / "nwb"), "--events", str(tmp_path / "events")]
    cli.main(["prepare", *folders, "--window", str(WINDOW), "--output-dir", str(tmp_path)])
    assert re.search(r"^\| VISp \| +1 \| +1 \| +4 \| +4 \|$", capsys.readouterr().out, re.MULTILINE)


def test_images_are_made_smaller(tmp_path: Path) -> None:
    record(tmp_path, 500)
    assert _prepare(tmp_path, image_side=8).responses.images.shape == (SCENES, 6, 8)


def _shown(**changes: int) -> np.ndarray:
    shown = np.tile(np.arange(SCENES), TRIALS)
    for place, scene in changes.items():
        shown[int(place.strip("_"))] = scene
    return shown


NAN = np.full((6, 229), np.nan)
ONSETS = 4 + 5 * np.arange(SCENES * TRIALS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": None}, "must hold NWB files of the Allen Brain Observatory, got "),
        ({"template": IMAGES + 0.5}, "must hold scenes of whole grey values from 0 to 255, got (10, 12, 16)"),
        ({"template": IMAGES[0]}, "must hold scenes of whole grey values from 0 to 255, got (12, 16)"),
        ({"template": IMAGES * 0}, "`--nwb` must vary within each image, got one grey everywhere at 0, 1"),
        ({"template": IMAGES[:9]}, "must show each of 9 scenes equally often, got 4 to 4 showings of 10 scenes"),
        ({"shown": _shown(_0=1), "onsets": ONSETS}, "must show each of 10 scenes equally often, got 3 to 5 showings"),
        (
            {"shown": _shown(_0=10), "onsets": ONSETS},
            "must show each of 10 scenes equally often, got 1 to 4 showings of 11",
        ),
        ({"shown": _shown()}, "must have an onset for each showing, got 44 for 40 in"),
        (
            {"onsets": 4 + 6 * np.arange(44)},
            "`--window` must end before the recording does, got 3 frames from frame 262",
        ),
        ({"events": None}, "must hold one file whose name has the number of 500.nwb, such as 500_events.npz, got 0 in"),
        (
            {"events": NAN},
            "`--events` must be finite for some cell while scenes are shown, got NaN or infinity in all 6",
        ),
        ({"events": np.ones(6)}, "`--events` must be numbers of shape (cells, frames), got float64 (6,) in"),
        ({"events": np.ones((5, 229))}, "`--events` must be (cells, frames) = (6, 229) as"),
        ({"events": np.zeros((6, 229))}, "`responses_VISp` must differ between the units for each image, got the same"),
        ({"depth": b"shallow"}, "got {folder}/nwb/500.nwb: imaging depth 'shallow'"),
        ({"area": "VISrl"}, "must hold recordings of the areas, depths and Cre lines, got 1 with another area in"),
    ],
)
def test_refuses_a_recording_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    record(tmp_path, 500, **changes)
    with pytest.raises(ValueError, match=re.escape(message.replace("{folder}", str(tmp_path)))):
        _prepare(tmp_path)


def test_refuses_recordings_that_do_not_fit_together(tmp_path: Path) -> None:
    record(tmp_path, 500)
    record(tmp_path, 501, template=IMAGES[::-1])
    with pytest.raises(ValueError, match=r"the same scenes in the same order, got others in .*501\.nwb than in .*500"):
        _prepare(tmp_path)
    shown = np.tile(np.arange(SCENES), TRIALS - 1)
    record(tmp_path, 501, shown=shown, onsets=ONSETS[: len(shown)])
    with pytest.raises(ValueError, match=r"as many showings of each scene, got \[3, 4\] in VISp\. Prepare them apart"):
        _prepare(tmp_path)


def test_refuses_other_files(tmp_path: Path) -> None:
    for name in ("nwb", "events"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="must hold recordings of the areas, depths and Cre lines, got no file in"):
        _prepare(tmp_path)
    (tmp_path / "nwb" / "500.nwb").write_text("text")
    with pytest.raises(ValueError, match=r"must hold NWB files of the Allen Brain Observatory, got .*500\.nwb: "):
        _prepare(tmp_path)
    record(tmp_path, 500)
    path = tmp_path / "events" / "500_events.npz"
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 41):  # wherever a byte is damaged
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(ValueError):
            _read_events(path)
    (tmp_path / "events" / "500_events.npz").write_text("text")
    with pytest.raises(ValueError, match=r"`--events` must be an \.npz with an array `ev`, got .*500_events\.npz"):
        _prepare(tmp_path)


def test_what_it_writes_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, 500, mouse="a", cells=30)
    record(tmp_path, 501, mouse="b", cells=30)
    folders = ["--nwb", str(tmp_path / "nwb"), "--events", str(tmp_path / "events")]
    cli.main(["prepare", *folders, "--window", str(WINDOW), "--output-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert re.search(r"^\| VISp \| +2 \| +2 \| +60 \| +4 \|$", printed, re.MULTILINE)
    assert "10 images. Recordings left out: none." in printed
    responses = read_responses(tmp_path / "responses.npz")
    assert responses.source == "Allen Brain Observatory, two-photon recordings of natural scenes"
    few = ["--resamples", "4", "--splits", "1", "--permutations", "2", "--image-size", "32"]
    file = ["--responses", str(tmp_path / "responses.npz"), "--untrained", "test_resnet"]
    cli.main(["rsa", *file, *few, "--output-dir", str(tmp_path)])
    assert "across mice" in capsys.readouterr().out


def test_says_that_h5py_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    message = r"^timm-lp brain prepare: h5py must be installed\. `pip install"
    with pytest.raises(SystemExit, match=message):
        cli.main(["prepare", "--nwb", str(tmp_path), "--events", str(tmp_path)])
