"""Files in the layout of the Allen Brain Observatory, with what tests put into them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

SCENES = 10
TRIALS = 4
WINDOW = 3
_GAP = 5  # frames from one onset to the next

IMAGES = np.random.default_rng(9).integers(256, size=(SCENES, 12, 16)).astype(np.float32)


def record(
    folder: Path,
    number: int,
    *,
    area: str = "VISp",
    depth: Any = b"175 microns",
    genotype: str = "Cux2-CreERT2/wt;Camk2a-tTA/wt",
    mouse: str = "mouse-1",
    cells: int = 6,
    **changes: Any,
) -> np.ndarray:
    """Write a recording and its events; return what its cells answer, shape `(scenes, trials, cells)`.

    Args:
        folder: The NWB file goes to its `nwb`, the events to its `events`.
        number: The recording's.
        area: Where it was taken.
        depth: How deep.
        genotype: The mouse's.
        mouse: Its name.
        cells: Their number.
        **changes: Arrays instead of `shown`, `onsets`, `template` and `events`; None leaves them out. `scenes` is what
            the showings are called.
    """
    rng = np.random.default_rng(number)
    shown = np.concatenate([rng.permutation(np.append(np.arange(SCENES), -1)) for _ in range(TRIALS)])
    onsets = 4 + _GAP * np.arange(len(shown))
    answers = (rng.integers(1, 9, (SCENES, 1, cells)) + rng.integers(0, 3, (SCENES, TRIALS, cells))).astype(float)
    events = rng.random((cells, onsets[-1] + 10))
    seen = dict.fromkeys(range(SCENES), 0)
    for scene, onset in zip(shown, onsets, strict=True):
        if scene >= 0:
            events[:, onset : onset + WINDOW] = answers[scene, seen[scene]][:, None] / WINDOW
            seen[scene] += 1
    name_of_scenes = changes.pop("scenes", "natural_scenes_stimulus")
    arrays = {"shown": shown, "onsets": onsets, "template": IMAGES, "events": events, **changes}
    for name in ("nwb", "events"):
        (folder / name).mkdir(exist_ok=True)
    with h5py.File(folder / "nwb" / f"{number}.nwb", "w") as file:
        file["general/optophysiology/imaging_plane_1/location"] = area
        file["general/optophysiology/imaging_plane_1/imaging depth"] = depth
        file["general/subject/genotype"] = genotype
        file["general/specimen_name"] = mouse
        pipeline = "processing/brain_observatory_pipeline"
        file[f"{pipeline}/DfOverF/imaging_plane_1/data"] = np.zeros((cells, events.shape[1]), np.float32)
        file[f"{pipeline}/ImageSegmentation/cell_specimen_ids"] = np.arange(cells)
        if arrays["shown"] is not None:
            scenes = file.create_group(f"stimulus/presentation/{name_of_scenes}")
            scenes["data"] = arrays["shown"]
            scenes["frame_duration"] = np.stack([arrays["onsets"], arrays["onsets"] + 7], axis=1)
        if arrays["template"] is not None:
            file["stimulus/templates/natural_scenes_image_stack/data"] = arrays["template"]
    if arrays["events"] is not None:
        np.savez(folder / "events" / f"{number}_events.npz", ev=arrays["events"])
    return answers
