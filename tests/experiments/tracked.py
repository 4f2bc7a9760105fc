"""What a tracker was given."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

Curves = dict[str, list[tuple[int, float]]]  # steps and values, by name


def logged(folder: Path) -> dict[str, Curves]:
    """Return what TensorBoard got, by run; 0 for a picture."""
    runs: dict[str, Curves] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        curves = runs.setdefault(path.parent.relative_to(folder).as_posix(), {})
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, *(value.tensor.float_val or [0.0])))
    return runs
