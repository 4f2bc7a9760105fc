"""Make a responses file from a user's copy of the Allen Brain Observatory."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from .nwb import events_of, read_recording, read_scenes, read_trials
from .recordings import WINDOW, Recording, Selection
from .responses import Area, Responses, check_images, check_responses

_logger = logging.getLogger(__name__)

SOURCE = "Allen Brain Observatory, two-photon recordings of natural scenes"


@dataclass(frozen=True)
class Prepared:
    """The responses, and what they were taken from.

    Attributes:
        responses: What the file is to hold.
        recordings: What was taken.
        left_out: How many recordings were not, by reason.
    """

    responses: Responses
    recordings: list[Recording]
    left_out: dict[str, int]


def prepare(nwb: Path, events: Path, selection: Selection, *, window: int = WINDOW, image_side: int = 256) -> Prepared:
    """Return the responses of all recordings of a folder that are selected, their neurons pooled by area.

    A number of a scene means the same image in all recordings: their templates are compared.

    Args:
        nwb: Folder of NWB files.
        events: Folder of the events' files.
        selection: Which recordings to take.
        window: Frames from the onset of a scene over which events are summed.
        image_side: Longest side of the images that are kept, pixels.

    Raises:
        ValueError: If no recording is left, or one cannot be used.
        OSError: If a file cannot be read.
    """
    taken, left_out = _selected(nwb, selection)
    files = {recording.path: events_of(recording.path, events) for recording in taken}
    scenes = read_scenes(taken[0].path)
    check_images(scenes, "--nwb")
    answers: dict[str, list[NDArray[np.float32]]] = {}
    mice: dict[str, list[str]] = {}
    for recording in tqdm(taken, desc="recordings", unit="recording", disable=None):
        _check_order(recording.path, scenes, taken[0].path)
        answer = read_trials(recording.path, files[recording.path], len(scenes), window)
        answers.setdefault(recording.area, []).append(answer)
        mice.setdefault(recording.area, []).extend([recording.mouse] * answer.shape[2])
    _check_trials(answers)
    for name in [name for name in selection.areas if name not in answers]:
        _logger.warning("No recording of %s is among those that were selected; it is left out.", name)
    areas = {}
    for name in selection.areas:
        if name in answers:
            pooled = np.concatenate(answers[name], axis=2)
            check_responses(pooled, f"responses_{name}")
            areas[name] = Area(pooled, mice=np.array(mice[name]))
    responses = Responses(
        areas, SOURCE, centred=True, synthetic=False, images=_small(scenes, image_side), image_id=np.arange(len(scenes))
    )
    return Prepared(responses, taken, left_out)


def _selected(nwb: Path, selection: Selection) -> tuple[list[Recording], dict[str, int]]:
    recordings = [read_recording(path) for path in sorted(nwb.rglob("*.nwb"))]
    reasons = [selection.why_not(recording) for recording in recordings]
    left_out = dict(Counter(reason for reason in reasons if reason))
    taken = [recording for recording, reason in zip(recordings, reasons, strict=True) if reason is None]
    if not taken:
        listed = ", ".join(f"{count} with {reason}" for reason, count in left_out.items()) or "no file"
        raise ValueError(f"`--nwb` must hold recordings of the areas, depths and Cre lines, got {listed} in {nwb}.")
    return taken, left_out


def _check_order(path: Path, scenes: NDArray[np.uint8], first: Path) -> None:
    if not np.array_equal(read_scenes(path), scenes):
        raise ValueError(
            f"`--nwb` must hold recordings of the same scenes in the same order, got others in {path} than in {first}."
        )


def _check_trials(answers: dict[str, list[NDArray[np.float32]]]) -> None:
    for area, of_area in answers.items():
        trials = {answer.shape[1] for answer in of_area}
        if len(trials) > 1:
            raise ValueError(
                f"`--nwb` must hold recordings with as many showings of each scene, got {sorted(trials)} in {area}. "
                "Prepare them apart."
            )


def _small(scenes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images whose longest side is not longer than `side`, pixels."""
    height, width = scenes.shape[1:]
    scale = side / max(height, width)
    if scale >= 1:
        return scenes
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(scene).resize(size, Image.Resampling.LANCZOS)) for scene in scenes])
