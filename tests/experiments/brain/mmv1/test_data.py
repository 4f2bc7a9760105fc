import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from timm_lp.experiments.brain.mmv1.data import (
    EYE_AND_HEAD,
    VARIABLES,
    Windows,
    behaviour_features,
    mouse_of,
    read_mouse,
)

BINS = 24


def arrays(seed: int = 0, bins: int = BINS, **changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {name: rng.normal(size=bins) for name in VARIABLES}
    made |= {"nsp": rng.poisson(2, (bins, 4)).astype(float), "vid_mean": rng.random((bins, 6, 8))}
    return {**made, **changes}


def write_mouse(folder: Path, segments: int = 2) -> Path:
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        for number in range(segments):
            for name, array in arrays(number + 10 * (split == "test")).items():
                np.save(folder / f"{split}_{name}_seg_{number}.npy", array)
    return folder


def test_features_are_variables_changes_and_products() -> None:
    variables = np.random.default_rng(0).normal(size=(5, 6))
    variables[2, 3] = np.nan
    features = behaviour_features(variables)
    assert features.shape == (5, 66)
    known = variables.copy()
    known[2, 3] = 0
    before = np.zeros(5)
    for now in range(5):
        linear = [*known[now], *(known[now, 1:] - before)]
        expected = linear + [one * other for one, other in combinations(linear, 2)]
        np.testing.assert_allclose(features[now], expected, rtol=1e-5, atol=1e-6)
        before = known[now, 1:]
    assert [VARIABLES[place] for place in EYE_AND_HEAD] == ["th", "phi", "pitch", "roll"]


def test_reads_the_published_layout_in_the_order_of_the_segments(tmp_path: Path) -> None:
    mouse = read_mouse(write_mouse(tmp_path / "m1", segments=11))
    assert (mouse.name, len(mouse.train), len(mouse.test), mouse.neurons, mouse.frame_size) == ("m1", 11, 11, 4, (6, 8))
    for number in (2, 10):
        expected = arrays(number)
        np.testing.assert_array_equal(mouse.train[number].spikes, expected["nsp"])
        video = expected["vid_mean"].astype(np.float32)
        torch.testing.assert_close(mouse.train[number].video, torch.from_numpy((video - video.min()) / np.ptp(video)))
    other = mouse_of("m1", [arrays(0)], [arrays(10, speed=np.zeros(BINS))])
    assert mouse_of("m1", [arrays(0)], [arrays(10)]).digest != other.digest
    assert mouse_of("m2", [arrays(0)], [arrays(10)]).digest == mouse_of("m1", [arrays(0)], [arrays(10)]).digest


def test_leaves_out_neurons_that_hardly_fire_in_training() -> None:
    quiet = arrays()["nsp"]
    quiet[:, 1] = 0
    mouse = mouse_of("m", [arrays(nsp=quiet)], [arrays(1)])
    np.testing.assert_array_equal(mouse.test[0].spikes, arrays(1)["nsp"][:, [0, 2, 3]])
    with pytest.raises(ValueError, match="m must have neurons that fire 3 Hz at least, got none"):
        mouse_of("m", [arrays(nsp=quiet * 0)], [arrays(1)])


def test_a_video_of_one_grey_stays_finite() -> None:
    mouse = mouse_of("m", [arrays(vid_mean=np.ones((BINS, 6, 8)))], [arrays(1)])
    assert torch.equal(mouse.train[0].video, torch.zeros(BINS, 6, 8))


def test_windows_are_followed_by_the_spikes_and_stay_in_their_segment() -> None:
    mouse = mouse_of("m", [arrays(0), arrays(1, bins=9), arrays(2, bins=3)], [arrays(3)])
    windows = Windows(mouse.train, 4)
    assert len(windows) == (BINS - 4) + (9 - 4) + 0
    video, behaviour, spikes = windows[BINS - 4]
    assert torch.equal(video, mouse.train[1].video[:4])
    assert torch.equal(behaviour, mouse.train[1].behaviour[:4])
    assert torch.equal(spikes, mouse.train[1].spikes[4])


def test_the_end_of_each_segment_validates() -> None:
    mouse = mouse_of("m", [arrays(0), arrays(1, bins=9)], [arrays(3)])
    training, validation = (Windows(mouse.train, 4, part).starts for part in ("training", "validation"))
    assert training == [*((0, start) for start in range(16)), *((1, start) for start in range(4))]
    assert sorted(training + validation) == Windows(mouse.train, 4).starts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": np.ones(3)}, "m must have as many bins and neurons in all arrays of a segment, got speed (3,)."),
        ({"nsp": np.ones((BINS, 2))}, "in all arrays of a segment, got nsp (24, 2)."),
        ({"vid_mean": np.ones((3, 6, 8))}, "in all arrays of a segment, got vid_mean (3, 6, 8)."),
        ({"vid_mean": np.ones((BINS, 6))}, "in all arrays of a segment, got vid_mean (24, 6)."),
        ({"nsp": np.full((BINS, 4), np.nan)}, "m must have spike counts that are finite and not below 0"),
        ({"vid_mean": np.full((BINS, 6, 8), np.nan)}, "m must have a finite video and no infinite behaviour, got"),
        (
            {"speed": np.full(BINS, np.inf)},
            "m must have a finite video and no infinite behaviour, got others in speed.",
        ),
        ({"nsp": np.full((BINS, 4), -1.0)}, "m must have spike counts that are finite and not below 0"),
    ],
)
def test_refuses_arrays_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        mouse_of("m", [arrays()], [arrays(1, **changes)])


def test_refuses_folders_without_all_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold folders with train_nsp_seg_0\.npy and so on, got none in"):
        read_mouse(tmp_path)
    folder = write_mouse(tmp_path / "m")
    for content in (b"", b"junk"):
        (folder / "test_phi_seg_1.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"`--data` must hold arrays without objects, got .*test_phi_seg_1\.npy: "):
            read_mouse(folder)
    (folder / "test_phi_seg_1.npy").unlink()
    with pytest.raises(ValueError, match=r"all arrays of a segment, got .*m without test_phi_seg_1\.npy\."):
        read_mouse(folder)
