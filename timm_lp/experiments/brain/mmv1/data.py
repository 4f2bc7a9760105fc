"""What a mouse saw and did, and what its neurons answered, bin by bin of 48 ms."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ....files import UNREADABLE

VARIABLES = ("speed", "pitch", "roll", "phi", "th", "eyerad")
EYE_AND_HEAD = [VARIABLES.index(name) for name in ("th", "phi", "pitch", "roll")]
NUM_FEATURES = 66
BIN_S = 0.048

_MIN_RATE_HZ = 3.0
_VALIDATION = 0.2  # of the end of each training segment

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Segment:
    """Bins that follow each other.

    Attributes:
        video: Grey values from 0 to 1, shape `(T, H, W)`, float32.
        behaviour: Features, shape `(T, 66)`, float32.
        spikes: Counts, shape `(T, neurons)`, float32.
    """

    video: Tensor
    behaviour: Tensor
    spikes: Tensor

    def __len__(self) -> int:
        """Return the number of the bins."""
        return len(self.spikes)


@dataclass(frozen=True)
class Mouse:
    """The recording of one mouse.

    Attributes:
        name: Its name.
        train: Segments for training and validation.
        test: Segments for the test.
        digest: sha256 of all values.
    """

    name: str
    train: list[Segment]
    test: list[Segment]
    digest: str

    @property
    def neurons(self) -> int:
        """Number of the neurons."""
        return self.train[0].spikes.shape[1]

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the video, pixels."""
        height, width = self.train[0].video.shape[1:]
        return height, width


class Windows(Dataset):
    """Windows of segments, each with the spikes of the bin that follows it.

    Args:
        segments: The segments.
        frames: Length of a window, bins.
        part: Of each segment's windows: all, those for training, or those for validation, which are its last fifth.
    """

    def __init__(
        self, segments: Sequence[Segment], frames: int, part: Literal["all", "training", "validation"] = "all"
    ) -> None:
        self.segments, self.frames = segments, frames
        self.starts: list[tuple[int, int]] = []
        for number, segment in enumerate(segments):
            windows = max(0, len(segment) - frames)
            border = int(windows * (1 - _VALIDATION))
            chosen = {"all": (0, windows), "training": (0, border), "validation": (border, windows)}[part]
            self.starts += [(number, start) for start in range(*chosen)]

    def __len__(self) -> int:
        """Return the number of the windows."""
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return video `(frames, H, W)`, behaviour `(frames, 66)` and spikes `(neurons,)`."""
        number, start = self.starts[index]
        segment, stop = self.segments[number], start + self.frames
        return segment.video[start:stop], segment.behaviour[start:stop], segment.spikes[stop]


def mouse_of(name: str, train: Sequence[dict[str, NDArray[Any]]], test: Sequence[dict[str, NDArray[Any]]]) -> Mouse:
    """Return a mouse from the arrays of its segments.

    Neurons that fire less than 3 Hz in training are left out.

    Args:
        name: Its name.
        train: Of each training segment: `vid_mean` `(T, H, W)`, `nsp` `(T, neurons)`, and the variables `(T,)`.
        test: Of each test segment likewise.

    Raises:
        ValueError: If arrays do not fit together, or no neuron fires enough.
    """
    for arrays in (*train, *test):
        _check(name, arrays, neurons=train[0]["nsp"].shape[-1])
    counts = np.concatenate([arrays["nsp"] for arrays in train])
    firing = counts.mean(0) / BIN_S >= _MIN_RATE_HZ
    if not firing.any():
        raise ValueError(f"{name} must have neurons that fire 3 Hz at least, got none.")
    digest = hashlib.sha256()
    for arrays in (*train, *test):
        for key in sorted(arrays):
            digest.update(f"{key} {arrays[key].dtype} {arrays[key].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    training, testing = ([_segment(arrays, firing) for arrays in split] for split in (train, test))
    return Mouse(name, training, testing, digest.hexdigest())


def read_mouse(folder: Path) -> Mouse:
    """Return the mouse of a folder in the published layout: `{train,test}_{name}_seg_{number}.npy`.

    Raises:
        ValueError: If the folder lacks files, or they do not fit together.
    """
    return mouse_of(folder.name, _read_split(folder, "train"), _read_split(folder, "test"))


def check_files(folder: Path) -> None:
    """Refuse a folder that lacks files of the published layout; none is read.

    Raises:
        ValueError: If it does.
    """
    for split in get_args(Split):
        _files_of_segments(folder, split)


def behaviour_features(variables: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the six variables, the changes of all but the speed, and the products of each two of these eleven.

    Args:
        variables: In the order of `VARIABLES`, shape `(T, 6)`; NaN counts as 0.

    Returns:
        Shape `(T, 66)`.
    """
    finite = np.nan_to_num(variables.astype(np.float64))
    changes = np.diff(finite[:, 1:], axis=0, prepend=np.zeros((1, finite.shape[1] - 1)))
    linear = np.concatenate([finite, changes], axis=1)
    products = [linear[:, one] * linear[:, other] for one, other in combinations(range(linear.shape[1]), 2)]
    return np.concatenate([linear, np.stack(products, axis=1)], axis=1).astype(np.float32)


def _read_split(folder: Path, split: Split) -> list[dict[str, NDArray[Any]]]:
    return [{name: _read_array(path) for name, path in paths.items()} for paths in _files_of_segments(folder, split)]


def _files_of_segments(folder: Path, split: Split) -> list[dict[str, Path]]:
    ends = [path.stem.rpartition("_")[2] for path in folder.glob(f"{split}_nsp_seg_*.npy")]
    numbers = sorted(int(end) for end in ends if end.isdecimal())  # a browser's copy ends in " (1)"
    if not numbers:
        raise ValueError(f"`--data` must hold folders with {split}_nsp_seg_0.npy and so on, got none in {folder}.")
    segments = [
        {name: folder / f"{split}_{name}_seg_{number}.npy" for name in ("nsp", "vid_mean", *VARIABLES)}
        for number in numbers
    ]
    if missing := [path.name for paths in segments for path in paths.values() if not path.is_file()]:
        raise ValueError(f"`--data` must hold all arrays of a segment, got {folder} without {', '.join(missing)}.")
    return segments


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ValueError(f"`--data` must hold arrays without objects, got {path}: {error}. Unpack it again.") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"`--data` must hold arrays without objects, got {path}, an archive. Unpack it again.")
    return array


def _check(name: str, arrays: dict[str, NDArray[Any]], neurons: int) -> None:
    bins = len(arrays["nsp"])
    shapes = {key: array.shape for key, array in arrays.items()}
    expected = {
        "nsp": (bins, neurons),
        "vid_mean": (bins, *shapes["vid_mean"][1:]),
        **dict.fromkeys(VARIABLES, (bins,)),
    }
    wrong = [key for key in expected if shapes[key] != expected[key]]
    if wrong or len(shapes["vid_mean"]) != 3:
        listed = ", ".join(f"{key} {shapes[key]}" for key in wrong or ["vid_mean"])
        raise ValueError(f"{name} must have as many bins and neurons in all arrays of a segment, got {listed}.")
    if not np.isfinite(arrays["nsp"]).all() or arrays["nsp"].min() < 0:
        raise ValueError(f"{name} must have spike counts that are finite and not below 0, got others.")
    endless = [key for key in VARIABLES if np.isinf(arrays[key]).any()]  # NaN is taken for 0, as published
    if endless or not np.isfinite(arrays["vid_mean"]).all():
        raise ValueError(
            f"{name} must have a finite video and no infinite behaviour, got others in {(endless or ['vid_mean'])[0]}."
        )


def _segment(arrays: dict[str, NDArray[Any]], firing: NDArray[np.bool_]) -> Segment:
    video = arrays["vid_mean"].astype(np.float32)
    span = np.ptp(video)
    variables = np.stack([arrays[name] for name in VARIABLES], axis=1)
    return Segment(
        torch.from_numpy((video - video.min()) / (span if span > 0 else 1)),
        torch.from_numpy(behaviour_features(variables)),
        torch.from_numpy(arrays["nsp"][:, firing].astype(np.float32)),
    )
