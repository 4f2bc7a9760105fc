"""Read recordings of the Allen Brain Observatory: NWB files and the events beside them, with h5py alone."""

import logging
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...files import UNREADABLE
from .recordings import Recording

_PLANE = "general/optophysiology/imaging_plane_1"
_PIPELINE = "processing/brain_observatory_pipeline"
_SCENES = ("stimulus/presentation/natural_scenes_stimulus", "stimulus/presentation/natural_scenes")
_TEMPLATE = "stimulus/templates/natural_scenes_image_stack/data"
_FLUORESCENCE = f"{_PIPELINE}/DfOverF/imaging_plane_1/data"
_CELLS = f"{_PIPELINE}/ImageSegmentation/cell_specimen_ids"

_logger = logging.getLogger(__name__)


def read_recording(path: Path) -> Recording:
    """Return what a file says about its recording.

    Raises:
        ValueError: If it is no such file, or lacks an entry.
    """
    try:
        with h5py.File(path) as file:
            depth = re.match(r"\s*(\d+(\.\d+)?)", _text(file, f"{_PLANE}/imaging depth"))
            if depth is None:
                raise ValueError(f"imaging depth {_text(file, f'{_PLANE}/imaging depth')!r}")
            return Recording(
                path,
                _text(file, f"{_PLANE}/location"),
                float(depth[1]),
                re.split("[;/]", _text(file, "general/subject/genotype"))[0],
                _text(file, "general/specimen_name"),
                any(name in file for name in _SCENES),
            )
    except (OSError, KeyError, ValueError) as error:
        raise _not_as_expected(path, error) from error


def read_scenes(path: Path) -> NDArray[np.uint8]:
    """Return the natural scenes of a recording in the order of their numbers, shape `(n, H, W)`.

    Raises:
        ValueError: If the file has none: then nothing states which image a number means.
    """
    try:
        with h5py.File(path) as file:
            template = file[_TEMPLATE][()]
    except (OSError, KeyError) as error:
        raise _not_as_expected(path, error) from error
    grey = np.asarray(template)
    if grey.ndim != 3 or not np.array_equal(grey, np.clip(np.round(grey), 0, 255)):  # float32 in the published files
        raise ValueError(f"`--nwb` must hold scenes of whole grey values from 0 to 255, got {grey.shape} in {path}.")
    return grey.astype(np.uint8)


def read_trials(path: Path, events: Path, images: int, window: int) -> NDArray[np.float32]:
    """Return what the cells answered to each showing of each scene.

    Args:
        path: The NWB file.
        events: The file of its events: an `.npz` with `ev`, shape `(cells, frames)`, cells as in the NWB file.
        images: Number of the scenes, `n`.
        window: Frames from the onset of a scene over which events are summed.

    Returns:
        Shape `(n, trials, cells)`, without the cells whose events are not finite while a scene is shown.

    Raises:
        ValueError: If the files do not belong together, the scenes were not shown equally often, or no cell is left.
    """
    try:
        with h5py.File(path) as file:
            scenes = next((name for name in _SCENES if name in file), _SCENES[0])
            shown = np.asarray(file[f"{scenes}/data"]).ravel()
            onsets = np.asarray(file[f"{scenes}/frame_duration"])[:, 0]
            cells, frames = len(file[_CELLS]), file[_FLUORESCENCE].shape[1]
    except (OSError, KeyError, IndexError) as error:
        raise _not_as_expected(path, error) from error
    values = _read_events(events)
    if values.shape != (cells, frames):
        raise ValueError(
            f"`--events` must be (cells, frames) = {(cells, frames)} as {path}, got {values.shape} in {events}."
        )
    if len(shown) != len(onsets):
        raise ValueError(f"`--nwb` must have an onset for each showing, got {len(onsets)} for {len(shown)} in {path}.")
    counts = np.bincount(shown[shown >= 0].astype(int), minlength=images)  # -1 is a blank screen
    if len(counts) != images or counts.min() != counts.max() or counts.min() < 1:
        raise ValueError(
            f"`--nwb` must show each of {images} scenes equally often, got {counts.min()} to {counts.max()} showings "
            f"of {len(counts)} scenes in {path}. Leave the recording out."
        )
    if onsets.min() < 0 or onsets.max() + window > frames:
        raise ValueError(
            f"`--window` must end before the recording does, got {window} frames from frame {int(onsets.max())} of "
            f"{frames} in {path}. Take less."
        )
    order = np.argsort(shown, kind="stable")[np.count_nonzero(shown < 0) :]
    starts = onsets[order].astype(int)
    is_finite = np.isfinite(values)
    sums, gaps = (
        np.concatenate([np.zeros((cells, 1)), np.cumsum(summands, axis=1, dtype=np.float64)], axis=1)
        for summands in (np.where(is_finite, values, 0), ~is_finite)
    )
    whole = (gaps[:, starts + window] == gaps[:, starts]).all(axis=1)
    if not whole.any():
        raise ValueError(
            f"`--events` must be finite for some cell while scenes are shown, got NaN or infinity in all {cells} of "
            f"{events}. Leave it out."
        )
    if not whole.all():
        _logger.warning(
            "%s: %d of %d cells are left out, since their events are not finite while scenes are shown.",
            events.name,
            np.count_nonzero(~whole),
            cells,
        )
    answers = (sums[whole][:, starts + window] - sums[whole][:, starts]).T
    return answers.reshape(images, -1, int(whole.sum())).astype(np.float32)


def events_of(recording: Path, events: Path) -> Path:
    """Return the file of a recording's events: the one whose name has the same number.

    Raises:
        ValueError: If there is none, or there are several.
    """
    number = _number(recording)
    paths = [path for path in sorted(events.rglob("*.npz")) if _number(path) == number]
    if number is None or len(paths) != 1:
        raise ValueError(
            f"`--events` must hold one file whose name has the number of {recording.name}, such as "
            f"{number or 'NUMBER'}_events.npz, got {len(paths)} in {events}."
        )
    return paths[0]


def _read_events(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as stream:  # numpy leaves a broken file open
            events = np.load(stream, allow_pickle=False)["ev"]
    except (LookupError, *UNREADABLE) as error:
        raise ValueError(f"`--events` must be an .npz with an array `ev`, got {path}: {error}") from error
    if events.ndim != 2 or events.dtype.kind not in "fiu":
        raise ValueError(
            f"`--events` must be numbers of shape (cells, frames), got {events.dtype} {events.shape} in {path}."
        )
    return events


def _number(path: Path) -> str | None:
    digits = re.search(r"\d+", path.stem)
    return digits[0] if digits else None


def _text(file: h5py.File, name: str) -> str:
    value = np.asarray(file[name]).item()
    return value.decode() if isinstance(value, bytes) else str(value)


def _not_as_expected(path: Path, error: Exception) -> ValueError:
    return ValueError(f"`--nwb` must hold NWB files of the Allen Brain Observatory, got {path}: {error}")
